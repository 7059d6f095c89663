"""A log whose disk is lost comes back from the archive, and Redis agrees with it afterwards."""

import pytest

from server import cli
from server.errors import ArchiveError
from server.ledger import wal
from server.ledger.applier import Applier, Cursor
from server.ledger.archive import Archive, Remote
from server.ledger.folder import DiskFolder
from server.ledger.reconcile import begin, reconcile
from server.ledger.restore import restore
from tests.shards import HOUR_S, NOON_S, Shard, beacon

pytestmark = pytest.mark.process

SEGMENT_BYTES = 1 << 14


@pytest.fixture
def shard(redis_url, tmp_path):
    """Six hours of beacons, all counted, of which the last segment is in no archive."""
    shard = Shard(tmp_path / "lost", redis_url, segment_bytes_max=SEGMENT_BYTES)
    for hour in range(6):
        at_s = NOON_S + hour * HOUR_S
        shard.write([beacon(at_s=at_s, line_item_id=line) for line in range(1, 120)])
    shard.write([beacon(at_s=NOON_S + 6 * HOUR_S)])
    shard.checkpoint()
    return shard


@pytest.fixture
def remote(shard, tmp_path):
    remote = Remote(str(tmp_path / "archive"))
    Archive(shard.log, DiskFolder(tmp_path / "own"), remote, shard.wal_id, 0).copy()
    return remote


def impressions(shard: Shard) -> int:
    found = shard.store.read(shard.store.hours())
    return sum(
        count
        for _, _, fields in found
        for field, count in fields.items()
        if field.endswith(b".impressions")
    )


def counted_again(shard: Shard, folder: DiskFolder, tmp_path) -> DiskFolder:
    """Start on the restored log as an aggregator does, and count to its end."""
    state = DiskFolder(tmp_path / "fresh-state")
    recovered = wal.recover(folder, SEGMENT_BYTES)
    applier = Applier(folder, state, shard.store, wal.log_id(folder))
    while applier.advance(recovered.wal.end):
        pass
    return state


def test_all_that_was_archived_is_back_and_redis_agrees(shard, remote, tmp_path):
    counted = Cursor.parse(shard.store.cursor()).lsn
    *closed, _ = wal.segments(shard.log)
    folder = DiskFolder(tmp_path / "fresh" / "wal")
    result = restore(folder, remote, 0, shard.store)
    assert (result.segments, result.counted) == (len(closed), counted)
    assert result.end < counted
    for lsn in closed:
        assert folder.read(wal.segment_name(lsn)) == shard.log.read(wal.segment_name(lsn))
    state = counted_again(shard, folder, tmp_path)
    assert 0 < impressions(shard) < 6 * 119 + 1
    found = reconcile(begin(folder, state, shard.wal_id), shard.store, shard.wal_id, NOON_S)
    assert (found.differences, found.lsn) == ([], result.end)


def test_without_restoring_redis_s_cursor_the_counter_would_refuse(shard, remote, tmp_path):
    """Why counts are cleared: the guard that this step gives way to."""
    folder = DiskFolder(tmp_path / "fresh" / "wal")
    cursor = shard.store.cursor()
    result = restore(folder, remote, 0, shard.store)
    assert shard.store.clear(f"{shard.wal_id}:0:0", cursor) is None
    with pytest.raises(Exception, match=r"the log ends at .*: it has lost what was acked"):
        counted_again(shard, folder, tmp_path)
    assert Cursor.parse(cursor).lsn > result.end


def test_counts_that_the_archive_covers_are_left_alone(shard, remote, tmp_path):
    """Redis was behind, or went back with the same disaster: it goes on from where it is."""
    first_end = wal.segments(shard.log)[1]
    shard.store.clear(shard.store.cursor(), str(Cursor(shard.wal_id, first_end)))
    result = restore(DiskFolder(tmp_path / "fresh" / "wal"), remote, 0, shard.store)
    assert result.counted is None
    assert Cursor.parse(shard.store.cursor()).lsn == first_end


def test_a_restore_that_was_killed_is_finished_by_the_next(shard, remote, tmp_path):
    folder = DiskFolder(tmp_path / "fresh" / "wal")
    first = wal.segment_name(0)
    folder.replace(first, shard.log.read(first))
    assert restore(folder, remote, 0, shard.store).segments > 2
    assert restore(folder, remote, 0, shard.store).counted is None  # twice is once


def test_another_log_is_never_overwritten(shard, remote, tmp_path):
    other = DiskFolder(tmp_path / "other" / "wal")
    opened = wal.Opened("another", NOON_S * 1000, {}, [])
    wal.recover(other).wal.open_segment(opened)
    before = other.read(wal.segment_name(0))
    with pytest.raises(ArchiveError, match="not overwritten"):
        restore(other, remote, 0, shard.store)
    assert other.read(wal.segment_name(0)) == before


def test_counts_of_another_log_are_kept(shard, remote, tmp_path):
    cursor = str(Cursor("another", 5))
    shard.store.clear(shard.store.cursor(), cursor)
    with pytest.raises(ArchiveError, match="an empty aggregator was started in its place"):
        restore(DiskFolder(tmp_path / "fresh" / "wal"), remote, 0, shard.store)
    assert shard.store.cursor() == cursor


def test_an_archive_with_a_hole_is_refused_and_nothing_written(shard, remote, tmp_path):
    hole = tmp_path / "archive" / "wal" / "shard-0" / wal.segment_name(wal.segments(shard.log)[1])
    hole.unlink()
    folder = DiskFolder(tmp_path / "fresh" / "wal")
    cursor = shard.store.cursor()
    with pytest.raises(ArchiveError, match="not whole"):
        restore(folder, remote, 0, shard.store)
    assert folder.names() == []
    assert shard.store.cursor() == cursor


def test_an_archive_without_this_shard_is_named(shard, remote, tmp_path):
    with pytest.raises(ArchiveError, match="no log of shard 7"):
        restore(DiskFolder(tmp_path / "fresh" / "wal"), remote, 7, shard.store)


def test_the_command_restores_and_tells(shard, remote, redis_url, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ADCORE_REDIS_URL", redis_url)
    monkeypatch.setenv("ADCORE_LEDGER_DIR", str(tmp_path / "fresh"))
    monkeypatch.setenv("ADCORE_ARCHIVE_URL", str(tmp_path / "archive"))
    assert cli.main(["archive", "--restore"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("shard 0: restored ")
    assert "is counted anew" in told
    assert cli.main(["archive", "--restore"]) == 0
    assert "goes on from where it is" in capsys.readouterr().out


def test_a_log_that_is_being_written_is_not_touched(
    shard, remote, redis_url, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("ADCORE_REDIS_URL", redis_url)
    monkeypatch.setenv("ADCORE_LEDGER_DIR", str(tmp_path / "fresh"))
    monkeypatch.setenv("ADCORE_ARCHIVE_URL", str(tmp_path / "archive"))
    assert DiskFolder(tmp_path / "fresh").lock()  # as `adcore aggregate` does
    assert cli.main(["archive", "--restore"]) == 1
    assert "stop it first" in capsys.readouterr().err
    assert not (tmp_path / "fresh" / "wal").exists()
