"""What was certain is read back as it was written, or is told to be lost; the rest is cut away."""

from random import Random

import pytest

from server.errors import LedgerError
from server.ledger import wal
from server.ledger.folder import DiskFolder
from server.ledger.wal import Opened, Ticked, encode
from tests.sim.disk import SimFolder

OPENED = Opened("log", 1, {}, [])
RECORD = len(encode(Ticked(1))) + 24


@pytest.fixture(params=["disk", "simulated"])
def folder(request, tmp_path):
    return DiskFolder(tmp_path) if request.param == "disk" else SimFolder(Random(1))


def filled(folder, *counts: int) -> wal.Wal:
    """A log with a segment for each count of records, one a group."""
    log = wal.recover(folder).wal
    for count in counts:
        log.open_segment(OPENED)
        for number in range(count):
            log.append([encode(Ticked(number % 100))])
        log.sync()
    return log


def change(folder, name: str, offset: int) -> None:
    content = bytearray(folder.read(name))
    content[offset] ^= 1
    folder.replace(name, bytes(content))


def last(folder) -> str:
    return wal.segment_name(wal.segments(folder)[-1])


def test_a_new_log_is_empty_and_wants_a_segment(folder):
    log, opened, records, cut = wal.recover(folder)
    assert (log.is_new, log.wants_segment, log.end, log.durable) == (True, True, 0, 0)
    assert (opened, records, cut, wal.segments(folder)) == (None, [], 0, [])
    assert wal.durable_mark(folder) == 0
    with pytest.raises(LedgerError):
        wal.log_id(folder)


def test_what_is_written_is_read_over_segments(folder):
    log = filled(folder, 3, 0, 2)
    assert wal.durable_mark(folder) == log.durable == log.end
    assert len(wal.segments(folder)) == 3
    records = [*wal.read(folder, 0, log.end)]
    bodies = [wal.decode(record.body) for record in records]
    assert bodies == [
        OPENED, Ticked(0), Ticked(1), Ticked(2), OPENED, OPENED, Ticked(0), Ticked(1)
    ]  # fmt: skip
    assert [record.end for record in records[:-1]] == [record.lsn for record in records[1:]]
    for at, record in enumerate(records):
        assert [*wal.read(folder, record.lsn, log.end)] == records[at:]
        assert [*wal.read(folder, 0, record.lsn)] == records[:at]
    assert wal.log_id(folder) == "log"


def test_a_log_goes_on_where_it_ended(folder):
    end = filled(folder, 1, 2).end
    log, opened, records, cut = wal.recover(folder)
    assert opened == OPENED
    assert [wal.decode(record.body) for record in records] == [Ticked(0), Ticked(1)]
    assert (log.end, log.durable, cut) == (end, end, 0)
    log.append([encode(Ticked(7))])
    log.sync()
    assert wal.decode(next(wal.read(folder, end, log.end)).body) == Ticked(7)


@pytest.mark.parametrize("torn", [1, 23, 24, RECORD - 1, RECORD])
def test_a_torn_end_is_cut(folder, torn):
    log = filled(folder, 1)
    end = log.end
    log.append([encode(Ticked(5))])
    folder.truncate(last(folder), end + torn)
    recovered = wal.recover(folder)
    whole = torn == RECORD
    assert recovered.cut_bytes == (0 if whole else torn)
    assert recovered.wal.end == (end + RECORD if whole else end) == folder.size(last(folder))
    assert wal.durable_mark(folder) == recovered.wal.end


def test_a_segment_without_its_first_record_is_removed(folder):
    log = filled(folder, 1)
    folder.append(wal.segment_name(log.end), b"torn")
    recovered = wal.recover(folder)
    assert recovered.cut_bytes == 4
    assert wal.segments(folder) == [0]
    assert recovered.wal.end == log.end


@pytest.mark.parametrize("place", range(RECORD))
def test_no_byte_of_the_last_certain_record_may_change(folder, place):
    filled(folder, 2)
    change(folder, last(folder), folder.size(last(folder)) - RECORD + place)
    with pytest.raises(LedgerError, match="disk lost or changed"):
        wal.recover(folder)


def test_a_change_before_a_record_that_calls_it_certain_is_told_without_a_mark(folder):
    log = filled(folder, 2)
    log.append([encode(Ticked(9))])
    folder.remove("durable")
    change(folder, last(folder), log.durable - 1)
    with pytest.raises(LedgerError):
        wal.recover(folder)


@pytest.mark.parametrize("segment", [0, 1])
def test_a_lost_segment_is_told(folder, segment):
    log = filled(folder, 2, 2, 2)
    folder.remove(wal.segment_name(wal.segments(folder)[segment]))
    with pytest.raises(LedgerError, match="broken or lost at LSN"):
        [*wal.read(folder, 0, log.end)]


def test_all_segments_lost_is_told(folder):
    filled(folder, 2)
    folder.remove(last(folder))
    with pytest.raises(LedgerError):
        wal.recover(folder)


@pytest.mark.parametrize("mark", [b"", b"short", bytes(12), b"\xff" * 12, bytes(13)])
def test_a_broken_mark_is_none(folder, mark):
    filled(folder, 1)
    folder.replace("durable", mark)
    assert wal.durable_mark(folder) == 0


def test_the_marks_name_is_as_certain_as_the_segments():
    folder = SimFolder(Random(1))
    filled(folder, 1)
    assert "durable" in folder.certain_names
    folder.remove("durable")
    folder.sync_names()
    wal.recover(folder)
    assert "durable" in folder.certain_names


def test_a_full_segment_asks_for_the_next():
    folder = SimFolder(Random(1))
    log = wal.recover(folder, segment_bytes_max=200).wal
    log.open_segment(OPENED)
    while not log.wants_segment:
        log.append([encode(Ticked(1))])
    assert 200 <= log.end < 200 + RECORD


def test_a_sync_that_fails_makes_nothing_certain():
    folder = SimFolder(Random(1))
    log = filled(folder, 1)
    before = log.durable
    log.append([encode(Ticked(1))])
    folder.fault_share = 1.0
    with pytest.raises(OSError, match="planted"):
        log.sync()
    assert log.durable == wal.durable_mark(folder) == before


def test_records_larger_than_a_read_come_whole(folder, monkeypatch):
    monkeypatch.setattr(wal, "READ_BYTES", 16)
    log = filled(folder, 3)
    assert len([*wal.read(folder, 0, log.end)]) == 4


def test_a_log_that_does_not_begin_as_a_segment_is_refused(folder):
    folder.append(wal.segment_name(0), wal._record(0, 0, encode(Ticked(1))))
    with pytest.raises(LedgerError, match="begin"):
        wal.recover(folder)
    with pytest.raises(LedgerError, match="begin"):
        wal.log_id(folder)
