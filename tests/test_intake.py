"""An answer goes out after what it answers is on the disk, and a segment says what lies before."""

from random import Random

import pytest

from server.ledger import wal
from server.ledger.intake import Intake
from server.ledger.receiver import Batch, Receiver
from server.ledger.wal import Opened, Ticked, decode, encode
from tests.frames import STREAM, frames
from tests.sim.disk import SimFolder


@pytest.fixture
def folder():
    return SimFolder(Random(1))


def start(folder: SimFolder, segment_bytes_max: int = 1 << 20) -> tuple[Intake, Receiver, wal.Wal]:
    recovered = wal.recover(folder, segment_bytes_max)
    receiver = Receiver(recovered.opened)
    for record in recovered.records:
        receiver.restore(decode(record.body))
    return Intake(recovered.wal, receiver, "log", 5), receiver, recovered.wal


def bodies(folder: SimFolder) -> list[wal.Body]:
    return [decode(record.body) for record in wal.read(folder, 0, wal.durable_mark(folder))]


def test_a_new_log_begins_with_a_certain_segment(folder):
    start(folder)
    folder.lose_power()
    assert bodies(folder) == [Opened("log", 5, {}, [])]
    start(folder)
    assert len(bodies(folder)) == 1


def test_a_group_is_written_in_order_and_synced_once(folder, monkeypatch):
    intake, _, log = start(folder)
    synced = []
    monkeypatch.setattr(log, "sync", lambda sync=log.sync: synced.append(sync()))
    answers = []
    for number in range(3):
        body = encode(Ticked(number))
        intake.put(body, lambda number=number: answers.append(number))
    intake.put(None, lambda: answers.append("asked"))
    assert not intake.is_empty
    assert intake.waiting_bytes == 3 * len(encode(Ticked(0)))
    group = intake.swap(6)
    assert intake.is_empty
    assert intake.waiting_bytes == 0
    intake.write(group)
    assert answers == []
    assert len(synced) == 1
    assert bodies(folder)[1:] == [Ticked(0), Ticked(1), Ticked(2)]
    for answer in group.answers:
        answer()
    assert answers == [0, 1, 2, "asked"]


def test_a_group_of_questions_writes_nothing(folder):
    intake, _, log = start(folder)
    intake.put(None, lambda: None)
    end = log.end
    intake.write(intake.swap(6))
    assert log.end == end


def test_what_comes_while_a_group_is_written_is_the_next_ones(folder):
    intake, _, _ = start(folder)
    intake.put(encode(Ticked(1)), lambda: None)
    group = intake.swap(6)
    intake.put(encode(Ticked(2)), lambda: None)
    intake.write(group)
    assert bodies(folder)[1:] == [Ticked(1)]
    intake.write(intake.swap(7))
    assert bodies(folder)[1:] == [Ticked(1), Ticked(2)]


def test_a_segment_says_what_lies_before_it_and_no_more(folder):
    intake, receiver, _ = start(folder, segment_bytes_max=1)

    def put(number: int) -> None:
        _, body = receiver.take(Batch(STREAM, number - 1, number, frames(number)), number)
        intake.put(body, lambda: None)

    put(1)
    group = intake.swap(6)
    put(2)
    intake.write(group)
    assert bodies(folder)[-1] == Opened("log", 6, {STREAM: (1, 1)}, [])
    intake.write(intake.swap(7))
    assert bodies(folder)[-1] == Opened("log", 7, {STREAM: (2, 2)}, [])


@pytest.mark.parametrize("seed", range(20))
def test_a_fault_anywhere_in_a_group_loses_nothing_that_a_segment_calls_taken(folder, seed):
    intake, receiver, _ = start(folder, segment_bytes_max=1)
    _, body = receiver.take(Batch(STREAM, 0, 1, frames(1)), 1)
    intake.put(body, lambda: None)
    folder.random = Random(seed)
    folder.fault_share = 0.4
    try:
        intake.write(intake.swap(6))
    except OSError:
        folder.fault_share = 0.0
        folder.lose_power()
    folder.fault_share = 0.0
    _, receiver, _ = start(folder)
    taken = [each for each in bodies(folder) if isinstance(each, wal.Shipped)]
    assert receiver.watermark(STREAM).last == len(taken)
