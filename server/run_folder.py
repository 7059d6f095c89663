"""The folder in which the processes of one server meet: fast, private, and one server's only.

It holds snapshots, counters, and the spool unless the settings put that elsewhere. A folder that we
made is removed when the server ends; what a killed server left behind, when the next one starts.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE
from typing import Final

from server.errors import ConfigError

# In memory: mapped counters must not wait for a disk, and nothing here outlives the machine.
MEMORY: Final = Path("/dev/shm")
PREFIX: Final = "adcore-run-"
LEASES: Final = "leases.bin"  # of snapshot.pyx, which a parent need not import
UNLOCKED_PREFIX: Final = "adcore-new-"  # a folder's name until it is locked, and safe from sweeping


@contextlib.contextmanager
def open_run_folder(configured: str) -> Iterator[Path]:
    """Give the settings' folder, or a fresh one; ConfigError when it is unfit or another's."""
    with _stated(configured) if configured else _fresh() as folder:
        # Counters begin with the server. So do leases: theirs is this machine's clock, which a
        # restart of the machine sets back.
        for path in (*folder.glob("metrics-*.bin"), folder / LEASES):
            path.unlink(missing_ok=True)
        yield folder


@contextlib.contextmanager
def _stated(configured: str) -> Iterator[Path]:
    folder = Path(configured)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ConfigError(f"ADCORE_RUN_DIR: {folder}: {error.strerror}") from None
    if status.st_uid != os.geteuid() or S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(f"ADCORE_RUN_DIR: {folder} must be ours and closed to others (0700)")
    folder = folder.resolve()
    with _lock(folder) as locked:
        if not locked:
            raise ConfigError(f"ADCORE_RUN_DIR: {folder} is in use by another server")
        yield folder


@contextlib.contextmanager
def _fresh() -> Iterator[Path]:
    home = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _sweep(home)
    new = Path(tempfile.mkdtemp(prefix=UNLOCKED_PREFIX, dir=home))
    with _lock(new):
        folder = new.rename(home / new.name.replace(UNLOCKED_PREFIX, PREFIX, 1))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(home: Path) -> None:
    """Remove folders of ours that nobody has locked: their server was killed."""
    for folder in home.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or no folder of ours after all
            if folder.lstat().st_uid == os.geteuid():
                with _lock(folder) as locked:
                    if locked:
                        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Lock the folder itself, until the block or the process ends; False when another has."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
