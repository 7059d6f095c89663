"""What a decision on a lease says: its tokens, all of them, carry the lease; a preview's none."""

import time

import msgspec
import pytest

from server.config import Config
from server.delivery import bundle, core
from server.delivery.datacentres import Ranges
from server.delivery.http import Ask, GivenHeaders
from server.delivery.leasing import WINDOW_NS, LeaseTable
from server.delivery.robots import Robots
from server.delivery.snapshot import LEASES, Holder
from server.delivery.spool import Spool
from server.delivery.tally import Tally
from server.delivery.tracking import Tracker
from server.events.records import Kind
from server.metrics import Metrics
from tests.delivery import NOW_S, make_keyring, no_users, write_bundle
from tests.leases import LEASED, with_goal

OPS_KEY = "0123456789abcdef" * 3
BODY = (
    b'{"placements":[{"divName":"top","siteId":10,"adTypes":[1],"eventIds":[12]},'
    b'{"divName":"side","siteId":10,"adTypes":[1]}]}'
)


@pytest.fixture
def decide(tmp_path):
    write_bundle(tmp_path / "snapshot-1.bin", with_goal(1000))
    bundle.make_current(tmp_path, "snapshot-1.bin")
    leases = LeaseTable(tmp_path / LEASES, create=True)
    window = time.monotonic_ns() // WINDOW_NS
    slot = leases.insert(LEASED)
    leases.announce()
    leases.put(slot, window, 100)
    metrics, holder = Metrics(tmp_path, "worker-1"), Holder(tmp_path)
    assert holder.poll(NOW_S)
    spool = Spool(tmp_path / "spool", "w", now_s=NOW_S, bytes_max=1 << 28)
    tracker = Tracker(
        make_keyring(), spool, holder.click_url, holder.lookbacks, metrics.tracked, Robots(),
        Ranges(),
    )  # fmt: skip
    config = Config(preview=True, ops_key=OPS_KEY)
    worker = core.Core(
        config, holder, make_keyring(), tracker, Tally(metrics), {}, no_users(metrics)
    )

    def ask(*headers: tuple[str, str]) -> tuple[set[int], int, dict]:
        answer = worker.decide(Ask("POST", core.API, "", GivenHeaders(headers), ""), BODY)
        body = msgspec.json.decode(answer.body)
        before = leases.left(slot)[1]
        return {*found_in(body["decisions"], window)}, before, body

    def found_in(decisions, window):
        for ad in filter(None, decisions.values()):
            urls = [ad["impressionUrl"], ad["clickUrl"], *(it["url"] for it in ad["events"])]
            for url in urls:
                text = url.partition("e=")[2]
                served = make_keyring().verify(text, *Kind).served
                assert served.line_item_id == LEASED
                yield served.lease - window if served.lease else None

    yield ask
    spool.close()


def test_every_token_carries_the_lease(decide):
    leases, left, body = decide()
    assert body["decisions"]["top"]["events"]
    assert (leases, left) == ({0}, 98)  # of this window; a unit for each placement


def test_previews_and_explanations_take_none(decide):
    assert decide(("x-adcore-time", str(NOW_S)))[:2] == ({None}, 100)
    explain = (("x-adcore-explain", "1"), ("authorization", f"Bearer {OPS_KEY}"))
    leases, left, body = decide(*explain)
    assert (leases, left) == ({None}, 100)
    assert "explain" in body
