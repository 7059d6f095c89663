"""Leases in the real server: no lease, no ad; so many units, so many tokens; whatever dies."""

import json
import os
import signal
import time
from collections import Counter

import pytest
from msgspec.structs import replace

from server import families as table
from server.delivery.tokens import Keyring
from server.events.leases import WINDOW_S, WINDOWS_USED
from server.events.records import Kind
from server.store import Keyspace, connect
from server.store.plans import PlanStore
from tests.leases import BODY, LEASED, open_accounts, with_goal
from tests.redis_server import RedisServer
from tests.serving import ServerProcess, publish, start_server, wait_until

pytestmark = pytest.mark.process

KEY = "0123456789abcdef" * 4
HOUSE = 42


@pytest.fixture
def redis():
    with RedisServer() as server:
        yield server


def ask(server: ServerProcess) -> dict | None:
    answer = server.post("/api/v2", BODY)
    assert answer.status == 200
    return json.loads(answer.body)["decisions"]["top"]


def leases_of(ads: list[dict]) -> Counter[tuple[int, int]]:
    """How many tokens there are, by line item and lease."""
    found: Counter[tuple[int, int]] = Counter()
    keyring = Keyring(KEY.encode())
    for ad in ads:
        text = ad["impressionUrl"].partition("e=")[2]
        served = keyring.verify(text, Kind.IMPRESSION).served
        found[served.line_item_id, served.lease] += 1
    return found


def ads_of(server: ServerProcess, seconds: float) -> list[dict]:
    ads, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        ad = ask(server)
        if ad is not None:
            ads.append(ad)
    return ads


def until_leased(server: ServerProcess) -> None:
    server.wait(lambda: (ad := ask(server)) and ad["flightId"] == LEASED, "a leased ad")


def test_no_lease_no_ad_and_others_go_on(redis):
    publish(redis.url, with_goal(1000, house=True))  # control has opened nothing
    with start_server(redis.url, token_key=KEY) as server:
        ads = ads_of(server, 3.0)
        assert {line for line, _ in leases_of(ads)} == {HOUSE}
        assert {lease for _, lease in leases_of(ads)} == {0}
        assert server.totals().value(table.LEASE_REFUSALS) >= 1
        publish(redis.url, with_goal(1000))
        server.wait(lambda: ask(server) is None, "no ad at all")


def test_as_many_tokens_as_units_over_several_workers(redis):
    catalog = with_goal(10)
    publish(redis.url, catalog)
    store = open_accounts(redis.url, catalog)
    with start_server(redis.url, token_key=KEY, workers=2) as server:
        ads = ads_of(server, 3 * WINDOW_S)
        found = leases_of(ads)
        assert sum(found.values()) == 10
        assert {line for line, _ in found} == {LEASED}
        # Five a window: what each may grant of ten.
        assert all(lease and units <= 5 for (_, lease), units in found.items())
        assert store.out() == {"ever/l40.impressions": 10}
        assert server.totals().value(table.DECISIONS, "filled") == 10
    store.close()


def test_redis_away_leases_run_out_and_the_rest_goes_on(redis):
    catalog = with_goal(1_000_000, house=True)
    publish(redis.url, catalog)
    open_accounts(redis.url, catalog).close()
    with start_server(redis.url, token_key=KEY, workers=2) as server:
        until_leased(server)
        redis.stop()
        gone_s = time.monotonic()
        last_s = gone_s
        while time.monotonic() < gone_s + WINDOWS_USED * WINDOW_S + 2:
            ad = ask(server)  # 200, whatever happens
            assert ad is not None
            if ad["flightId"] == LEASED:
                last_s = time.monotonic()
            else:
                time.sleep(0.01)
        assert last_s - gone_s <= WINDOWS_USED * WINDOW_S
        assert server.totals().value(table.LEASE_CALLS, "failed") >= 1
        assert {ad["flightId"] for ad in ads_of(server, 0.5)} == {HOUSE}


def test_a_killed_agent_and_a_killed_worker_are_replaced(redis):
    catalog = with_goal(1_000_000)
    publish(redis.url, catalog)
    open_accounts(redis.url, catalog).close()
    with start_server(redis.url, token_key=KEY, workers=2) as server:
        until_leased(server)
        (agent,) = server.agents()
        os.kill(agent, signal.SIGKILL)
        server.wait(lambda: server.agents() - {agent}, "another agent")
        assert server.totals().value(table.RESTARTS, "agent") == 1
        before = server.totals().value(table.LEASE_UNITS, "granted")
        server.wait(
            lambda: ask(server) and server.totals().value(table.LEASE_UNITS, "granted") > before,
            "the new agent's first grant",
        )
        victim = min(server.workers())
        os.kill(victim, signal.SIGKILL)
        server.wait(
            lambda: len(server.workers() - {victim}) == 2 and server.status() == 200,
            "another worker",
        )
        until_leased(server)


def test_a_new_catalog_while_serving_leaves_no_gap(redis):
    catalog = with_goal(1_000_000)
    publish(redis.url, catalog)
    open_accounts(redis.url, catalog).close()
    with start_server(redis.url, token_key=KEY) as server:
        until_leased(server)
        end_s = time.monotonic() + 4
        while time.monotonic() < end_s:  # let it learn how many are wanted
            ask(server)
            time.sleep(0.02)
        generation = publish(redis.url, replace(catalog, zones=()))
        missed = asked = 0
        end_s = time.monotonic() + 20
        while server.totals().value(table.SERVING_GENERATION) < generation or asked < 20:
            missed += ask(server) is None
            asked += 1
            assert time.monotonic() < end_s
            time.sleep(0.02)
        assert (missed, asked >= 20) == (0, True)


def test_a_plan_s_rates_throttle_until_it_is_too_old(redis):
    publish(redis.url, with_goal(None, house=True))
    store = PlanStore(connect(redis.url), Keyspace())
    ids = LEASED.to_bytes(8, "little")
    booked = (-1).to_bytes(8, "little", signed=True)
    with start_server(redis.url, token_key=KEY) as server:
        assert {ad["flightId"] for ad in ads_of(server, 0.3)} == {LEASED}

        def plan(rate_ppm: int, age_s: int) -> None:
            store.write(int(time.time()) - age_s, ids, rate_ppm.to_bytes(8, "little"), booked)

        plan(500_000, 0)
        wait_until(lambda: server.totals().value(table.PLAN_MADE_AT_S), "the plan")
        found = Counter(ad["flightId"] for ad in ads_of(server, 2))
        assert abs(found[LEASED] / sum(found.values()) - 0.5) < 0.15
        plan(0, 0)
        server.wait(lambda: {ad["flightId"] for ad in ads_of(server, 0.2)} == {HOUSE}, "rate 0")
        plan(0, 1000)  # nobody makes them any more
        server.wait(lambda: {ad["flightId"] for ad in ads_of(server, 0.2)} == {LEASED}, "no plan")
        assert server.totals().value(table.PLAN_MADE_AT_S) == 0
    store.close()
