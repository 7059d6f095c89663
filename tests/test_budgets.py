"""The scripts over the accounts do what their twin does, call by call, and what they promise."""

from random import Random
from typing import Any

import pytest

from server.store import Keyspace, connect
from server.store.budgets import (
    GHOSTS_MAX,
    UNKNOWN,
    UNSETTLED_MAX,
    WANT_MAX,
    BudgetStore,
    Call,
    Granter,
    Limit,
    State,
    Want,
)
from tests.sim.budget_twin import WINDOW_US, BudgetTwin

pytestmark = pytest.mark.plain

NOW = 179_350_000  # a window
MILLION = 10**6


def us(window: int, part: float = 0.5) -> int:
    return int((window + part) * WINDOW_US)


def limit(name: str = "l1.impressions", amount: int = 1000, window_max: int = 20) -> Limit:
    return Limit("ever", name, amount, window_max)


@pytest.fixture
def store(redis_url):
    store = BudgetStore(connect(redis_url), Keyspace())
    yield store
    store.close()


class Made:
    """An account or some, opened in windows that all are settled, and whoever asks for them."""

    def __init__(self, store: Any, *limits: Limit, window: int = NOW) -> None:
        self.store, self.limits, self.window = store, limits, window
        self.sequence = self.seen = 0
        assert store.reset(window - 2, window - 1, ["ever"], us(window - 2)) is None
        assert store.settle(window - 1, {}) is None
        spent = {account.name: 0 for account in limits}
        assert store.open(window - 1, {"ever": spent}) is None

    def ask(self, *wants: Want, **changed: Any) -> Any:
        self.sequence += 1
        call = Call("s", self.sequence, 0, self.window, self.limits, wants, {})
        call = call._replace(**changed)
        return self.store.grant(call, us(changed.get("window", self.window)))

    def want(self, impressions: int, cost: int | None = None, **changed: Any) -> int:
        cost = impressions if cost is None else cost
        answer = self.ask(Want(impressions, ((0, cost),)), **changed)
        assert answer.status == "granted"
        return answer.granted[0]


# -- what is granted


def test_a_call_gets_what_it_wants_within_the_window_s_share(store):
    made = Made(store, limit())
    assert made.want(15) == 15
    assert made.want(15) == 5
    assert made.want(1) == 0
    assert store.out() == {"ever/l1.impressions": 20}
    made.window += 1
    assert made.want(15) == 15


def test_a_server_gets_a_quarter_of_what_is_free_or_one(store):
    made = Made(store, limit(amount=50, window_max=50))
    assert [made.want(50) for _ in range(5)] == [12, 9, 7, 5, 4]
    store._client.flushall()
    made = Made(store, limit("l2.impressions", 3, 50))
    assert [made.want(50) for _ in range(4)] == [1, 1, 1, 0]


def test_the_account_with_least_room_decides_and_all_are_charged(store):
    made = Made(store, limit(), limit("c7.micros", 40_000, 8000), limit("l2.impressions"))
    wants = (Want(10, ((0, 10), (1, 10_000))), Want(10, ((2, 10), (1, 10_000))))
    assert made.ask(*wants).granted == [8, 0]
    assert store.out() == {"ever/l1.impressions": 8, "ever/c7.micros": 8000}


def test_nothing_is_granted_of_what_nobody_opened(store):
    made = Made(store, limit())
    made.limits = (limit(), limit("c7.impressions"))
    assert made.ask(Want(5, ((0, 5), (1, 5)))).granted == [UNKNOWN]
    assert store.out() == {}
    assert store.open(NOW - 1, {"ever": {"c7.impressions": 990, "l1.impressions": 999}}) is None
    assert made.ask(Want(5, ((0, 5), (1, 5)))).granted == [2]  # a quarter of what is left
    assert store.opened("ever") == {"c7.impressions": 990, "l1.impressions": 0}


def test_a_part_of_what_was_wanted_costs_its_share_rounded_up(store):
    made = Made(store, limit("l1.micros", 1000, 5))
    assert made.want(100, 10) == 50  # a tenth each
    assert store.out() == {"ever/l1.micros": 5}


