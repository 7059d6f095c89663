"""Every frame that was taken is read back, whatever ends the process; nothing else is read.

Faults of the disk are real where a test can make them (a file size limit, a kill, a folder that is
full) and put in place of the system call where it can't (EIO).
"""

import errno
import os
import secrets
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.delivery.spool import (
    EPOCH_RANDOM_BITS,
    RESCAN_FRAMES,
    RESCAN_FRAMES_FULL,
    Spool,
    read_frames,
)
from server.errors import SpoolError
from server.events.frames import RECORD_BYTES_MAX, Frame, Frames

NOW_S = 1_793_500_000
FRAME_BYTES = 25  # before the record
ROOM = 1 << 30


def spool_in(folder: Path, *, now_s: int = NOW_S, bytes_max: int = ROOM, **more: int) -> Spool:
    return Spool(folder, "w1", now_s=now_s, bytes_max=bytes_max, **more)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def frames_in(folder: Path) -> list[Frame]:
    return [frame for path in segments(folder) for frame in read_frames(path)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_frames_come_back_in_order_with_their_numbers(folder):
    spool = spool_in(folder)
    records = [b"", b"one", bytes(RECORD_BYTES_MAX)]
    for record in records:
        spool.append(record, billable=True)
    spool.append(b"log", billable=False, kind=7)
    spool.close()
    assert frames_in(folder) == [
        *(Frame(spool.epoch, n, 1, record) for n, record in enumerate(records, 1)),
        Frame(spool.epoch, 4, 7, b"log"),
    ]
    assert (spool.written, spool.shed, spool.failed) == (4, 0, 0)


def test_a_frame_is_readable_before_append_returns(folder):
    spool = spool_in(folder)
    for n in range(1, 4):
        spool.append(b"x", billable=True)
        assert len(frames_in(folder)) == n
    spool.close()


def test_bytes_are_those_of_the_diagram(folder, monkeypatch):
    monkeypatch.setattr(secrets, "randbits", lambda _: 0x0102)
    spool = spool_in(folder, now_s=0x0304)
    spool.append(b"abc", billable=True)
    spool.close()
    (path,) = segments(folder)
    assert path.name == "w1-0000030400000102-00000001.spool"
    content = path.read_bytes()
    body = bytes.fromhex("0000030400000102000000000000000101") + b"abc"
    assert content[:4] == (20).to_bytes(4, "big")
    assert content[8:] == body
    assert content[4:8] == slow_crc32c(content[:4] + body).to_bytes(4, "big")


def slow_crc32c(content: bytes) -> int:
    """Bit by bit from the polynomial, as RFC 3720 has it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_segments_are_bounded_and_sequences_run_through(folder):
    spool = spool_in(folder, segment_bytes_max=100)
    for n in range(10):
        spool.append(bytes([n]) * 20, billable=True)
    spool.close()
    assert [path.stat().st_size for path in segments(folder)] == [90] * 5
    assert [frame.sequence for frame in frames_in(folder)] == list(range(1, 11))


def test_no_frame_no_file(folder):
    spool_in(folder).close()
    assert segments(folder) == []


def test_files_and_folder_are_for_nobody_else(folder):
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    spool = spool_in(folder)
    spool.append(b"x", billable=True)
    spool.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(segments(folder)[0].stat().st_mode) == 0o600


# -- epochs ----------------------------------------------------------------------------------------


def test_each_start_has_a_larger_epoch_whatever_the_clock_says(folder):
    epochs = []
    for now_s in (NOW_S, NOW_S, NOW_S - 1_000, NOW_S + 1_000):
        spool = spool_in(folder, now_s=now_s)
        spool.append(b"x", billable=True)
        spool.close()
        epochs.append(spool.epoch)
        for path in segments(folder)[:-1]:
            path.unlink()  # as a forwarder may: all but the newest
    assert epochs == sorted({*epochs})
    seconds = [epoch >> EPOCH_RANDOM_BITS for epoch in epochs]
    assert seconds == [NOW_S, NOW_S, NOW_S, NOW_S + 1_000]


def test_two_machines_of_one_name_are_two_producers(folder):
    """An aggregator would take what the second one writes for repeats, and ack it."""
    one, other = (
        Spool(folder / name, "w1", now_s=NOW_S, bytes_max=ROOM).epoch for name in ("one", "other")
    )
    assert one != other


def test_epochs_of_other_producers_do_not_count(folder):
    other = Spool(folder, "w10", now_s=NOW_S + 50, bytes_max=ROOM)
    other.append(b"x", billable=True)
    other.close()
    (folder / "w1-zz-1.spool").write_bytes(b"")
    spool = spool_in(folder)
    assert spool.epoch >> EPOCH_RANDOM_BITS == NOW_S
    spool.close()


# -- what a reader believes ------------------------------------------------------------------------


def content_of(folder: Path, records: list[bytes]) -> bytes:
    spool = spool_in(folder)
    for record in records:
        spool.append(record, billable=True)
    spool.close()
    return segments(folder)[0].read_bytes()


def test_a_tail_torn_at_any_byte_is_reported_and_the_rest_is_read(folder):
    content = content_of(folder, [b"first", b"second", b"the last one"])
    last = FRAME_BYTES + len(b"the last one")
    whole = len(content) - last
    for kept in range(whole, len(content)):
        frames = Frames(content[:kept])
        assert [frame.record for frame in frames] == [b"first", b"second"]
        assert frames.end == whole
        assert bool(frames.torn) == (kept > whole)
    frames = Frames(content)
    assert len(list(frames)) == 3
    assert (frames.end, frames.torn) == (len(content), "")


def test_a_flipped_bit_anywhere_is_noticed(folder):
    records = [b"first", b"second", b"third"]
    content = content_of(folder, records)
    starts = [0, FRAME_BYTES + 5, 2 * FRAME_BYTES + 11, len(content)]
    for bit in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        frames = Frames(bytes(flipped))
        hit = sum(start <= bit // 8 for start in starts) - 1
        assert [frame.record for frame in frames] == records[:hit]
        assert frames.torn
        assert frames.end == starts[hit]


def test_a_hole_of_zeros_is_no_frame():
    frames = Frames(bytes(4096))
    assert list(frames) == []
    assert frames.torn


def test_a_length_beyond_the_bound_is_a_fault_and_not_a_frame_to_wait_for():
    for length in (0, 16, 17 + RECORD_BYTES_MAX + 1, 2**32 - 1):
        frames = Frames(length.to_bytes(4, "big") + bytes(30))
        assert list(frames) == []
        assert frames.torn == "impossible length"


@given(st.binary(max_size=400))
def test_bytes_that_nobody_wrote_are_read_without_harm(content):
    frames = Frames(content)
    assert list(frames) == []
    assert bool(frames.torn) == bool(content)


# -- bounds ----------------------------------------------------------------------------------------


def test_logs_are_shed_at_80_percent_and_billable_frames_only_when_full(folder):
    record = bytes(100 - FRAME_BYTES)
    spool = spool_in(folder, bytes_max=1000, segment_bytes_max=300)
    for _ in range(8):
        spool.append(record, billable=False)
    with pytest.raises(SpoolError, match="full"):
        spool.append(record, billable=False)
    for _ in range(2):
        spool.append(record, billable=True)
    with pytest.raises(SpoolError, match="full"):
        spool.append(b"", billable=True)
    assert (spool.written, spool.shed, spool.failed) == (10, 2, 0)
    assert sum(path.stat().st_size for path in segments(folder)) == 1000
    assert [frame.sequence for frame in frames_in(folder)] == list(range(1, 11))
    spool.close()


def test_space_that_comes_back_is_used_again(folder):
    record = bytes(100 - FRAME_BYTES)
    spool = spool_in(folder, bytes_max=1000, segment_bytes_max=500)
    for _ in range(10):
        spool.append(record, billable=True)
    segments(folder)[0].unlink()
    refused = 0
    for _ in range(RESCAN_FRAMES_FULL + 1):
        try:
            spool.append(record, billable=True)
            break
        except SpoolError:
            refused += 1
    assert spool.written == 11
    assert spool.folder_bytes == sum(path.stat().st_size for path in segments(folder))
    assert refused < RESCAN_FRAMES_FULL
    spool.close()


def test_what_other_producers_write_counts(folder):
    mine = spool_in(folder, bytes_max=4 * RESCAN_FRAMES * FRAME_BYTES)
    other = Spool(folder, "w2", now_s=NOW_S, bytes_max=ROOM)
    for _ in range(5 * RESCAN_FRAMES):
        other.append(b"", billable=True)
    for _ in range(RESCAN_FRAMES - 1):
        mine.append(b"", billable=True)
    with pytest.raises(SpoolError, match="full"):
        mine.append(b"", billable=True)
    mine.close()
    other.close()


def test_a_record_beyond_its_bound_is_refused_and_the_next_is_taken(folder):
    spool = spool_in(folder)
    with pytest.raises(SpoolError):
        spool.append(bytes(RECORD_BYTES_MAX + 1), billable=True)
    spool.append(b"next", billable=True)
    assert [(frame.sequence, frame.record) for frame in frames_in(folder)] == [(1, b"next")]
    assert spool.failed == 1
    spool.close()


# -- faults ----------------------------------------------------------------------------------------

# A child appends until it is told otherwise, and says which frames it was told are written.
CHILD = """
import resource, sys
from server.delivery.spool import Spool
from server.errors import SpoolError
folder, limit, segment_bytes_max, count = sys.argv[1], *map(int, sys.argv[2:])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
spool = Spool(folder, "w1", now_s=1, bytes_max=1 << 30, segment_bytes_max=segment_bytes_max)
n = 0
while n < count or not count:
    try:
        spool.append(b"%d" % n * 30, billable=True)
        sys.stdout.write(f"{n}\\n")
    except SpoolError as error:
        sys.stdout.write(f"failed {error}\\n")
    sys.stdout.flush()
    n += 1
"""


def child(folder: Path, limit: int, segment_bytes_max: int, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, folder, str(limit), str(segment_bytes_max), str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_writer_has_lost_nothing_it_was_told_is_written(folder):
    with child(folder, 0, 10_000, 0) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(2_000)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    written = [frame.record for frame in frames_in(folder)]
    acknowledged = [line.strip().encode() * 30 for line in told if line.endswith("\n")]
    assert written[: len(acknowledged)] == acknowledged
    assert len(written) - len(acknowledged) <= 1  # the one that was in hand
    spool = spool_in(folder, now_s=1)
    assert spool.epoch > frames_in(folder)[-1].epoch
    spool.close()


def test_a_file_size_limit_cuts_the_frame_and_the_next_segment_goes_on(folder):
    with child(folder, 1_000, 16 << 20, 100) as process:
        assert process.stdout is not None
        told = process.stdout.read().splitlines()
    assert process.returncode == 0
    failed = [line for line in told if line.startswith("failed")]
    written = [line.encode() * 30 for line in told if not line.startswith("failed")]
    assert len(failed) >= 5
    assert len(written) > len(failed)
    for path in segments(folder):
        frames = read_frames(path)
        list(frames)
        assert frames.torn == ""
    assert [frame.record for frame in frames_in(folder)] == written
    assert [frame.sequence for frame in frames_in(folder)] == list(range(1, len(written) + 1))


def test_a_disk_that_takes_part_of_a_frame_is_asked_for_the_rest(folder, monkeypatch):
    spool = spool_in(folder)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, content: write(fd, content[:7]))
    spool.append(b"a record of several writes", billable=True)
    monkeypatch.undo()
    assert [frame.record for frame in frames_in(folder)] == [b"a record of several writes"]
    spool.close()


def faulty_write(error: int, taken: int):
    """A disk that takes some bytes of the next frame, then nothing."""
    write = os.write
    calls = []

    def faulty(fd: int, content: bytes = b"") -> int:
        calls.append(fd)
        if len(calls) == 1 and taken:
            return write(fd, content[:taken])
        raise OSError(error, os.strerror(error))

    return faulty


@pytest.mark.parametrize("taken", [0, 1, 8, 30])
@pytest.mark.parametrize(
    ("error", "segment_count"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EIO, 2)]
)
def test_a_failed_write_leaves_whole_frames_only(folder, monkeypatch, taken, error, segment_count):
    spool = spool_in(folder)
    spool.append(b"before", billable=True)
    monkeypatch.setattr(os, "write", faulty_write(error, taken))
    with pytest.raises(SpoolError, match="spool: "):
        spool.append(b"lost in the middle", billable=True)
    monkeypatch.undo()
    spool.append(b"after", billable=True)
    assert [frame.record for frame in frames_in(folder)] == [b"before", b"after"]
    assert [frame.sequence for frame in frames_in(folder)] == [1, 2]
    assert len(segments(folder)) == segment_count
    assert (spool.written, spool.failed) == (2, 1)
    spool.close()


def test_a_torn_frame_that_can_not_be_cut_ends_its_segment(folder, monkeypatch):
    spool = spool_in(folder)
    spool.append(b"before", billable=True)
    monkeypatch.setattr(os, "write", faulty_write(errno.ENOSPC, 9))
    monkeypatch.setattr(os, "ftruncate", faulty_write(errno.EIO, 0))
    with pytest.raises(SpoolError):
        spool.append(b"torn", billable=True)
    monkeypatch.undo()
    spool.append(b"after", billable=True)
    first, second = segments(folder)
    frames = read_frames(first)
    assert [frame.record for frame in frames] == [b"before"]
    assert frames.torn
    assert [frame.record for frame in read_frames(second)] == [b"after"]
    spool.close()


def test_failures_in_an_empty_segment_do_not_make_more_segments(folder, monkeypatch):
    spool = spool_in(folder)
    for _ in range(5):
        monkeypatch.setattr(os, "write", faulty_write(errno.EIO, 3))
        with pytest.raises(SpoolError):
            spool.append(b"x", billable=True)
        monkeypatch.undo()
    assert [path.stat().st_size for path in segments(folder)] == [0]
    spool.close()


def test_flush_syncs_every_segment_of_the_epoch(folder, monkeypatch):
    synced = []
    fdatasync = os.fdatasync

    def noting(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", noting)
    spool = spool_in(folder, segment_bytes_max=100)
    spool.flush()
    assert synced == []
    for _ in range(5):
        spool.append(bytes(40), billable=True)
    segments(folder)[1].unlink()
    spool.flush()
    assert synced == [str(path) for path in segments(folder)]
    spool.append(bytes(40), billable=True)
    del synced[:]
    spool.flush()
    assert synced == [str(path) for path in segments(folder)[-2:]]
    spool.close()


def test_close_flushes_and_says_when_it_could_not(folder, monkeypatch):
    spool = spool_in(folder)
    spool.append(b"x", billable=True)
    open_before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fdatasync", faulty_write(errno.EIO, 0))
    with pytest.raises(SpoolError):
        spool.close()
    assert len(open_before - set(os.listdir("/proc/self/fd"))) >= 2  # the folder and the segment


def test_after_a_failed_flush_another_segment_is_begun(folder, monkeypatch):
    spool = spool_in(folder)
    spool.append(b"before", billable=True)
    monkeypatch.setattr(os, "fdatasync", faulty_write(errno.EIO, 0))
    with pytest.raises(SpoolError):
        spool.flush()
    monkeypatch.undo()
    with pytest.raises(SpoolError):
        spool.flush()  # what was lost stays lost, whatever the disk says now
    spool.append(b"after", billable=True)
    assert [path.name[-9:] for path in segments(folder)] == ["001.spool", "002.spool"]
    with pytest.raises(SpoolError):
        spool.close()
