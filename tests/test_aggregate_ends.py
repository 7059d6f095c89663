"""An aggregator that can't do a part of its work says so with its exit code, not with silence."""

import asyncio

import pytest

from server.config import Config
from server.errors import ConfigError
from server.families import INTAKER
from server.ledger import aggregate, wal
from server.ledger.aggregate import EXIT_DISK, Aggregator
from server.ledger.folder import DiskFolder
from server.metrics import Metrics
from tests.drill.cluster import free_port


def aggregator(tmp_path, **settings: object) -> Aggregator:
    config = Config(aggregate_port=free_port(), **settings)
    return Aggregator(config, DiskFolder(tmp_path / "wal"), Metrics(tmp_path, INTAKER))


def test_a_spool_in_use_is_a_fault_of_the_settings(tmp_path):
    spool = tmp_path / "spool"
    other = DiskFolder(spool)
    assert other.lock()
    with pytest.raises(ConfigError, match="has another forwarder"):
        asyncio.run(asyncio.wait_for(aggregator(tmp_path, spool_dir=str(spool)).run(), 20))
    other.close()


def test_a_disk_that_fails_at_the_end_is_no_good_end(tmp_path, monkeypatch):
    one = aggregator(tmp_path)

    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(one._intake, "write", fail)

    async def told_to_end() -> None:
        return

    monkeypatch.setattr(one, "_tail", lambda _: told_to_end())
    assert asyncio.run(asyncio.wait_for(one.run(), 20)) == EXIT_DISK


def test_a_quiet_log_tells_the_time_from_the_start_on(tmp_path, monkeypatch):
    """What waits for a window's end would wait for the next beacon, or take late ones for early."""
    monkeypatch.setattr(aggregate, "TICK_S", 0.05)
    one = aggregator(tmp_path)

    monkeypatch.setattr(one, "_tail", lambda _: asyncio.sleep(0.5))
    assert asyncio.run(asyncio.wait_for(one.run(), 20)) == 0
    log = DiskFolder(tmp_path / "wal")
    opened, *ticks = [wal.decode(record.body) for record in wal.read(log, 0, wal.durable_mark(log))]
    assert isinstance(opened, wal.Opened)
    assert all(isinstance(tick, wal.Ticked) for tick in ticks)
    assert 3 <= len(ticks) <= 11
    assert ticks[0].written_ms - opened.written_ms < 500  # while the tail sleeps
