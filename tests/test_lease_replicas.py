"""ADCORE_REDIS_REPLICAS in the real server: what no replica has is not served."""

import json
import time

import pytest

from server import families as table
from server.events.leases import WINDOW_S, WINDOWS_USED
from server.store import connect
from tests.drill.cluster import RedisPair
from tests.leases import BODY, LEASED, open_accounts, with_goal
from tests.serving import ServerProcess, publish, start_server

pytestmark = pytest.mark.process

HOUSE = 42


@pytest.fixture
def pair(tmp_path_factory):
    pair = RedisPair(tmp_path_factory.mktemp("r"))
    yield pair
    pair.end()


def ask(server: ServerProcess) -> int:
    answer = server.post("/api/v2", BODY)
    assert answer.status == 200
    return int(json.loads(answer.body)["decisions"]["top"]["flightId"])


def calls(server: ServerProcess, status: str) -> float:
    return server.totals().value(table.LEASE_CALLS, status)


def test_a_grant_is_used_only_when_a_replica_has_it(pair):
    catalog = with_goal(1_000_000, house=True)
    publish(pair.url, catalog)
    store = open_accounts(pair.url, catalog)
    client = connect(pair.url)
    assert client.execute_command("WAIT", 1, 10_000) == 1
    with start_server(pair.url, redis_replicas=1) as server:
        server.wait(lambda: ask(server) == LEASED, "a leased ad")
        assert calls(server, "alone") == 0
        pair.kill(pair.replica)
        server.wait(lambda: calls(server, "alone") >= 1, "a grant that nobody else has")
        # What was granted before may be used until it ends, and nothing after it.
        end_s = time.monotonic() + WINDOWS_USED * WINDOW_S + 1
        while time.monotonic() < end_s:
            ask(server)
            time.sleep(0.05)
        out = store.out()["ever/l40.impressions"]
        granted, served = calls(server, "granted"), {ask(server) for _ in range(50)}
        server.wait(lambda: calls(server, "alone") >= 15, "many such grants")
        assert served | {ask(server) for _ in range(50)} == {HOUSE}
        assert calls(server, "granted") == granted
        # Set aside until they are settled, though nobody may use them.
        assert store.out()["ever/l40.impressions"] >= out
        assert out > server.totals().value(table.LEASE_UNITS, "granted")
    client.close()
    store.close()
