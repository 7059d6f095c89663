"""A disk that keeps what was synced, and of the rest a prefix that nobody chose."""

import errno
from random import Random


class SimFolder:
    """`server.ledger.folder.Folder`, in memory. `fault_share` of the writes and syncs fail."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.fault_share = 0.0
        self.files: dict[str, bytearray] = {}
        self.synced: dict[str, int] = {}  # how much of each file is certain
        self.certain_names: set[str] = set()
        self.removed: dict[str, bytearray] = {}  # and not yet certain to be

    def names(self) -> list[str]:
        return sorted(self.files)

    def size(self, name: str) -> int:
        return len(self._file(name))

    def read(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        content = self._file(name)
        return bytes(content[offset:] if length < 0 else content[offset : offset + length])

    def append(self, name: str, data: bytes) -> None:
        file = self.files.setdefault(name, bytearray())
        if self.random.random() < self.fault_share:
            file += data[: self.random.randrange(len(data) + 1)]
            raise OSError(self.random.choice((errno.EIO, errno.ENOSPC)), "a planted fault")
        file += data

    def sync(self, name: str) -> None:
        file = self.files.setdefault(name, bytearray())
        if self.random.random() < self.fault_share:
            raise OSError(errno.EIO, "a planted fault")
        self.synced[name] = len(file)

    def sync_names(self) -> None:
        if self.random.random() < self.fault_share:
            raise OSError(errno.EIO, "a planted fault")
        self.certain_names = set(self.files)
        self.removed.clear()

    def truncate(self, name: str, size: int) -> None:
        del self._file(name)[size:]
        self.synced[name] = min(self.synced.get(name, 0), size)

    def remove(self, name: str) -> None:
        if name in self.files:
            self.removed[name] = self.files.pop(name)

    def replace(self, name: str, data: bytes) -> None:
        if self.random.random() < self.fault_share:
            raise OSError(errno.ENOSPC, "a planted fault")
        self.files[name] = bytearray(data)
        self.synced[name] = len(data)
        self.certain_names = set(self.files)  # it syncs the folder as well
        self.removed.clear()

    def mark(self, name: str, data: bytes) -> None:
        self.files.setdefault(name, bytearray())[: len(data)] = data

    def lose_power(self) -> None:
        """Keep what was synced, and of the rest of each file a prefix; of the names, some."""
        for name, content in [*self.removed.items()]:
            if self.random.random() < 0.5:
                self.files.setdefault(name, content)
        self.removed.clear()
        for name in [*self.files]:
            if name not in self.certain_names and self.random.random() < 0.5:
                del self.files[name]
                continue
            certain = min(self.synced.get(name, 0), len(self.files[name]))
            kept = self.random.randint(certain, len(self.files[name]))
            if name == "durable":
                kept = len(self.files[name])  # too small to be torn
            del self.files[name][kept:]

    def flip(self, name: str, offset: int) -> None:
        self.files[name][offset] ^= 1 << self.random.randrange(8)

    def _file(self, name: str) -> bytearray:
        try:
            return self.files[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, name) from None
