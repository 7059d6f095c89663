"""The lease agent against a real Redis: what it asks, puts, gives back, and survives."""

import math
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from adcore.catalog import Cpc, Goal
from server import families as table
from server.delivery import agent as agents
from server.delivery import bundle
from server.delivery.agent import Agent, Line
from server.delivery.leasing import WINDOW_NS, LeaseTable
from server.metrics import Metrics, totals
from server.store import Keyspace, connect
from server.store.budgets import BudgetStore, Granter
from tests.delivery import write_bundle
from tests.leases import LEASED, open_accounts, with_goal
from tests.redis_server import RedisServer

FIELD = "ever/l40.impressions"


class Server:
    """A run folder with an agent; takes are a worker's."""

    def __init__(self, folder: Path, redis_url: str, catalog) -> None:
        self.folder = folder
        self.store = BudgetStore(connect(redis_url), Keyspace())
        self.lives = 0
        self.serve(catalog)
        self.start()

    def serve(self, catalog, generation=1):
        name = f"snapshot-{generation}.bin"
        write_bundle(self.folder / name, catalog, generation)
        bundle.make_current(self.folder, name)

    def start(self):
        self.lives += 1
        self.table = LeaseTable(self.folder / "leases.bin", create=True)
        granter = Granter(self.store, f"server.{self.lives}")
        self.agent = Agent(granter, self.table, self.folder, Metrics(self.folder, "agent"))

    @property
    def slot(self):
        return self.table.find_all()[LEASED]

    def take(self, count=1):
        return sum(
            bool(self.table.take(self.slot, LEASED, time.monotonic_ns())) for _ in range(count)
        )

    def left(self):
        return self.table.left(self.slot)[1]

    def out(self):
        return self.store.out().get(FIELD, 0)

    def count(self, family, *labels):
        return totals(self.folder).value(family, *labels)


@pytest.fixture
def server(tmp_path, redis_url):
    catalog = with_goal(100_000)
    open_accounts(redis_url, catalog).close()
    return Server(tmp_path, redis_url, catalog)


def test_who_is_not_wanted_costs_nothing(server):
    assert server.agent.step()
    assert (server.left(), server.out()) == (0, 0)


def test_who_is_wanted_gets_a_unit_then_as_much_as_it_uses(server):
    server.agent.step()
    assert server.take() == 0
    server.agent.step()
    assert (server.left(), server.out()) == (1, 1)
    used = 0
    for _ in range(8):
        used += server.take(20)
        server.agent.step()
    assert server.left() >= 20
    assert server.out() == used + server.left()
    assert server.count(table.LEASE_UNITS, "granted") == server.out()
    assert server.count(table.LEASES_HELD) == server.left()
    assert server.count(table.LEASE_LINES) == 1


def test_small_leases_of_a_click_goal_take_thousandths_and_return_them(
    tmp_path, redis_url, monkeypatch
):
    catalog = with_goal(None)
    sponsor, house = catalog.line_items
    clicks = replace(sponsor, rate=Cpc(400_000, 1000), goal=Goal("clicks", 50))
    catalog = replace(catalog, line_items=(clicks, house))
    open_accounts(redis_url, catalog).close()
    server = Server(tmp_path, redis_url, catalog)
    server.agent.step()
    for _ in range(4):
        server.take(3)
        server.agent.step()
    granted = server.count(table.LEASE_UNITS, "granted")
    out = server.store.out()["ever/l40.clicks"]
    # Each grant is rounded up to a thousandth, not to a click.
    assert 0 < out <= 1.25 * granted + 5 < 100
    left = server.left()
    monkeypatch.setattr(agents, "SLEEPS_AFTER_S", -1.0)
    server.agent.step()
    assert out - server.store.out()["ever/l40.clicks"] == 5 * left // 4 > 0


@pytest.mark.parametrize("per_second", [1, 10, 1000])
def test_it_holds_three_seconds_of_use_and_two_deviations(per_second):
    line = Line(0, (), 0.0)
    for second in range(60):
        line.note(per_second, 0, 5, 1.0, float(second))
    held = 3 * per_second
    assert line.target == pytest.approx(held + 2 * math.sqrt(held), rel=0.02, abs=1)


def test_a_dry_line_item_grows_threefold_and_an_idle_one_keeps_a_unit():
    line = Line(0, (), 0.0)
    line.note(9, 1, 0, 1.0, 0.0)
    assert line.target == 27
    for second in range(60):
        line.note(0, 0, 1, 1.0, 1.0 + second)
    assert line.target == 1


