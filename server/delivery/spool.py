"""Billable frames on the local disk, written before the client has its answer.

One process writes one producer's segments; the forwarder reads them and deletes what it has
handed on.

    {producer}-{epoch:016x}-{segment:08d}.spool    sorted by name is in order of writing

A producer is one process at a time. Its epoch grows with each start: the second it began, and 32
random bits, lest two machines of one name are taken for one. A reader tells a repeat or a gap by
(producer, epoch, sequence), which grows by 1 over all segments of the epoch. A segment holds
nothing but frames (`server.events.frames`).

A frame is whole or it is the torn end of its segment: a failed write is cut off, or the segment is
left as it is and the next one begun. A reader stops at the first frame whose length or CRC is
wrong.

A forwarder may delete any segment but a producer's newest: the next start takes an epoch larger
than every one it finds, and so it does even when the clock has gone back.

Written frames are in the page cache and survive the process, however it ends; `flush` brings them
to the disk. An ack that means more than that is the aggregator's to give.
"""

import contextlib
import errno
import itertools
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE

from server.errors import SpoolError, SpoolFullError
from server.events.frames import RECORD_BYTES_MAX, Frame, Frames, pack
from server.events.records import RECORD_BEACON

SEGMENT_BYTES_MAX = 16 << 20  # a forwarder frees space in steps of this; 64 of them fill 1 GiB
EPOCH_RANDOM_BITS = 32  # what a producer writes under another's epoch is taken for repeats
SHED_PERCENT = 80  # above it only billable frames are taken
# What other writers and the forwarder did to the folder is seen after so many frames, and sooner
# when one would be refused: a scan takes 0.1 ms, and space that came back is not to be left unused.
RESCAN_FRAMES = 1024
RESCAN_FRAMES_FULL = 16

