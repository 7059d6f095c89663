"""In production too the index is held against a scan, and a fault is counted and logged."""

import logging
from pathlib import Path

import pytest

from adcore import tables
from server import families as table
from server.config import Config
from server.delivery import bundle, core
from server.delivery.datacentres import Ranges
from server.delivery.http import Ask, GivenHeaders
from server.delivery.robots import Robots
from server.delivery.snapshot import Holder
from server.delivery.spool import Spool
from server.delivery.tally import Tally
from server.delivery.tracking import Tracker
from server.metrics import Metrics, totals
from tests import catalogs
from tests.delivery import NOW_S, make_keyring, no_users, write_bundle
from tests.test_layout import HEADER, SECTION

BODY = b'{"placements":[{"divName":"top","siteId":10}]}'


@pytest.fixture
def decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a worker's core over a snapshot, and have every request checked."""
    monkeypatch.setattr(core, "SHADOW_ONE_IN", 1)
    holder = Holder(tmp_path)
    metrics = Metrics(tmp_path, "worker-1")
    spool = Spool(tmp_path / "spool", "w", now_s=NOW_S, bytes_max=1 << 20)
    tracker = Tracker(
        make_keyring(),
        spool,
        holder.click_url,
        holder.lookbacks,
        metrics.tracked,
        Robots(),
        Ranges(),
    )
    deciding = core.Core(
        Config(), holder, make_keyring(), tracker, Tally(metrics), {}, no_users(metrics)
    )

    def decide() -> int:
        holder.poll(NOW_S)
        return deciding.decide(Ask("POST", core.API, "", GivenHeaders(()), ""), BODY).status

    yield decide
    spool.close()


def put(folder: Path, change: int) -> None:
    """Write a snapshot, with one byte of its first column's bitmap changed."""
    write_bundle(folder / "made.bin", catalogs.minimal())
    content = bytearray((folder / "made.bin").read_bytes())
    index = bytes(bundle.Bundle(folder / "made.bin").index.buffer)
    start, size = SECTION.unpack_from(index, HEADER.size + tables.BITMAPS * SECTION.size)
    assert size
    content[content.index(index) + start] ^= change
    name = f"snapshot-{change}.bin"
    (folder / name).write_bytes(content)
    bundle.make_current(folder, name)


def test_a_sound_index_agrees(tmp_path, decide):
    put(tmp_path, 0)
    assert [decide() for _ in range(5)] == [200] * 5
    assert totals(tmp_path).value(table.SHADOW_CHECKS, "agrees") == 5
    assert totals(tmp_path).value(table.SHADOW_CHECKS, "differs") == 0


def test_a_fault_is_counted_and_logged_and_the_request_answered(tmp_path, decide, caplog):
    put(tmp_path, 0xFF)
    with caplog.at_level(logging.ERROR):
        assert decide() == 200
    assert totals(tmp_path).value(table.SHADOW_CHECKS, "differs") == 1
    (record,) = caplog.records
    assert record.generation == 7
    assert record.rows > 0


def test_one_request_in_thousands_is_checked_unless_a_test_says_so(tmp_path, decide, monkeypatch):
    monkeypatch.setattr(core, "SHADOW_ONE_IN", 10_000)
    put(tmp_path, 0)
    assert {decide() for _ in range(100)} == {200}
    assert totals(tmp_path).value(table.SHADOW_CHECKS, "agrees") <= 2