def test_a_new_window_s_grant_returns_the_rest_of_the_old_one(server, monkeypatch):
    server.agent.step()
    server.take()
    server.agent.step()
    window = server.table.left(server.slot)[0]
    # Until Redis's clock is in another window and the line's turn has come.
    while server.table.left(server.slot)[0] == window:
        time.sleep(0.3)
        monkeypatch.setattr(agents, "RENEWAL_STEPS", 1)
        assert server.agent.step()
    assert server.left() == 1
    assert server.out() == 2
    server.agent.step()
    assert server.out() == 1
    assert server.count(table.LEASE_UNITS, "returned") == 1


def test_who_was_not_wanted_for_long_sleeps_and_gives_back(server, monkeypatch):
    server.agent.step()
    server.take()
    server.agent.step()
    assert server.table.is_awake(server.slot)
    monkeypatch.setattr(agents, "SLEEPS_AFTER_S", -1.0)
    server.agent.step()
    assert not server.table.is_awake(server.slot)
    assert (server.left(), server.out()) == (0, 0)


def test_a_line_item_that_is_gone_gives_back_and_its_entry_rests(server, monkeypatch):
    server.agent.step()
    slot = server.slot
    server.take()
    server.agent.step()
    server.serve(with_goal(None), 2)
    server.agent.step()
    assert (server.table.find_all(), server.table.left(slot), server.out()) == ({}, (0, 0), 0)
    server.serve(with_goal(5), 3)
    server.agent.step()
    assert server.slot != slot
    server.serve(with_goal(None), 4)
    server.agent.step()
    monkeypatch.setattr(agents, "EMPTY_S", -1.0)
    server.serve(with_goal(5), 5)
    server.agent.step()
    assert server.slot == slot


def test_a_successor_keeps_what_its_predecessor_was_granted_and_returns_none_of_it(server):
    server.agent.step()
    server.take()
    server.agent.step()
    assert server.left() == 1
    server.start()
    server.agent.step()
    assert server.table.is_awake(server.slot)
    assert server.left() >= 1
    assert server.out() >= server.left()


def test_control_has_not_opened_the_account(tmp_path, redis_url):
    open_accounts(redis_url, with_goal(None)).close()
    server = Server(tmp_path, redis_url, with_goal(10))
    server.agent.step()
    server.take()
    assert server.agent.step()
    assert server.left() == 0
    assert server.count(table.LEASE_UNKNOWN) == 1


def test_accounts_that_are_lost_grant_nothing(tmp_path, redis_url):
    server = Server(tmp_path, redis_url, with_goal(10))
    server.agent.step()
    server.take()
    assert server.agent.step()
    assert server.left() == 0
    assert server.count(table.LEASE_CALLS, "lost") >= 1


def test_redis_away_changes_nothing_and_it_goes_on_when_it_is_back(tmp_path):
    catalog = with_goal(1000)
    with RedisServer() as redis:
        open_accounts(redis.url, catalog).close()
        server = Server(tmp_path, redis.url, catalog)
        server.agent.step()
        server.take()
        server.agent.step()
        assert server.left() == 1
        redis.stop()
        assert not server.agent.step()
        assert server.left() == 1
        assert server.count(table.LEASE_CALLS, "failed") == 1
        redis.start()
        assert server.agent.step()  # another Redis: what it knew is lost, and control must come
        assert server.count(table.LEASE_CALLS, "lost") == 1
        assert server.left() == 1


def test_the_clock_is_never_behind_redis(server):
    server.agent.step()
    server.take()
    for _ in range(20):
        server.agent.step()
        redis_us = server.store.now_us()
        ours_us = (time.monotonic_ns() + server.table.clock_ns) // 1000
        assert ours_us >= redis_us
        assert ours_us <= server.store.now_us() + 1_000_000


def test_a_window_of_our_own_is_corrected_by_redis(server):
    server.agent.step()
    server.table.clock_ns -= 3 * WINDOW_NS
    server.take()
    server.agent.step()
    assert server.left() == 1
    assert server.count(table.LEASE_CALLS, "window") == 1
    assert server.table.left(server.slot)[0] == server.store.now_us() // 10**7


def test_a_spent_line_item_is_asked_for_more_and_more_rarely():
    line = Line(0, (), 0.0)
    pauses = []
    for second in range(100):
        before = line.refused_s
        line.note(0, 0, 0, 1.0, 0.0)
        if line.asks_at_s <= second:
            line.answer(0, float(second))
            pauses.append(line.refused_s)
        assert line.refused_s >= before
    assert pauses == [1, 2, 4, 8, 16, 32, 32, 32]
    line.answer(3, 0.0)
    assert line.refused_s == 0


def test_nothing_is_asked_for_where_there_are_no_budgets(tmp_path, redis_url):
    server = Server(tmp_path, redis_url, with_goal(None))
    assert server.agent.step()
    assert not any(
        server.count(table.LEASE_CALLS, result) for result in table.LEASE_CALLS.labels["result"]
    )
