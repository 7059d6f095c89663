"""Moves the log's closed segments to where they last: a folder or an object store.

    a closed segment ─► its hours as Parquet ─► copied, read back, compared ─► remembered
                                                       │
    old enough, and before a verified checkpoint ──────┴─► compared again ─► removed here

Every step may be done twice, and ends in the same files: whoever is killed half-way leaves the rest
to the next pass. Nothing is removed that was not read back from the archive in the same pass.

    {url}/wal/shard-K/log                                        whose log it is
    {url}/wal/shard-K/{lsn:016x}.wal                             as it stood here
    {url}/events/date=YYYY-MM-DD/hour=HH/shard-K-{lsn:016x}.parquet
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
from crc32c import crc32c
from msgspec import Struct

from server.errors import ArchiveError, ConfigError, LedgerError
from server.ledger import event_files, wal
from server.ledger.folder import Folder, Readable

_DONE: Final = "archived"


class Remote:
    """Files below one URL, by `fsspec`; what is put there is read back."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
            from fsspec.implementations.local import LocalFileSystem
        except ModuleNotFoundError:
            raise ConfigError("an archive needs fsspec: pip install 'adcore[archive]'") from None
        with _translated():
            try:
                self._files: Any
                self._files, self._root = fsspec.core.url_to_fs(url)
            except (ValueError, ImportError) as error:
                raise ConfigError(f"ADCORE_ARCHIVE_URL: {error}") from None
        self._is_local = isinstance(self._files, LocalFileSystem)

    def get(self, path: str) -> bytes | None:
        with _translated():
            try:
                content: bytes = self._files.cat_file(f"{self._root}/{path}")
            except FileNotFoundError:
                return None
            return content

    def put(self, path: str, content: bytes) -> None:
        """Have the file hold `content`, whatever it held; ArchiveError if it then does not."""
        if self.get(path) == content:
            return
        place = f"{self._root}/{path}"
        with _translated():
            self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
            if self._is_local:
                _write(Path(place), Path(self._root), content)
            else:
                self._files.pipe_file(place, content)  # whole or not at all
        if self.get(path) != content:
            raise ArchiveError(f"{path} is not there as it was written")

    def names(self, folder: str) -> list[str]:
        """Plain names of the files in a folder, sorted; none if there is no such folder."""
        with _translated():
            self._files.invalidate_cache()
            try:
                found = self._files.ls(f"{self._root}/{folder}", detail=False)
            except FileNotFoundError:
                return []
            return sorted(str(path).rpartition("/")[2] for path in found)


def _write(file: Path, root: Path, content: bytes) -> None:
    """Write a local file whole or not at all, and have it and its folders on the disk."""
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(content)
    _sync(part)
    part.replace(file)
    for folder in file.parents:
        if folder.is_relative_to(root):
            _sync(folder)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"the archive fails: {error}") from error


class Pass(Struct):
    """What one pass did."""

    copied: int = 0  # segments
    files: int = 0  # of events, new
    skipped: int = 0  # frames that no row could be made of
    removed: int = 0  # segments, here


class _Done(Struct):
    """Segments that the archive has: LSN to checksum. Losing this costs time only."""

    wal_id: str
    checksums: dict[int, int]


class Archive:
    """The archive of one shard's log."""

    def __init__(self, log: Folder, own: Folder, remote: Remote, wal_id: str, shard: int) -> None:
        self.result = Pass()
        self._log = log
        self._own = own
        self._remote = remote
        self._shard = shard
        self._place = f"wal/shard-{shard}"
        self._claim(wal_id)
        self._done = self._remembered(wal_id)

    def copy(self) -> None:
        """Bring every closed segment that is not there yet, and its events."""
        for lsn, end in self._closed():
            if lsn in self._done.checksums:
                continue
            content = self._log.read(wal.segment_name(lsn))
            records = list(wal.read(self._log, lsn, end))
            hours = event_files.hours(records, self._shard)
            for path, file in hours.files(lsn):
                self._remote.put(path, file)
                self.result.files += 1
            self.result.skipped += hours.skipped
            self._remote.put(self._path(lsn), content)
            self._done.checksums[lsn] = crc32c(content)
            self._own.replace(_DONE, msgspec.msgpack.encode(self._done))
            self.result.copied += 1

    def remove(self, verified: int, closed_before_ms: int) -> None:
        """Remove here what lies before `verified`, was closed by then, and is in the archive."""
        for lsn, end in self._closed():
            if end > verified or self._opened_ms(end) >= closed_before_ms:
                break  # later ones are later in both
            if lsn not in self._done.checksums:
                break
            content = self._log.read(wal.segment_name(lsn))
            if crc32c(content) != self._done.checksums[lsn]:
                raise LedgerError(f"{wal.segment_name(lsn)} is not what was archived of it")
            self._remote.put(self._path(lsn), content)
            self._log.remove(wal.segment_name(lsn))
            self._log.sync_names()
            self.result.removed += 1
        here = {*wal.segments(self._log)}
        self._done.checksums = {k: v for k, v in self._done.checksums.items() if k in here}
        self._own.replace(_DONE, msgspec.msgpack.encode(self._done))

    def _closed(self) -> Iterator[tuple[int, int]]:
        """Give where each segment begins and ends, but for the one being written."""
        durable = wal.durable_mark(self._log)
        known = wal.segments(self._log)
        for lsn, end in pairwise(known):
            if end <= durable:
                yield lsn, end

    def _opened_ms(self, lsn: int) -> int:
        record = next(wal.read(self._log, lsn, lsn + 1))
        written_ms: int = wal.decode(record.body).written_ms
        return written_ms

    def _path(self, lsn: int) -> str:
        return f"{self._place}/{wal.segment_name(lsn)}"

    def _claim(self, wal_id: str) -> None:
        """Refuse to mix two logs: their segments have the same names."""
        path = f"{self._place}/log"
        found = self._remote.get(path)
        if not found:
            self._remote.put(path, wal_id.encode())
        elif found != wal_id.encode():
            raise ArchiveError(
                f"the archive has shard {self._shard} of the log {found.decode(errors='replace')},"
                f" this is {wal_id}: give a new log a new shard"
            )

    def _remembered(self, wal_id: str) -> _Done:
        try:
            done = msgspec.msgpack.decode(self._own.read(_DONE), type=_Done)
        except (FileNotFoundError, msgspec.MsgspecError):
            return _Done(wal_id, {})
        return done if done.wal_id == wal_id else _Done(wal_id, {})


class WholeLog:
    """The log with what was moved to the archive, to be read as if nothing had been moved."""

    def __init__(self, log: Readable, remote: Remote, shard: int) -> None:
        self._log = log
        self._remote = remote
        self._place = f"wal/shard-{shard}"
        self._segment = ("", b"")  # a segment is read piece by piece, and fetched whole

    def names(self) -> list[str]:
        archived = (name for name in self._remote.names(self._place) if name != "log")
        return sorted({*archived, *self._log.names()})

    def read(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        try:
            return self._log.read(name, offset, length)
        except FileNotFoundError:
            pass
        if self._segment[0] != name:
            content = self._remote.get(f"{self._place}/{name}")
            if content is None:
                raise FileNotFoundError(name)
            self._segment = (name, content)
        return self._segment[1][offset : None if length < 0 else offset + length]
