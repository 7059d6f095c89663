"""Checkpoints: counting goes on from one as if it had never stopped, and a broken one is passed."""

from random import Random

import msgspec
import pytest

from server.errors import LedgerError
from server.events.frames import Frame, pack
from server.events.records import RECORD_BEACON, Kind
from server.ledger import checkpoints
from server.ledger.counter import Counter
from server.ledger.wal import Received
from tests.shards import HOUR_S, NOON_S, beacon
from tests.sim.disk import SimFolder


class Counted:
    """A counter whose checkpoints lie in a folder."""

    def __init__(self):
        self.folder = SimFolder(Random(0))
        self.counter = Counter()
        self.base = None
        self.totals = {}

    def take(self, *beacons, at_s=NOON_S):
        frames = b"".join(
            pack(Frame(1, number, RECORD_BEACON, msgspec.msgpack.encode(each)))
            for number, each in enumerate(beacons, 1)
        )
        self.counter.take(Received(at_s * 1000, "", frames))

    def save(self, lsn, wal_id="log"):
        since = self.counter.drain()
        for hour, fields in since.items():
            checkpoints.add(self.totals.setdefault(hour, {}), fields)
        self.counter.begin_saving()
        self.base = checkpoints.write(self.folder, wal_id, lsn, self.base, self.counter, since)
        self.counter.end_saving(True)
        return self.base

    def found(self):
        return dict(checkpoints.totals(self.folder, self.base))


def test_totals_add_up_over_checkpoints():
    counted = Counted()
    for lsn in (10, 20, 30):
        counted.take(beacon(), beacon(), at_s=NOON_S + lsn)
        counted.save(lsn)
    hour = NOON_S // HOUR_S
    assert counted.found() == counted.totals
    assert counted.found()[hour][b"40.50.10.impressions"] == 6


def test_an_hour_that_did_not_change_keeps_its_files():
    counted = Counted()
    counted.take(beacon())
    first = counted.save(10)
    counted.take(beacon(at_s=NOON_S + HOUR_S), at_s=NOON_S + HOUR_S + 5)
    second = counted.save(20)
    hour = NOON_S // HOUR_S
    assert second.ids[hour] == first.ids[hour]
    assert second.totals[hour] == first.totals[hour]
    assert {hour, hour + 1} == set(second.ids) == set(second.totals)


def test_a_restored_counter_goes_on_with_what_is_seen_and_what_waits():
    counted = Counted()
    served, clicked = beacon(), beacon(Kind.CLICK)
    counted.take(served, clicked)
    counted.save(10)
    counted.counter = checkpoints.restore(counted.folder, counted.base)
    assert counted.counter.waiting == 1
    counted.take(served, msgspec.structs.replace(clicked, kind=1))
    (fields,) = counted.counter.drain().values()
    assert fields[b"40.50.10.invalid.impression.duplicate"] == 1
    assert fields[b"40.50.10.impressions"] == fields[b"40.50.10.clicks"] == 1


def test_what_was_not_kept_is_in_the_next_one():
    counted = Counted()
    served = beacon()
    counted.take(served)
    counted.counter.begin_saving()
    assert NOON_S // HOUR_S in counted.counter.state()[1]
    counted.counter.end_saving(False)
    counted.save(20)
    counted.counter = checkpoints.restore(counted.folder, counted.base)
    counted.take(served)
    (fields,) = counted.counter.drain().values()
    assert fields == {b"40.50.10.invalid.impression.duplicate": 1}


def test_only_some_are_kept_with_what_they_need():
    counted = Counted()
    for lsn in range(1, 7):
        counted.take(beacon())
        counted.save(lsn)
    kept = list(checkpoints.kept(counted.folder, "log"))
    assert [checkpoint.lsn for checkpoint in kept] == [4, 5, 6]
    assert len(counted.folder.names()) == 3 * checkpoints.KEPT
    for checkpoint in kept:
        assert len(list(checkpoints.totals(counted.folder, checkpoint))) == 1
        checkpoints.restore(counted.folder, checkpoint)


def test_the_newest_is_not_beyond_what_is_asked_and_of_this_log():
    counted = Counted()
    for lsn in (10, 20):
        counted.take(beacon())
        counted.save(lsn)
    folder = counted.folder
    assert [checkpoints.newest(folder, "log", until).lsn for until in (10, 19, 20, None)] == [
        10, 10, 20, 20,
    ]  # fmt: skip
    assert checkpoints.newest(folder, "log", 9) is None
    assert checkpoints.newest(folder, "another log") is None


def test_a_flip_of_any_bit_of_a_checkpoint_lets_the_one_before_it_do():
    counted = Counted()
    for lsn in (10, 20):
        counted.take(beacon())
        counted.save(lsn)
    content = counted.folder.files[f"{20:016x}.checkpoint"]
    for bit in range(8 * len(content)):
        content[bit // 8] ^= 1 << bit % 8
        assert checkpoints.newest(counted.folder, "log").lsn == 10
        content[bit // 8] ^= 1 << bit % 8
    assert checkpoints.newest(counted.folder, "log").lsn == 20


@pytest.mark.parametrize("kept", [0, 3, 4, -1])
def test_a_cut_checkpoint_is_none(kept):
    counted = Counted()
    counted.take(beacon())
    counted.save(10)
    name = f"{10:016x}.checkpoint"
    counted.folder.files[name] = counted.folder.files[name][:kept]
    assert checkpoints.newest(counted.folder, "log") is None


@pytest.mark.parametrize("part", ["ids", "totals"])
@pytest.mark.parametrize("harm", ["flipped", "missing"])
def test_a_broken_part_is_named(part, harm):
    counted = Counted()
    counted.take(beacon())
    checkpoint = counted.save(10)
    (name,) = getattr(checkpoint, part).values()
    if harm == "missing":
        counted.folder.remove(name)
    else:
        counted.folder.flip(name, 7)
    with pytest.raises(LedgerError, match=name):
        list(getattr(checkpoints, part)(counted.folder, checkpoint))


def test_totals_are_kept_as_long_as_redis_keeps_them():
    counted = Counted()
    counted.take(beacon())
    counted.save(10)
    later_s = NOON_S + checkpoints.HOURS_KEPT * HOUR_S
    counted.take(beacon(at_s=later_s), at_s=later_s)
    counted.save(20)
    assert set(counted.base.totals) == {NOON_S // HOUR_S, later_s // HOUR_S}
    later_s += HOUR_S
    counted.take(beacon(at_s=later_s), at_s=later_s)
    counted.save(30)
    assert set(counted.base.totals) == {later_s // HOUR_S - 1, later_s // HOUR_S}


def test_after_a_rewind_the_next_one_is_built_on_one_before_the_newest():
    ahead = Counted()
    for lsn in (30, 40, 50):
        ahead.take(beacon())
        ahead.save(lsn)
    counted = Counted()
    counted.folder = ahead.folder
    for lsn in (10, 20):
        counted.take(beacon())
        counted.save(lsn)
    assert counted.found() == counted.totals