@pytest.mark.parametrize("price", [1, 999, 1001, 2**40 + 1, 10**12])
def test_numbers_stay_exact_up_to_the_largest(store, price):
    amount = 10**15
    real, twin = (Made(each, limit("l1.micros", amount, amount)) for each in (store, BudgetTwin()))
    for impressions in (1, 7, WANT_MAX):
        cost = -(-impressions * price // 1000)
        assert real.want(impressions, cost) == twin.want(impressions, cost)
        assert store.out() == twin.store.out()


# -- what comes back


def test_what_is_returned_is_granted_again(store):
    made = Made(store, limit())
    assert made.want(20) == 20
    back = {NOW: {"ever/l1.impressions": 15}}
    assert made.want(20, returns=back) == 15
    made.window += 1
    assert made.want(1, returns={NOW: {"ever/l1.impressions": 99}}) == 1  # no more than granted
    assert store.out() == {"ever/l1.impressions": 1}


def test_what_is_settled_can_not_be_returned(store):
    made = Made(store, limit())
    made.want(20)
    assert store.settle(NOW, {"ever": {"l1.impressions": 7, "l9.impressions": 3}}) is None
    assert (store.out(), store.opened("ever")) == ({}, {"l1.impressions": 7})
    made.window += 1
    made.want(5, returns={NOW: {"ever/l1.impressions": 20}})
    assert store.out() == {"ever/l1.impressions": 5}


def test_a_window_is_settled_once_and_in_order(store):
    Made(store, limit())
    billed = {"ever": {"l1.impressions": 3}}
    assert store.settle(NOW + 1, billed) == NOW - 1
    assert store.settle(NOW, billed) is None
    assert store.settle(NOW, billed) == NOW
    assert store.open(NOW - 1, billed) == NOW
    assert store.opened("ever") == {"l1.impressions": 3}
    assert store.state() == State(NOW, NOW - 2, False)


# -- what changes nothing


def test_a_repeated_call_neither_grants_nor_returns_twice(store):
    made = Made(store, limit())
    made.want(10)
    back = {NOW: {"ever/l1.impressions": 2}}
    made.want(2, returns=back)
    before = store.out()
    for sequence in (2, 1):
        answer = made.ask(Want(2, ((0, 2),)), sequence=sequence, returns=back)
        assert (answer.status, answer.granted, store.out()) == ("repeat", [], before)
    assert made.ask(Want(2, ((0, 2),)), sequence=1, server="another").granted == [2]


@pytest.mark.parametrize("off", [-2, -1, 1, 5])
def test_another_window_than_redis_s_own_is_told_the_time(store, off):
    made = Made(store, limit())
    call = Call("s", 1, 0, NOW + off, made.limits, (Want(5, ((0, 5),)),), {})
    answer = store.grant(call, us(NOW))
    assert (answer.status, answer.now_us, answer.granted) == ("window", us(NOW), [])
    assert store.grant(call._replace(window=NOW), us(NOW)).granted == [5]  # the same number


def test_a_clock_that_goes_back_grants_nothing(store):
    made = Made(store, limit())
    assert made.want(5) == 5
    assert made.ask(Want(5, ((0, 5),)), window=NOW - 1).status == "late"


def test_no_control_for_two_hours_stops_everything(store):
    made = Made(store, limit())
    assert made.want(1, window=NOW - 1 + UNSETTLED_MAX) == 1
    assert made.ask(Want(1, ((0, 1),)), window=NOW + UNSETTLED_MAX).status == "lost"
    assert store.state().is_lost
    assert store.settle(NOW, {}) == store.open(NOW - 1, {}) == "lost"


# -- the fence


def restarted(store: BudgetStore) -> None:
    """As a Redis that comes back: its state was written by a process of another run id."""
    store._client.hset(Keyspace().budget_state, "run_id", "another")


def test_after_a_restart_the_windows_that_may_be_lost_are_ghosts(store):
    made = Made(store, limit(amount=100, window_max=20))
    made.want(10)
    restarted(store)
    made.window = NOW + 1
    assert made.ask(Want(5, ((0, 5),))).status == "fenced"
    assert store.ghosts() == {NOW, NOW + 1, NOW + 2}
    made.window = NOW + 3
    # 100 - 10 - 3 x 20 = 30, and of that a quarter.
    assert made.want(20) == 7
    for window in range(NOW, NOW + 3):
        assert store.settle(window, {}) is None
    assert store.ghosts() == set()
    assert made.want(20) == 13  # what the window has left


def test_returns_are_taken_in_a_window_that_is_fenced(store):
    made = Made(store, limit())
    made.want(10)
    restarted(store)
    made.ask(returns={NOW: {"ever/l1.impressions": 4}})
    assert store.out() == {"ever/l1.impressions": 6}


def test_a_tail_of_too_many_windows_is_lost(store):
    made = Made(store, limit())
    made.want(1)
    restarted(store)
    assert made.ask(window=NOW + GHOSTS_MAX - 2).status == "fenced"
    restarted(store)
    assert made.ask(window=NOW + 2 * GHOSTS_MAX).status == "lost"
    assert store.state().is_lost


def test_a_state_from_before_what_a_caller_has_seen_is_lost(store):
    made = Made(store, limit())
    seen = made.ask().seq
    assert made.ask(seen=seen).status == "granted"
    assert made.ask(seen=seen + 9).status == "lost"


def test_a_reset_makes_ghosts_of_all_that_is_not_closed(store):
    made = Made(store, limit())
    made.want(20)
    assert store.reset(NOW - 1, NOW + 1, ["ever"], us(NOW)) == "kept"
    store._client.hincrby(Keyspace().budget_state, "begun", 1)
    assert made.ask().status == "lost"
    assert store.reset(NOW - 1, NOW, ["ever"], us(NOW)) == "late"
    assert store.reset(NOW - 1, NOW + 1, ["ever"], us(NOW)) is None
    assert store.ghosts() == {NOW, NOW + 1}
    assert store.opened("ever") == store.out() == {}
    assert made.ask(seen=0).status == "fenced"
    made.window = NOW + 2
    assert made.ask(Want(1, ((0, 1),))).granted == [UNKNOWN]
    assert store.open(NOW - 1, {"ever": {"l1.impressions": 5}}) is None
    assert made.want(20) == 20
    assert store.settle(NOW, {}) is None
    assert store.out() == {"ever/l1.impressions": 20}  # what was granted before is gone for good


def test_an_empty_redis_is_lost_until_it_is_reset(store):
    assert store.state() is None
    call = Call("s", 1, 0, NOW, (), (), {})
    assert store.grant(call, us(NOW)).status == "lost"
    assert store.settle(NOW, {}) == store.open(NOW, {}) == "lost"


# -- by itself


def test_redis_s_own_clock_and_a_script_it_has_forgotten(store):
    now = store.now_us() // WINDOW_US
    assert store.reset(now - 1, now + 2, []) is None
    granter = Granter(store, "s")
    store._client.script_flush()
    answer = granter.ask(now, (), (), {})
    assert answer.status in ("fenced", "window")
    assert abs(answer.now_us - store.now_us()) < 5_000_000


def test_the_largest_click_goal_is_exact_to_a_thousandth(store):
    """10^12 clicks in thousandths, all but three of them spent."""
    most, name = 10**12 * 1000, "l1.clicks"
    now = store.now_us() // WINDOW_US
    moment_us = now * WINDOW_US + 1
    assert store.reset(now - 3, now - 2, [], (now - 3) * WINDOW_US) is None
    for window in (now - 2, now - 1):
        assert store.settle(window, {}) is None
    assert store.open(now - 1, {"ever": {name: most - 3001}}) is None
    limits = [Limit("ever", name, most, most // 50)]
    granter = Granter(store, "s")
    answer = granter.ask(now, limits, [Want(1, ((0, 2999),))], {}, moment_us)
    assert (answer.status, answer.granted) == ("granted", [1])
    answer = granter.ask(now, limits, [Want(2, ((0, 3),)), Want(2, ((0, 2),))], {}, moment_us)
    assert answer.granted == [1, 0]  # two thousandths, and none for who is next
    assert store.out() == {f"ever/{name}": 3001}
    assert store.settle(now, {"ever": {name: 2999}}) is None
    assert store.opened("ever") == {name: most - 2}
    assert store.out() == {}


def test_without_the_replicas_asked_for_a_grant_may_not_be_used(redis_url):
    store = BudgetStore(connect(redis_url), Keyspace(), replicas=1)
    made = Made(store, limit())
    answer = made.ask(Want(5, ((0, 5),)))
    assert (answer.status, answer.granted) == ("alone", [])
    store.close()


@pytest.mark.parametrize("seed", range(60))
def test_the_twin_answers_as_redis_does(store, seed):
    from tests.sim.budget_calls import play

    play(store, BudgetTwin(), Random(seed))
