"""The spool's folder is ours alone: no link, no other user and no leftover descriptor gets in."""

import errno
import os

import pytest

from server.delivery.spool import Spool, read_frames
from server.errors import SpoolError
from tests.test_spool import NOW_S, ROOM, folder, frames_in, segments, spool_in

__all__ = ["folder"]  # a fixture


def test_a_folder_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(SpoolError):
        spool_in(tmp_path / "link")


def test_a_planted_link_or_file_is_never_written_through(folder, tmp_path):
    folder.mkdir()
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    spool = spool_in(folder)
    (folder / f"w1-{spool.epoch:016x}-00000001.spool").symlink_to(target)
    (folder / f"w1-{spool.epoch:016x}-00000002.spool").write_bytes(b"not ours")
    for _ in range(2):
        with pytest.raises(SpoolError):
            spool.append(b"x", billable=True)
    spool.append(b"x", billable=True)
    assert target.read_bytes() == b"precious"
    assert segments(folder)[1].read_bytes() == b"not ours"
    assert [frame.record for frame in read_frames(segments(folder)[2])] == [b"x"]
    spool.close()


@pytest.mark.parametrize("name", ["", "a/b", "a-b", "w" * 65, "é", "w\n"])
def test_a_producer_that_could_leave_the_folder_is_refused(folder, name):
    with pytest.raises(SpoolError):
        Spool(folder, name, now_s=NOW_S, bytes_max=ROOM)


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(SpoolError, match="another user"):
        spool_in(tmp_path / "spool")


def test_a_folder_that_can_not_be_made_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolError):
        spool_in(tmp_path / "file" / "spool")


def test_a_closed_spool_refuses_frames(folder):
    spool = spool_in(folder)
    spool.append(b"x", billable=True)
    spool.close()
    with pytest.raises(SpoolError):
        spool.append(b"y", billable=True)
    assert len(frames_in(folder)) == 1


def test_no_descriptor_is_left_open(folder):
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        spool = spool_in(folder, segment_bytes_max=100)
        for _ in range(5):
            spool.append(bytes(40), billable=True)
        spool.flush()
        spool.close()
        spool.close()
    assert set(os.listdir("/proc/self/fd")) == before


# -- how long what is finished has been left


def write_segment(folder, name: str, age_s: int) -> None:
    (folder / name).write_bytes(b"frames")
    os.utime(folder / name, (NOW_S - age_s, NOW_S - age_s))


def test_a_finished_segment_that_is_left_has_an_age(folder):
    spool = spool_in(folder)
    assert spool.left_s(NOW_S) == 0
    write_segment(folder, "w1-0000000000000001-00000001.spool", 300)
    assert spool.left_s(NOW_S) == 0  # its producer's newest: nobody deletes it
    write_segment(folder, "w1-0000000000000001-00000002.spool", 40)
    assert spool.left_s(NOW_S) == 300
    write_segment(folder, "w2-0000000000000001-00000001.spool", 900)  # another's newest
    assert spool.left_s(NOW_S) == 300
    write_segment(folder, "w1-0000000000000002-00000001.spool", 5)  # of its next start
    (folder / "w1-0000000000000001-00000001.spool").unlink()
    assert spool.left_s(NOW_S) == 40
    spool.close()


def test_a_folder_that_can_t_be_read_ends_nobody_who_asks_for_its_age(folder, monkeypatch):
    spool = spool_in(folder)

    def fail(*_):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "listdir", fail)
    assert spool.left_s(NOW_S) == 0
