"""One control leads, another takes over within 5 s, and what a late one writes hurts nobody."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from server.errors import StoreError
from server.events.leases import window_of
from server.pacing.leader import LOCK_S, MARGIN_S, RENEW_S, WAIT_S, WORK_S_MAX, Leader, own_name
from server.store import Keyspace, connect
from server.store.budgets import BudgetStore
from server.store.leaders import LeaderStore
from server.store.learned import SCHEMA, Learned, LearnedStore
from server.store.plans import PlanStore
from tests.controlling import Control
from tests.serving import publish, wait_until

pytestmark = pytest.mark.plain

TAKEOVER_S_MAX = 5.0


# -- by the clock that is given


class Lock:
    """What Redis would say."""

    def __init__(self) -> None:
        self.leader = ""
        self.is_away = False
        self.dropped: list[str] = []

    def hold(self, name: str, lock_ms: int) -> str:
        if self.is_away:
            raise StoreError("away")
        assert lock_ms == LOCK_S * 1000
        self.leader = self.leader or name
        return self.leader

    def drop(self, name: str) -> None:
        if self.is_away:
            raise StoreError("away")
        self.dropped.append(name)


@pytest.fixture
def lock() -> Lock:
    return Lock()


@pytest.fixture
def leader(lock) -> Leader:
    made = Leader(lock, "me")
    made.beat(1000.0)
    return made


def test_it_leads_for_less_time_than_the_lock_lasts(leader):
    assert not leader.leads(1000.0)
    assert leader.step(1000.0) == RENEW_S
    assert leader.leads(1000.0)
    assert leader.leads(1000.0 + LOCK_S - MARGIN_S - 0.01)
    assert not leader.leads(1000.0 + LOCK_S - MARGIN_S)


def test_each_renewal_counts_from_its_own_asking(leader):
    for second in range(20):
        leader.step(1000.0 + second)
        assert leader.leads(1000.0 + second + LOCK_S - MARGIN_S - 0.01)


def test_while_another_leads_it_asks_often_and_does_not_lead(leader, lock):
    lock.leader = "other"
    assert leader.step(1000.0) == WAIT_S
    assert not leader.leads(1000.0)
    lock.leader = ""
    assert leader.step(1000.25) == RENEW_S
    assert leader.leads(1000.25)
    lock.leader = "other"  # ours ran out, as after a stop
    leader.step(1001.25)
    assert not leader.leads(1001.25)


def test_without_redis_the_lead_lasts_as_long_as_the_lock_and_one_line_tells(leader, lock, caplog):
    leader.step(1000.0)
    lock.is_away = True
    for step in range(1, 8):
        assert leader.step(1000.0 + step / 2) == WAIT_S
    assert leader.leads(1003.5)
    assert not leader.leads(1004.0)
    assert caplog.text.count("waits for Redis") == 1


def test_work_that_stands_still_lets_the_lock_run_out(leader, lock):
    leader.step(1000.0)
    late_s = 1000.0 + WORK_S_MAX + 0.1
    lock.leader = ""
    leader.step(late_s)
    assert lock.leader == ""
    assert not leader.leads(late_s)
    leader.beat(late_s)
    leader.step(late_s)
    assert leader.leads(late_s)


def test_the_lead_is_given_up_at_the_end(lock):
    with Leader(lock, "me") as leader:
        wait_until(lambda: lock.leader == "me", "the lead")
    assert lock.dropped == ["me"]
    assert not leader.leads(time.monotonic())


def test_takeover_is_within_five_seconds_by_its_numbers():
    assert LOCK_S + WAIT_S < TAKEOVER_S_MAX
    assert LOCK_S > 2 * RENEW_S + MARGIN_S  # one renewal may get lost
    assert own_name() != own_name()


# -- in Redis


def test_only_one_holds_the_lock_and_only_its_holder_drops_it(redis_url):
    store = LeaderStore(connect(redis_url), Keyspace())
    assert store.leader() == ""
    assert store.hold("a", 60_000) == "a"
    assert store.hold("b", 60_000) == "a"
    assert store.hold("a", 60_000) == "a"
    store.drop("b")
    assert store.leader() == "a"
    store.drop("a")
    assert store.hold("b", 50) == "b"
    wait_until(lambda: store.hold("a", 60_000) == "a", "the lock to run out")


def test_an_older_plan_is_refused_however_late_it_comes(redis_url):
    plans = PlanStore(connect(redis_url), Keyspace())
    stopped, successor = plans.draw(), plans.draw()
    assert plans.write(1, b"", b"", b"", successor) == successor
    assert plans.write(2, b"", b"", b"", stopped) is None
    assert plans.version() == successor
    assert plans.read().made_at_s == 1


def test_a_plan_drawn_before_redis_was_wiped_is_older_than_all_after(redis_url):
    client = connect(redis_url)
    plans = PlanStore(client, Keyspace())
    stopped = plans.draw()
    assert stopped >= int(time.time()) - 1  # numbers rise by one a plan, and time by more
    client.flushall()
    time.sleep(1.1)
    successor = plans.draw()
    assert plans.write(1, b"", b"", b"", successor) == successor
    assert plans.write(2, b"", b"", b"", stopped) is None


def test_what_a_late_one_learned_takes_nothing_away(redis_url):
    store = LearnedStore(connect(redis_url), Keyspace())
    assert store.load() is None
    assert store.save(Learned(SCHEMA, 7, 1, 1, b"new", b"new"))
    assert not store.save(Learned(SCHEMA, 6, 1, 1, b"old", b"old"))
    assert store.load().state == b"new"


def test_a_late_settling_and_a_late_reset_change_nothing(redis_url):
    budgets = BudgetStore(connect(redis_url), Keyspace())
    now = window_of(int(time.time()))
    assert budgets.reset(now - 20, now + 2, ["ever"]) is None
    assert budgets.open(now - 20, {"ever": {"l1.impressions": 5}}) is None
    assert budgets.settle(now - 19, {"ever": {"l1.impressions": 2}}) is None
    # The other leader has stood still since before all of that.
    assert budgets.settle(now - 19, {"ever": {"l1.impressions": 2}}) == now - 19
    assert budgets.open(now - 20, {"ever": {"l1.impressions": 0, "l2.impressions": 0}}) == now - 19
    assert budgets.reset(now - 20, now + 2, ["ever"]) == "kept"
    assert budgets.opened("ever") == {"l1.impressions": 7}


# -- with processes


@pytest.fixture
def pair(tmp_path, redis_url) -> Iterator[tuple[Control, Control]]:
    publish(redis_url)
    with ExitStack() as stack:
        first = Control(tmp_path, redis_url, "first")
        stack.callback(first.kill)
        first.wait_for('"leading"')
        second = Control(tmp_path, redis_url, "second")
        stack.callback(second.kill)
        second.wait_for('"waiting"')
        yield first, second


def takeover_s(redis_url: str, successor: Control) -> float:
    store = LeaderStore(connect(redis_url), Keyspace())
    started_s = time.monotonic()
    wait_until(lambda: successor.is_named(store.leader()), "the standby to lead", 20)
    return time.monotonic() - started_s


@pytest.mark.process
def test_a_killed_leader_is_replaced(pair, redis_url):
    first, second = pair
    first.kill()
    assert takeover_s(redis_url, second) < TAKEOVER_S_MAX
    second.wait_for('"goes by a catalog"')


@pytest.mark.process
def test_a_leader_told_to_end_gives_up_the_lead_at_once(pair, redis_url):
    first, second = pair
    assert first.stop() == 0
    assert takeover_s(redis_url, second) < 2.0


@pytest.mark.process
def test_a_leader_that_was_stopped_for_longer_than_its_lock_steps_down(pair, redis_url):
    first, second = pair
    first.signal(signal.SIGSTOP)
    assert takeover_s(redis_url, second) < TAKEOVER_S_MAX
    second.wait_for('"goes by a catalog"')
    first.signal(signal.SIGCONT)
    first.wait_for('"waiting"')
    time.sleep(2.5)  # for it to do harm
    store = LeaderStore(connect(redis_url), Keyspace())
    assert second.is_named(store.leader())
    assert first.log.count('"leading"') == 1
    assert "Traceback" not in first.log + second.log
