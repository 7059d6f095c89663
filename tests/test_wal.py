"""The write-ahead log: what is read is what was written, whatever was torn off or changed."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import LedgerError
from server.ledger import wal
from server.ledger.folder import DiskFolder
from server.ledger.wal import Opened, Shipped, Ticked
from tests.sim.disk import SimFolder

OPENED = Opened("log", 1, {}, [])
TICK = wal.encode(Ticked(7))


def folder():
    return SimFolder(Random(0))


def write(disk, groups, segment_bytes_max=200):
    """Write groups of bodies, each synced, over as many segments as it takes."""
    log = wal.recover(disk, segment_bytes_max).wal
    for bodies in groups:
        if log.wants_segment:
            log.open_segment(OPENED)
        log.append(bodies)
        log.sync()
    return log


def bodies(disk, start=0):
    found = [wal.decode(r.body) for r in wal.read(disk, start, wal.durable_mark(disk))]
    return [body for body in found if not isinstance(body, Opened)]


def last_segment(disk):
    return wal.segment_name(wal.segments(disk)[-1])


@given(st.lists(st.lists(st.integers(0, 2**40), min_size=1, max_size=4), min_size=1, max_size=12))
def test_what_was_written_is_read_over_any_segments(groups):
    disk = folder()
    log = write(disk, [[wal.encode(Ticked(n)) for n in group] for group in groups])
    assert bodies(disk) == [Ticked(n) for group in groups for n in group]
    assert wal.durable_mark(disk) == log.durable == log.end
    assert wal.log_id(disk) == "log"


def test_reading_begins_at_any_record_and_nowhere_else():
    disk = folder()
    log = write(disk, [[wal.encode(Ticked(n))] for n in range(20)])
    assert len(wal.segments(disk)) > 2
    records = list(wal.read(disk, 0, log.end))
    for number, record in enumerate(records):
        assert list(wal.read(disk, record.lsn, log.end)) == records[number:]
        assert list(wal.read(disk, 0, record.end)) == records[: number + 1]
    with pytest.raises(LedgerError, match="broken or lost at LSN 1;"):
        list(wal.read(disk, 1, log.end))


@pytest.mark.parametrize("kept", range(50))
def test_a_torn_end_is_cut_at_every_byte_and_written_over(kept):
    disk = folder()
    log = write(disk, [[TICK]], 10_000)
    certain = log.end
    log.append([wal.encode(Ticked(8))])  # never synced, never acked
    torn = min(kept, log.end - certain)
    disk.truncate(last_segment(disk), certain + torn)
    recovered = wal.recover(disk, 10_000)
    whole = certain + torn == log.end
    assert recovered.cut_bytes == (0 if whole else torn)
    assert recovered.wal.end == (log.end if whole else certain)
    recovered.wal.append([wal.encode(Ticked(9))])
    recovered.wal.sync()
    assert bodies(disk) == [Ticked(7), *([Ticked(8)] if whole else []), Ticked(9)]


def test_a_flip_of_any_certain_bit_is_noticed_at_the_start_and_by_readers():
    disk = folder()
    log = write(disk, [[TICK], [TICK]], 10_000)
    name = last_segment(disk)
    for offset in range(log.end):
        for bit in range(8):
            disk.files[name][offset] ^= 1 << bit
            with pytest.raises(LedgerError):
                wal.recover(disk)
            with pytest.raises(LedgerError):
                list(wal.read(disk, 0, log.durable))
            disk.files[name][offset] ^= 1 << bit
    assert bodies(disk) == [Ticked(7), Ticked(7)]


def test_without_a_mark_a_later_record_tells_what_was_certain():
    """The mark is not synced: after a power cut the log's own records must do."""
    disk = folder()
    write(disk, [[TICK], [TICK], [TICK]], 10_000)
    disk.remove("durable")
    records = list(wal._records(disk, 0, 0))
    disk.files[last_segment(disk)][records[1].lsn + 30] ^= 1
    with pytest.raises(LedgerError, match="lost or changed what was acked"):
        wal.recover(disk)


