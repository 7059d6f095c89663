"""What is written is there as a whole or an OSError is raised; only plain files are touched."""

import errno
import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from server.ledger.folder import DiskFolder


@pytest.fixture
def folder(tmp_path):
    folder = DiskFolder(tmp_path / "one" / "two")
    yield folder
    folder.close()


@contextmanager
def at_most(file_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_it_is_ours_alone(folder):
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.append("a", b"x")
    folder.replace("b", b"x")
    folder.mark("c", b"x")
    for name in folder.names():
        assert stat.S_IMODE((folder.path / name).stat().st_mode) == 0o600


def test_what_is_appended_is_read(folder):
    folder.append("b", b"012")
    folder.append("a", b"other")
    folder.append("b", b"345")
    for name in ("a", "b"):
        folder.sync(name)
    folder.sync_names()
    assert folder.names() == ["a", "b"]
    assert folder.size("b") == 6
    assert folder.read("b") == b"012345"
    assert folder.read("b", 2) == b"2345"
    assert folder.read("b", 2, 3) == b"234"
    assert folder.read("b", 6) == folder.read("b", 9, 3) == folder.read("b", 0, 0) == b""


def test_truncated_and_removed(folder):
    folder.append("a", b"012345")
    folder.truncate("a", 2)
    folder.append("a", b"x")
    assert folder.read("a") == b"01x"
    folder.remove("a")
    folder.remove("a")
    assert folder.names() == []
    for missing in (folder.size, folder.read):
        with pytest.raises(FileNotFoundError):
            missing("a")
    with pytest.raises(FileNotFoundError):
        folder.truncate("a", 0)


def test_a_short_write_is_carried_on(folder, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    folder.append("a", b"0123456789")
    folder.replace("b", b"0123456789")
    assert folder.read("a") == folder.read("b") == b"0123456789"


def test_a_full_disk_is_raised_and_leaves_a_prefix(folder):
    content = bytes(range(256)) * 64
    with at_most(5_000), pytest.raises(OSError) as caught:  # noqa: PT011 - its errno is checked
        folder.append("a", content)
    assert caught.value.errno == errno.EFBIG
    assert folder.read("a") == content[:5_000]


def test_a_full_disk_leaves_what_was_to_be_replaced(folder):
    folder.replace("a", b"old")
    with at_most(10), pytest.raises(OSError):  # noqa: PT011 - any
        folder.replace("a", b"new" * 10)
    assert folder.read("a") == b"old"
    folder.replace("a", b"new")
    assert folder.read("a") == b"new"
    assert folder.names() == ["a"]


def test_a_mark_is_written_in_place(folder):
    folder.mark("m", b"0001")
    folder.mark("m", b"0002")
    assert folder.read("m") == b"0002"
    assert DiskFolder(folder.path).read("m") == b"0002"


@pytest.mark.parametrize("use", ["append", "sync", "mark", "read", "truncate"])
def test_a_symlink_is_refused(folder, tmp_path, use):
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    (folder.path / "link").symlink_to(target)
    arguments = {"append": (b"x",), "mark": (b"x",), "truncate": (0,)}.get(use, ())
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its errno is checked
        getattr(folder, use)("link", *arguments)
    assert caught.value.errno == errno.ELOOP
    assert target.read_bytes() == b"theirs"


def test_a_replaced_symlink_leaves_its_target(folder, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    for name in ("link", "link.new"):
        (folder.path / name).symlink_to(target)
    folder.replace("link", b"ours")
    assert folder.read("link") == b"ours"
    assert target.read_bytes() == b"theirs"


def test_one_has_the_lock(folder):
    other = DiskFolder(folder.path)
    assert folder.lock()
    assert not other.lock()
    folder.close()
    assert other.lock()
    other.close()
