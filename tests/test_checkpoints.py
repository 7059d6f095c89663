"""A checkpoint is whole or is not there, and what one needs is kept as long as it is."""

from collections import Counter as Sums
from random import Random

import pytest

from server.errors import LedgerError
from server.ledger import checkpoints
from server.ledger.checkpoints import KEPT, Checkpoint
from server.ledger.counter import Counter
from server.ledger.folder import DiskFolder
from server.ledger.wal import Received
from server.store import buckets
from server.store.buckets import EVER, HOUR, WINDOW, Totals, hour
from tests.frames import framed
from tests.shards import HOUR_S, NOON_S, beacon
from tests.sim.disk import SimFolder

NOON = NOON_S // HOUR_S


@pytest.fixture
def folder(tmp_path):
    return DiskFolder(tmp_path / "state")


def counted(counter: Counter, count: int = 1, at_s: int = NOON_S) -> Totals:
    beacons = [beacon(at_s=at_s) for _ in range(count)]
    counter.take(Received((at_s + 2) * 1000, "", framed(*beacons)))
    return counter.drain()


def written(
    folder: DiskFolder, lsn: int, base: Checkpoint | None, counter: Counter, since: Totals
) -> Checkpoint:
    counter.begin_saving()
    checkpoint = checkpoints.write(folder, "log", lsn, base, counter, since)
    counter.end_saving(True)
    return checkpoint


def impressions(folder: DiskFolder, checkpoint: Checkpoint) -> dict[int, int]:
    return {
        bucket.number: fields[b"40.50.10.impressions"]
        for bucket, fields in checkpoints.totals(folder, checkpoint)
        if bucket.kind == HOUR
    }


def test_totals_add_up_over_checkpoints(folder):
    counter = Counter()
    first = written(folder, 10, None, counter, counted(counter, 2))
    second = written(folder, 20, first, counter, counted(counter, 3))
    assert impressions(folder, first) == {NOON: 2}
    assert impressions(folder, second) == {NOON: 5}


def test_an_hour_that_has_not_changed_keeps_its_files(folder):
    counter = Counter()
    first = written(folder, 10, None, counter, counted(counter))
    second = written(folder, 20, first, counter, counted(counter, at_s=NOON_S + HOUR_S))
    assert second.ids[NOON] == first.ids[NOON]
    assert second.totals[hour(NOON)] == first.totals[hour(NOON)]
    assert set(second.ids) == {NOON, NOON + 1}


def test_windows_and_quarters_are_dropped_when_nobody_asks_any_more_and_ever_is_not(folder):
    counter, base, since = Counter(), None, {}
    for number in range(60):
        buckets.add(since, counted(counter, at_s=NOON_S + number * HOUR_S))
        if number % 7 == 6 or number == 59:
            base = written(folder, number, base, counter, since)
            since = {}
    kinds = Sums(bucket.kind for bucket in base.totals)
    assert kinds == {"hour": 60, "quarter": 51, "window": 3, "ever": 1}
    ever = dict(checkpoints.totals(folder, base))[EVER]
    assert ever == {b"40.impressions": 60, b"40.revenue_nanos": 60 * 8_000_000}
    assert min(bucket.start_s for bucket in base.totals if bucket.kind == WINDOW) > (
        NOON_S + 56 * HOUR_S
    )


def test_the_newest_not_beyond_a_place(folder):
    assert checkpoints.newest(folder, "log") is None
    base = None
    for lsn in (0, 10, 20):
        base = written(folder, lsn, base, counter := Counter(), counted(counter))
    found = [checkpoints.newest(folder, "log", until) for until in (0, 9, 10, 19, 20, 99)]
    assert [checkpoint and checkpoint.lsn for checkpoint in found] == [0, 0, 10, 10, 20, 20]
    assert checkpoints.newest(folder, "log") == base
    assert checkpoints.newest(folder, "another") is None


@pytest.mark.parametrize("place", [0, 20, -1])
def test_a_broken_one_is_passed_over(folder, place):
    counter = Counter()
    first = written(folder, 10, None, counter, counted(counter))
    written(folder, 20, first, counter, counted(counter))
    name = f"{20:016x}.checkpoint"
    content = bytearray(folder.read(name))
    content[place] ^= 1
    folder.replace(name, bytes(content))
    assert checkpoints.newest(folder, "log") == first
    folder.replace(name, b"")
    assert [*checkpoints.kept(folder, "log")] == [first]


@pytest.mark.parametrize("kind", ["ids", "totals"])
@pytest.mark.parametrize("fault", ["missing", "broken", "empty"])
def test_a_broken_file_that_one_names_is_told(folder, kind, fault):
    checkpoint = written(folder, 10, None, counter := Counter(), counted(counter))
    name = checkpoint.ids[NOON] if kind == "ids" else checkpoint.totals[hour(NOON)]
    if fault == "missing":
        folder.remove(name)
    else:
        content = folder.read(name)
        folder.replace(name, content[:-5] + b"\x55" + content[-4:] if fault == "broken" else b"")
    read = checkpoints.ids if kind == "ids" else checkpoints.totals
    with pytest.raises(LedgerError, match=name):
        dict(read(folder, checkpoint))


def test_old_ones_go_with_what_only_they_need(folder):
    counter, base = Counter(), None
    for number in range(KEPT + 2):
        base = written(folder, number, base, counter, counted(counter))
    kept = [*checkpoints.kept(folder, "log")]
    assert [checkpoint.lsn for checkpoint in kept] == [2, 3, 4]
    for checkpoint in kept:
        assert impressions(folder, checkpoint) == {NOON: checkpoint.lsn + 1}
        checkpoints.restore(folder, checkpoint)
    # The state, ids of an hour, and its totals beside those of a quarter, a window and all time.
    assert len(folder.names()) == 6 * KEPT


def test_the_one_just_written_is_kept_behind_newer_ones(folder):
    """Redis was taken back far; the first to say so was the simulator's seed 2000903."""
    counter, base = Counter(), None
    for lsn in (10, 20, 30):
        base = written(folder, lsn, base, counter, counted(counter))
    counter = Counter()
    base = written(folder, 4, None, counter, counted(counter))
    base = written(folder, 5, base, counter, counted(counter))
    assert impressions(folder, base) == {NOON: 2}
    assert [each.lsn for each in checkpoints.kept(folder, "log")] == [5, 10, 20, 30]


def test_a_counter_goes_on_where_it_was(folder):
    counter = Counter()
    checkpoint = written(folder, 10, None, counter, counted(counter))
    restored = checkpoints.restore(folder, checkpoint)
    assert restored.state()[0] == counter.state()[0]
    again = beacon()
    for each in (counter, restored):
        each.take(Received(NOON_S * 1000, "", framed(again, again)))
    assert restored.drain() == counter.drain()


@pytest.mark.parametrize("seed", range(10))
def test_no_checkpoint_comes_back_from_a_crash_without_what_it_needs(seed):
    folder = SimFolder(Random(seed))
    counter, base = Counter(), None
    for lsn in range(KEPT + 2):
        base = written(folder, lsn, base, counter, counted(counter))
    folder.lose_power()
    for checkpoint in checkpoints.kept(folder, "log"):
        assert impressions(folder, checkpoint) == {NOON: checkpoint.lsn + 1}
        checkpoints.restore(folder, checkpoint)