_SUFFIX = ".spool"
_PRODUCER = re.compile(r"[A-Za-z0-9_.]{1,64}")
_CREATE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Spool:
    """Appends frames; `written`, `shed` and `failed` count what became of them.

    `folder_bytes` is what all producers' segments take, as last seen and with our own since.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        producer: str,
        *,
        now_s: int,
        bytes_max: int,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
    ) -> None:
        if not _PRODUCER.fullmatch(producer):
            raise SpoolError(f"{producer!r} is no producer's name")
        self.written = self.shed = self.failed = 0
        self.bytes_max = bytes_max
        self._producer = producer
        self._segment_bytes_max = segment_bytes_max
        self._folder_fd = _open_folder(folder)
        fresh = now_s << EPOCH_RANDOM_BITS | secrets.randbits(EPOCH_RANDOM_BITS)
        self.epoch = max([fresh, *(epoch + 1 for epoch in self._epochs())])
        self._segment = 0
        self._unflushed: list[str] = []  # segments begun since the last flush; one in 16 MiB
        self._flush_failed = False
        self._fd = -1
        self._size = 0
        self._sequence = 0
        self.folder_bytes = self._measure()
        self._frames_since_scan = 0

    def append(self, record: bytes, *, billable: bool, kind: int = RECORD_BEACON) -> None:
        """Write one frame before returning, or raise SpoolError with the segment left whole."""
        frame = self._frame(record, kind)
        try:
            self._make_room(len(frame), billable)
            if self._fd < 0 or self._size + len(frame) > self._segment_bytes_max:
                self._begin_segment()
            self._write(frame)
        except OSError as error:
            self.failed += 1
            self._recover(error)
            raise SpoolError(f"spool: {error.strerror}") from error
        self.written += 1
        self._sequence += 1
        self._size += len(frame)
        self.folder_bytes += len(frame)

    def flush(self) -> None:
        """Wait until this epoch's frames are on the disk. It stalls: for the end of a process."""
        if self._flush_failed:
            raise SpoolError("spool: an earlier flush failed")
        try:
            for name in self._unflushed:
                # A segment that the forwarder has deleted is one that it has handed on.
                with contextlib.suppress(FileNotFoundError):
                    self._sync(name)
            # The one in hand grows on.
            self._unflushed = self._unflushed[-1:] if self._fd >= 0 else []
            os.fsync(self._folder_fd)
        except OSError as error:
            # The kernel may call the lost pages clean now, and a second sync would lie.
            self._flush_failed = True
            self._leave_segment()
            raise SpoolError(f"spool: {error.strerror}") from error

    def close(self) -> None:
        """Flush and close; SpoolError when the flush failed, closed all the same."""
        if self._folder_fd < 0:
            return
        try:
            self.flush()
        finally:
            self._leave_segment()
            os.close(self._folder_fd)
            self._folder_fd = -1

    def _frame(self, record: bytes, kind: int) -> bytes:
        if len(record) > RECORD_BYTES_MAX:
            self.failed += 1
            raise SpoolError(f"spool: a record of {len(record)} bytes")
        return pack(Frame(self.epoch, self._sequence + 1, kind, record))

    def _make_room(self, frame_bytes: int, billable: bool) -> None:
        room = self.bytes_max * (100 if billable else SHED_PERCENT) // 100 - frame_bytes
        self._frames_since_scan += 1
        full = self.folder_bytes > room
        if self._frames_since_scan >= (RESCAN_FRAMES_FULL if full else RESCAN_FRAMES):
            self.folder_bytes = self._measure()
            self._frames_since_scan = 0
            full = self.folder_bytes > room
        if full:
            self.shed += 1
            raise SpoolFullError("spool: full")

    def _begin_segment(self) -> None:
        self._leave_segment()
        self._segment += 1
        name = f"{self._producer}-{self.epoch:016x}-{self._segment:08d}{_SUFFIX}"
        self._fd = os.open(name, _CREATE, 0o600, dir_fd=self._folder_fd)
        self._unflushed.append(name)

    def _leave_segment(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._size = 0

    def _write(self, frame: bytes) -> None:
        done = os.write(self._fd, frame)
        while done < len(frame):  # the disk took a part; what is wrong, the next write says
            done += os.write(self._fd, frame[done:])

    def _recover(self, error: OSError) -> None:
        if self._fd < 0:
            return
        try:
            os.ftruncate(self._fd, self._size)
            cut = True
        except OSError:
            cut = False
        # A full disk may have room again later. Any other fault is the file's: go on in a new one,
        # unless nothing is in this one yet, lest each failure leaves an empty segment.
        if not cut or (error.errno not in _FULL and self._size):
            self._leave_segment()

    def _sync(self, name: str) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder_fd)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def _epochs(self) -> Iterator[int]:
        named = re.compile(rf"{re.escape(self._producer)}-([0-9a-f]{{16}})-[0-9]{{8}}{_SUFFIX}")
        for name in os.listdir(self._folder_fd):
            if found := named.fullmatch(name):
                yield int(found[1], 16)

    def left_s(self, now_s: int) -> int:
        """For how long the oldest finished segment has lain here; 0 when none is left.

        A producer's newest is not finished, and no forwarder deletes it. 0 too when the folder
        can't be read: who asks has more to do than this, and must not end by it.
        """
        oldest_s = float(now_s)
        with contextlib.suppress(OSError):
            names = sorted(name for name in os.listdir(self._folder_fd) if name.endswith(_SUFFIX))
            for name, later in itertools.pairwise(names):
                if name.partition("-")[0] == later.partition("-")[0]:
                    oldest_s = min(oldest_s, self._written_s(name, now_s))
        return int(now_s - oldest_s)

    def _written_s(self, name: str, gone_s: int) -> float:
        try:
            return os.stat(name, dir_fd=self._folder_fd, follow_symlinks=False).st_mtime
        except FileNotFoundError:  # the forwarder deletes meanwhile
            return gone_s

    def _measure(self) -> int:
        """Count the bytes of every producer's segments."""
        total = 0
        with os.scandir(self._folder_fd) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    with contextlib.suppress(FileNotFoundError):  # the forwarder deletes meanwhile
                        total += entry.stat(follow_symlinks=False).st_size
        return total


def _open_folder(folder: str | os.PathLike[str]) -> int:
    """Open the folder, made if need be: ours, closed to others, and no symbolic link."""
    try:
        with contextlib.suppress(FileExistsError):
            os.makedirs(folder, 0o700)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SpoolError(f"{os.fspath(folder)}: {error.strerror}") from error
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        os.close(fd)
        raise SpoolError(f"{os.fspath(folder)}: belongs to another user")
    if S_IMODE(status.st_mode) != 0o700:
        os.fchmod(fd, 0o700)
    return fd


def read_frames(path: str | os.PathLike[str]) -> Frames:
    """Read a segment, whole: it is at most 16 MiB."""
    return Frames(Path(path).read_bytes())
