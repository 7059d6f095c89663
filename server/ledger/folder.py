"""A folder of append-only files: all that the ledger asks of a disk.

What is appended is certain once `sync` has returned, what is created or removed once `sync_names`
has. An OSError from any of these means that nobody knows what is on the disk: the caller ends, and
reads the truth at its next start. A failed sync is never tried again, since the kernel may have
dropped the pages and would call them clean.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Protocol

_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Readable(Protocol):
    """Names are plain: no path in them."""

    def names(self) -> list[str]: ...
    def read(self, name: str, offset: int = 0, length: int = -1) -> bytes: ...


class Folder(Readable, Protocol):
    """One to write in as well."""

    def size(self, name: str) -> int: ...
    def append(self, name: str, data: bytes) -> None: ...
    def sync(self, name: str) -> None: ...
    def sync_names(self) -> None: ...
    def truncate(self, name: str, size: int) -> None: ...
    def remove(self, name: str) -> None: ...
    def replace(self, name: str, data: bytes) -> None: ...
    def mark(self, name: str, data: bytes) -> None: ...


class DiskFolder:
    """A real folder, ours alone (0700). One file at a time is open for appending."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open_name = ""
        self._open_fd = -1
        self._marks: dict[str, int] = {}

    def close(self) -> None:
        for fd in (self._open_fd, self._folder_fd, *self._marks.values()):
            if fd >= 0:
                os.close(fd)
        self._open_name, self._open_fd, self._folder_fd = "", -1, -1
        self._marks.clear()

    def lock(self) -> bool:
        """Take the folder for ourselves until the process ends; False when another has it."""
        try:
            fcntl.flock(self._folder_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def names(self) -> list[str]:
        """All files, sorted."""
        return sorted(os.listdir(self._folder_fd))

    def size(self, name: str) -> int:
        return os.stat(name, dir_fd=self._folder_fd, follow_symlinks=False).st_size

    def read(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        """Read up to `length` bytes, or to the end."""
        fd = os.open(name, _READ, dir_fd=self._folder_fd)
        with open(fd, "rb", buffering=0) as file:
            file.seek(offset)
            return file.read() if length < 0 else file.read(length) or b""

    def append(self, name: str, data: bytes) -> None:
        """Write all of it; a short write is carried on, or raises what stands in its way."""
        if name != self._open_name:
            self._open(name)
        done = os.write(self._open_fd, data)
        while done < len(data):
            done += os.write(self._open_fd, data[done:])

    def sync(self, name: str) -> None:
        if name != self._open_name:
            self._open(name)
        os.fdatasync(self._open_fd)

    def sync_names(self) -> None:
        os.fsync(self._folder_fd)

    def truncate(self, name: str, size: int) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder_fd)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder_fd)

    def replace(self, name: str, data: bytes) -> None:
        """Have the file hold `data`, whole and on the disk, or what it held before."""
        new = f"{name}.new"
        self.remove(new)
        fd = os.open(new, _APPEND, 0o600, dir_fd=self._folder_fd)
        try:
            done = 0
            while done < len(data):
                done += os.write(fd, data[done:])
            os.fdatasync(fd)
        finally:
            os.close(fd)
        os.rename(new, name, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)
        os.fsync(self._folder_fd)

    def mark(self, name: str, data: bytes) -> None:
        """Overwrite a few bytes in place, for a reader beside us; no promise after a crash."""
        fd = self._marks.get(name)
        if fd is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = self._marks[name] = os.open(name, flags, 0o600, dir_fd=self._folder_fd)
        os.pwrite(fd, data, 0)

    def _open(self, name: str) -> None:
        if self._open_fd >= 0:
            os.close(self._open_fd)
            self._open_name, self._open_fd = "", -1
        self._open_fd = os.open(name, _APPEND, 0o600, dir_fd=self._folder_fd)
        self._open_name = name