def test_a_lost_segment_is_noticed():
    disk = folder()
    log = write(disk, [[wal.encode(Ticked(n))] for n in range(20)])
    middle = wal.segment_name(wal.segments(disk)[1])
    disk.remove(middle)
    with pytest.raises(LedgerError, match="broken or lost"):
        list(wal.read(disk, 0, log.end))


def test_a_lost_newest_segment_is_noticed_at_the_start():
    disk = folder()
    write(disk, [[wal.encode(Ticked(n))] for n in range(20)])
    disk.remove(last_segment(disk))
    with pytest.raises(LedgerError, match="lost or changed what was acked"):
        wal.recover(disk)


@pytest.mark.parametrize("kept", [0, 1, 23, 30])
def test_a_segment_without_its_first_record_is_begun_again(kept):
    disk = folder()
    log = write(disk, [[TICK]], 10_000)
    end = log.end
    log.open_segment(OPENED)
    disk.truncate(last_segment(disk), kept)
    recovered = wal.recover(disk, 10_000)
    assert recovered.cut_bytes == kept
    assert recovered.wal.end == end
    assert wal.segments(disk) == [0]


def test_a_record_copied_to_another_place_is_none():
    disk = folder()
    log = write(disk, [[TICK]], 10_000)
    name = last_segment(disk)
    records = list(wal._records(disk, 0, 0))
    copied = disk.read(name, records[-1].lsn)
    disk.append(name, copied)
    assert [r.lsn for r in wal._records(disk, 0, 0)] == [r.lsn for r in records]
    assert wal.recover(disk).wal.end == log.end


@pytest.mark.parametrize("mark", [b"", b"\0", bytes(12), bytes(11) + b"\1", bytes(13)])
def test_a_broken_mark_claims_nothing(mark):
    disk = folder()
    disk.files["durable"] = bytearray(mark)
    assert wal.durable_mark(disk) == 0


def test_a_new_log_is_empty_and_has_no_name():
    disk = folder()
    recovered = wal.recover(disk)
    assert (recovered.opened, recovered.records, recovered.cut_bytes) == (None, [], 0)
    assert recovered.wal.is_new
    assert recovered.wal.wants_segment
    assert list(wal.read(disk, 0, 0)) == []
    with pytest.raises(LedgerError):
        wal.log_id(disk)


def test_a_log_that_lost_all_its_segments_is_broken():
    disk = folder()
    log = write(disk, [[TICK]])
    disk.remove(last_segment(disk))
    with pytest.raises(LedgerError, match="broken or lost at LSN 0"):
        list(wal.read(disk, 0, log.end))


def test_the_newest_segment_alone_brings_a_receiver_up_to_date():
    disk = folder()
    log = write(disk, [[TICK]], 50)
    log.open_segment(Opened("log", 2, {"p-1": (9, 2)}, ["chunk"]))
    shipped = Shipped(3, "p-1", 12, b"frames")
    log.append([wal.encode(shipped)])
    log.sync()
    recovered = wal.recover(disk)
    assert recovered.opened == Opened("log", 2, {"p-1": (9, 2)}, ["chunk"])
    assert [wal.decode(r.body) for r in recovered.records] == [shipped]


def test_nothing_is_certain_when_a_sync_fails():
    disk = folder()
    log = write(disk, [[TICK]], 10_000)
    durable = log.durable
    log.append([TICK])
    disk.fault_share = 1.0
    with pytest.raises(OSError, match="planted"):
        log.sync()
    assert log.durable == wal.durable_mark(disk) == durable


def test_a_body_larger_than_a_read_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(wal, "READ_BYTES", 64)
    disk = DiskFolder(tmp_path / "wal")
    large = Shipped(1, "p-1", 1, bytes(1000))
    write(disk, [[wal.encode(large), TICK]], 10_000)
    assert bodies(disk) == [large, Ticked(7)]
    disk.close()
