"""Control settles what the ledger has closed, opens what is new, and starts again after a loss."""

from random import Random

import msgspec
import pytest

from adcore.catalog import Budget, Catalog, Cpa, Cpc, Cpm, Goal
from server.events.leases import closed_window, closes_s, window_of, window_start_s
from server.pacing.accounts import accounts_of, period
from server.pacing.settling import SETTLED_A_STEP_MAX, Settling, Step
from server.store import Keyspace, connect
from server.store.buckets import EVER, Spent, quarter, window
from server.store.budgets import Granter, Limit, Want
from server.store.counts import CountsStore
from tests.catalogs import minimal
from tests.sim.budget_box import BudgetBox

pytestmark = pytest.mark.plain

NOW_S = 1_793_487_600 - 1800  # half an hour before midnight in Berlin: 2026-10-31T22:30Z
BERLIN = "Europe/Berlin"
TODAY, TOMORROW = "2026-10-31", "2026-11-01"


class Shard:
    """A shard's counts in Redis, filled as its aggregator does."""

    def __init__(self, client, number: int = 0) -> None:
        self.store = CountsStore(client, Keyspace(), number)
        self.place = 0

    def count(self, time_s: int | None, *spent: tuple[int, int, Spent]) -> None:
        """Add what lines spent in windows, and say what time it is."""
        totals: dict = {}
        for line, of, amounts in spent:
            for bucket in (window(of), quarter(window_start_s(of) // 900), EVER):
                fields = totals.setdefault(bucket, {})
                for name, amount in zip(Spent._fields, amounts, strict=True):
                    field = f"{line}.{name}".encode()
                    fields[field] = fields.get(field, 0) + amount
        before = f"log:{self.place}:0" if self.place else ""
        self.place += 1
        assert self.store.apply(before, f"log:{self.place}:0", totals, time_s) is None


def catalog(**campaign: object) -> Catalog:
    """Line items 1 and 2 in campaign 30, with limits by day and in total, and the campaign's."""
    made = minimal()
    item = made.line_items[0]
    lines = tuple(
        msgspec.structs.replace(
            item,
            id=number,
            rate=Cpm(2_000_000),
            goal=Goal("impressions", 1000, 300),
            budget=Budget(10**9),
            time_zone=BERLIN,
        )
        for number in (1, 2)
    )
    limits = {"goal": Goal("impressions", 1500)} | campaign
    owner = msgspec.structs.replace(made.campaigns[0], **limits)
    return msgspec.structs.replace(made, campaigns=(owner, made.campaigns[1]), line_items=lines)


def impressions(number: int) -> Spent:
    return Spent(number, 0, 0, number * 2_000_000)


@pytest.fixture
def client(redis_url):
    client = connect(redis_url)
    yield client
    client.close()


class Box(BudgetBox):
    """At a moment of ours."""

    now_s = 0

    def reset(self, settled, ghosts_to, periods, moment_us=None):
        return super().reset(settled, ghosts_to, periods, self.now_s * 10**6)


class Made:
    """Control in front of one shard or two, whose logs are at NOW_S."""

    def __init__(self, client, shards: int = 1) -> None:
        self.box = Box(client)
        self.shards = [Shard(client, number) for number in range(shards)]
        for shard in self.shards:
            shard.count(NOW_S)
        self.settling = Settling(self.box, [shard.store for shard in self.shards])
        self.settling.take(catalog())

    def step(self, now_s: int) -> Step:
        self.box.now_s = now_s
        return self.settling.step(now_s)

    def settled(self) -> int:
        return self.box.state().settled


CLOSED = closed_window(NOW_S)


def test_the_first_step_makes_the_accounts_and_opens_them(client):
    made = Made(client)
    made.shards[0].count(NOW_S, (1, CLOSED, impressions(7)), (2, CLOSED - 3, impressions(5)))
    made.shards[0].count(NOW_S, (1, CLOSED + 1, impressions(100)))  # may still become more
    # Of each line one by day, twice (today's and tomorrow's), and two for ever; the campaign's one.
    assert made.step(NOW_S) == Step(True, True, 0, 9)
    assert made.settled() == CLOSED
    assert made.box.opened("ever") == {
        "l1.impressions": 7,
        "l1.micros": 14_000,
        "l2.impressions": 5,
        "l2.micros": 10_000,
        "c30.impressions": 12,
    }
    assert made.box.opened(TODAY) == {"l1.impressions": 7, "l2.impressions": 5}
    assert made.box.opened(TOMORROW) == {"l1.impressions": 0, "l2.impressions": 0}
    assert made.box.ghosts() == set(range(CLOSED + 1, window_of(NOW_S) + 3))
    assert made.step(NOW_S) == Step()


def test_what_all_shards_have_closed_is_settled(client):
    made = Made(client, shards=2)
    made.step(NOW_S)
    one, other = made.shards
    one.count(NOW_S + 30, (1, CLOSED + 1, impressions(3)), (1, CLOSED + 3, impressions(1)))
    assert made.step(NOW_S + 30).settled == 0
    other.count(NOW_S + 10, (1, CLOSED + 1, impressions(4)), (2, CLOSED + 1, Spent(0, 9, 0, 1)))
    assert made.step(NOW_S + 30).settled == 1
    assert made.box.opened("ever")["l1.impressions"] == 7
    assert made.box.opened("ever")["c30.impressions"] == 7
    assert made.box.opened("ever")["l2.micros"] == 1  # of a thousandth
    assert made.box.opened(TODAY)["l1.impressions"] == 7
    other.count(NOW_S + 30)
    assert made.step(NOW_S + 30).settled == 2
    assert made.box.opened("ever")["l1.impressions"] == 8


def test_a_window_after_midnight_is_the_next_day_s(client):
    made = Made(client)
    made.step(NOW_S)
    midnight = window_of(NOW_S + 1800)
    time_s = closes_s(midnight)
    made.shards[0].count(time_s, (1, midnight - 1, impressions(2)), (1, midnight, impressions(5)))
    while made.settled() < midnight:
        assert made.step(time_s).settled <= SETTLED_A_STEP_MAX
    assert made.box.opened(TODAY)["l1.impressions"] == 2
    assert made.box.opened(TOMORROW)["l1.impressions"] == 5
    assert made.box.opened("ever")["l1.impressions"] == 7


def test_a_limit_that_is_new_starts_with_what_was_spent_before(client):
    made = Made(client)
    made.shards[0].count(NOW_S, (1, CLOSED - 200, impressions(7)))
    made.step(NOW_S)
    made.shards[0].count(
        NOW_S + 20, (1, CLOSED + 1, impressions(2)), (1, CLOSED + 9, impressions(4))
    )
    made.settling.take(catalog(budget=Budget(daily_micros=10**9), time_zone="Asia/Tokyo"))
    assert made.step(NOW_S + 20) == Step(True, False, 2, 1)
    tokyo = period(NOW_S, "Asia/Tokyo")
    assert made.box.opened(tokyo)["c30.micros"] == 18_000
    made.shards[0].count(closes_s(CLOSED + 9))
    made.step(NOW_S + 90)
    assert made.box.opened(tokyo)["c30.micros"] == 26_000


def test_clicks_and_conversions_are_opened_and_settled_in_thousandths(client):
    made, one = Made(client), catalog()
    goals = Goal("clicks", 50), Goal("conversions", 50)
    rates = Cpc(400_000, 1000), Cpa(400_000, 1000)
    lines = tuple(
        msgspec.structs.replace(line, goal=goal, rate=rate)
        for line, goal, rate in zip(one.line_items, goals, rates, strict=True)
    )
    made.settling.take(msgspec.structs.replace(one, line_items=lines))
    spent = Spent(9000, 3, 2, 5 * 400_000_000)
    made.shards[0].count(NOW_S, (1, CLOSED, spent), (2, CLOSED, spent))
    made.step(NOW_S)
    made.shards[0].count(NOW_S + 10, (1, CLOSED + 1, spent), (2, CLOSED + 1, spent))
    for times in (1, 2):
        opened = made.box.opened("ever")
        assert opened["l1.clicks"] == 3000 * times
        assert opened["l2.conversions"] == 2000 * times
        assert opened["l1.micros"] == 2_000_000 * times
        assert opened["c30.impressions"] == 18_000 * times
        made.step(NOW_S + 10)


def test_counts_that_redis_let_go_of_are_not_unspent(client):
    """A log that stood still for hours has an old time, and its windows are gone."""
    made = Made(client)
    made.step(NOW_S)
    made.shards[0].count(NOW_S + 30, (1, CLOSED + 1, impressions(3)))
    client.delete(Keyspace().count_bucket(0, window(CLOSED + 1)))  # as by its expiry
    assert made.step(NOW_S + 7500) == Step()
    assert made.settled() == CLOSED
    assert made.step(NOW_S + 30).settled == 3  # by its own time alone nothing would tell


def test_nothing_is_opened_of_counts_that_redis_let_go_of(client):
    made = Made(client)
    made.step(NOW_S)
    made.settling.take(catalog(budget=Budget(10**9)))
    assert made.step(NOW_S + 7500).opened == 0
    assert made.step(NOW_S).opened == 1


def test_a_line_item_that_is_gone_is_still_its_campaign_s(client):
    made = Made(client)
    made.step(NOW_S)
    one = catalog()
    made.settling.take(msgspec.structs.replace(one, line_items=one.line_items[:1]))
    made.shards[0].count(NOW_S + 10, (2, CLOSED + 1, impressions(6)))
    made.step(NOW_S + 10)
    assert made.box.opened("ever")["c30.impressions"] == 6
    assert made.box.opened("ever")["l2.impressions"] == 6


def test_counts_that_are_being_made_again_are_not_the_truth(client):
    made = Made(client, shards=2)
    made.step(NOW_S)
    made.shards[0].count(NOW_S + 500)
    made.shards[1].count(None)
    assert made.step(NOW_S + 500) == Step(is_known=False)
    made.shards[1].count(NOW_S - 500)  # from before what is settled
    before = made.box.copy()
    made.box._client.delete(Keyspace().budget_base("ever"))
    made.settling.forget()
    assert made.step(NOW_S + 500) == Step()
    assert made.box.opened("ever") == {}
    made.box.go_back(before)


def test_after_a_loss_it_starts_from_what_is_closed(client):
    made = Made(client)
    made.step(NOW_S)
    later = NOW_S + 100
    made.shards[0].count(later, (1, CLOSED + 4, impressions(9)), (1, CLOSED + 12, impressions(1)))
    made.step(later)
    for key in client.scan_iter("*{budget}*"):
        client.delete(key)
    step = made.step(later)
    assert (step.was_reset, step.opened) == (True, 9)
    assert made.settled() == closed_window(later)
    assert made.box.opened("ever")["l1.impressions"] == 9


def test_accounts_that_redis_lost_are_opened_again(client):
    made = Made(client)
    made.step(NOW_S)
    without = {k: v for k, v in made.box.copy().items() if b"base" not in k}
    made.shards[0].count(NOW_S + 50, (1, CLOSED + 2, impressions(3)))
    made.step(NOW_S + 50)
    kept = made.box.copy()
    made.box.go_back(without | {k: v for k, v in kept.items() if b"count" in k})
    assert made.step(NOW_S + 50) == Step(True, False, 5, 9)
    assert made.box.opened("ever")["l1.impressions"] == 3


def test_a_ledger_hours_behind_lets_nothing_begin(client):
    made = Made(client)
    assert made.step(NOW_S + 7300) == Step()
    assert made.box.state() is None


@pytest.mark.parametrize("seed", range(6))
def test_a_day_of_grants_is_settled_to_the_unit(client, seed):
    """Everything billed is in the bases when all is settled, and nothing is left open."""
    random, made = Random(seed), Made(client, shards=2)
    made.step(NOW_S)
    granter = Granter(made.box, "s")
    accounts = accounts_of(catalog())
    truth = {1: 0, 2: 0}
    for step in range(150):
        now_s = NOW_S + 10 * step
        now = window_of(now_s)
        for line in (1, 2):
            limits = [Limit(a.period(now_s), a.name, a.limit, a.window_max) for a in accounts[line]]
            costs = tuple((at, a.cost(9)) for at, a in enumerate(accounts[line]))
            answer = granter.ask(now, limits, [Want(9, costs)], {}, now_s * 10**6)
            billed = random.randint(0, max(0, *answer.granted, 0))
            truth[line] += billed
            of = random.choice(made.shards)
            of.count(now_s, (line, now, impressions(billed)))
        for shard in made.shards:
            shard.count(now_s)
        made.step(now_s)
    last = now_s + 200
    for shard in made.shards:
        shard.count(last)
    made.step(last)
    bases = made.box.opened("ever")
    assert made.box.out() == {}
    assert {line: bases[f"l{line}.impressions"] for line in truth} == truth
    assert bases["c30.impressions"] == sum(truth.values()) > 100
    assert bases["l1.micros"] == truth[1] * 2000
    days = [made.box.opened(day)["l1.impressions"] for day in (TODAY, TOMORROW)]
    assert sum(days) == truth[1]
    assert all(amount <= 300 for amount in days)
