"""Settling on a real log and a real Redis: to the unit, whatever was lost before."""

import random
import time
from datetime import UTC, datetime

import msgspec
import pytest

from adcore.catalog import Budget, Catalog, Goal
from server.errors import StoreError
from server.events.leases import closed_window, closes_s, window_of
from server.pacing.accounts import accounts_of, period
from server.pacing.settling import Settling, Step
from server.pacing.work import Retired
from server.store import Keyspace, connect
from server.store.budgets import UNSETTLED_MAX, BudgetStore, Call, Limit, Want
from tests.catalogs import minimal
from tests.shards import Shard, beacon

pytestmark = pytest.mark.plain

LINE = 40  # of campaign 30, at 8 a thousand


def catalog(zone: str = "UTC", total: int = 1000) -> Catalog:
    """One line item with every kind of limit, of its own and of its campaign."""
    base = minimal()
    line = msgspec.structs.replace(
        base.line_items[0],
        goal=Goal("impressions", total, 500),
        budget=Budget(10**9, 10**8),
        time_zone=zone,
    )
    campaign = msgspec.structs.replace(base.campaigns[0], goal=Goal("impressions", 5000))
    return msgspec.structs.replace(
        base,
        line_items=(line, *base.line_items[1:]),
        campaigns=(campaign, *base.campaigns[1:]),
    )


class World:
    """A ledger, accounts in a real Redis, and a settler between them."""

    def __init__(self, folder, redis_url: str) -> None:
        self.client = connect(redis_url)
        self.budgets = BudgetStore(self.client, Keyspace())
        self.shard = Shard(folder, redis_url)
        self.now_s = int(time.time())
        self.settling = self.new()

    def new(self, *ledgers, of: Catalog | None = None) -> Settling:
        settling = Settling(self.budgets, ledgers or [self.shard.store])
        settling.take(of or catalog())
        return settling

    def step(self) -> Step:
        return self.settling.step(self.budgets.now_us() // 1_000_000)

    def bill(self, count: int, at_s: int, lease: int = 0, line: int = LINE) -> None:
        self.shard.write(
            [
                beacon(at_s=at_s, received_s=at_s, lease=lease, line_item_id=line)
                for _ in range(count)
            ],
            written_s=at_s,
        )

    def tick(self, moment_s: int) -> None:
        """The log says what time it is."""
        self.shard.write([], written_s=moment_s)
        self.shard.count()

    def settle_all(self, moment_s: int) -> None:
        self.tick(moment_s)
        while self.step().settled:
            pass

    def spent(self, name: str, of: str = "ever") -> int | None:
        return self.budgets.opened(of).get(name)

    def grant(self, want: int, window: int):
        (account, *_) = accounts_of(catalog())[LINE]
        limit = Limit("ever", account.name, account.limit, account.window_max)
        return self.budgets.grant(Call("s1", 1, 0, window, [limit], [Want(want, ((0, want),))], {}))


@pytest.fixture
def world(tmp_path, redis_url) -> World:
    return World(tmp_path, redis_url)


def today() -> str:
    return period(int(time.time()), "UTC")


def test_at_first_everything_is_opened_with_what_was_billed(world):
    world.bill(7, world.now_s - 4000)
    world.bill(2, world.now_s - 5)  # its window is not closed: it comes by settling
    world.tick(world.now_s)
    done = world.step()
    assert done.was_reset
    assert world.budgets.state().settled == closed_window(world.now_s)
    assert world.spent("l40.impressions") == world.spent("c30.impressions") == 7
    assert world.spent("l40.micros") == 7 * 8000
    assert world.spent("l41.clicks") == 0
    again = world.step()
    assert (again.was_reset, again.opened) == (False, 0)

    world.settle_all(world.now_s + 400)
    assert world.spent("l40.impressions") == 9
    assert world.budgets.ghosts() == set()


def test_a_granted_window_is_settled_to_what_was_billed(world):
    world.budgets.begin(window_of(world.now_s) - 30)
    world.tick(world.now_s)
    world.step()
    for _ in range(2):  # the window may turn in between
        window = window_of(world.budgets.now_us() // 1_000_000)
        answer = world.grant(5, window)
        if answer.status == "granted":
            break
    assert answer.granted == [5]
    assert world.budgets.out() == {"ever/l40.impressions": 5}
    world.bill(3, world.now_s, lease=window)
    # A moment before it is closed nothing of it is known.
    world.settle_all(closes_s(window) - 1)
    assert world.budgets.out() == {"ever/l40.impressions": 5}
    assert world.spent("l40.impressions") == 0
    world.settle_all(closes_s(window))
    assert world.budgets.out() == {}
    assert world.spent("l40.impressions") == 3
    assert world.spent("l40.impressions", today()) in (3, None)  # None: midnight has passed


def test_a_wiped_redis_is_made_again_once_the_counts_are(world):
    world.bill(7, world.now_s - 4000)
    world.tick(world.now_s)
    world.step()
    world.settle_all(world.now_s + 10)
    world.client.flushall()
    assert not world.step().is_known
    assert world.budgets.state() is None
    world.shard.applier.check(1 << 60)
    world.shard.count()
    assert world.step().was_reset
    assert world.spent("l40.impressions") == 7
    world.settle_all(world.now_s + 400)
    assert world.spent("l40.impressions") == 7


@pytest.mark.parametrize("seed", range(6))
def test_whenever_an_account_is_opened_all_that_is_billed_is_in_it_once(world, seed):
    dice = random.Random(seed)
    start_s = world.now_s - 3000
    billed = 0
    opened = dice.randrange(5, 25)
    for step in range(30):
        at_s = start_s + 100 * step + dice.randrange(90)
        count = dice.randrange(4)
        # In a lease, in the one that has just begun, or in none.
        lease = dice.choice([0, window_of(at_s), window_of(at_s) - 1])
        world.bill(count, at_s, lease)
        billed += count
        world.tick(at_s)
        if step == opened:
            world.budgets.begin(closed_window(at_s))
        if step >= opened:
            world.step()
            if dice.random() < 0.2:
                world.settling = world.new()  # another one leads
    world.settle_all(world.now_s + 400)
    assert world.spent("l40.impressions") == world.spent("c30.impressions") == billed
    assert world.spent("l40.micros") == billed * 8000


def test_what_leaves_the_catalog_is_settled_for_its_campaign(world):
    world.budgets.begin(window_of(world.now_s) - 30)
    world.tick(world.now_s)
    world.step()
    base = catalog()
    world.settling.take(msgspec.structs.replace(base, line_items=base.line_items[1:]))
    world.bill(4, world.now_s + 5)
    world.settle_all(world.now_s + 400)
    assert world.spent("c30.impressions") == 4


def test_a_line_item_that_is_new_is_opened_by_the_next_step(world):
    base = catalog()
    rest = msgspec.structs.replace(base, line_items=base.line_items[1:])
    world.settling = world.new(of=rest)
    world.tick(world.now_s)
    world.step()
    assert world.spent("l40.impressions") is None
    world.settling.take(base)
    assert world.step().opened == 5
    assert world.spent("l40.impressions") == 0


def test_tomorrow_is_open_an_hour_before_it_begins(world):
    hour = datetime.now(UTC).hour
    offset = 23 - hour if hour > 11 else -1 - hour  # of the zone in which it is 23 o'clock
    zone = f"Etc/GMT{'-' if offset >= 0 else '+'}{abs(offset)}"
    world.settling.take(catalog(zone))
    world.tick(world.now_s)
    world.step()
    for day in (period(world.now_s, zone), period(world.now_s + 3600, zone)):
        assert world.spent("l40.impressions", day) == 0
    assert period(world.now_s, zone) != period(world.now_s + 3600, zone)


def test_accounts_that_redis_has_lost_in_silence_are_opened_again(world):
    world.bill(7, world.now_s - 4000)
    world.tick(world.now_s)
    world.step()
    world.client.delete(Keyspace().budget_base("ever"))
    world.step()
    world.settling.forget()
    world.step()
    assert world.spent("l40.impressions") == 7


def test_a_ledger_far_behind_resets_nothing(world):
    world.tick(world.now_s - UNSETTLED_MAX * 10)
    assert not world.step().was_reset
    assert world.budgets.state() is None


def test_a_clock_of_the_ledger_that_went_back_opens_nothing(world):
    world.budgets.begin(closed_window(world.now_s))
    world.tick(world.now_s - 60)
    world.step()
    assert world.spent("l40.impressions") is None
    world.tick(world.now_s)
    world.step()
    assert world.spent("l40.impressions") == 0


def test_a_shard_that_must_be_there_holds_up_settling_and_a_retired_one_does_not(
    world, tmp_path, redis_url
):
    other = Shard(tmp_path / "other", redis_url, 1)
    other.write([beacon(at_s=world.now_s - 9000) for _ in range(3)])
    other.count()
    world.tick(world.now_s)
    world.settling = world.new(world.shard.store, other.store)
    world.step()
    assert world.spent("l40.impressions") is None  # the other one's time is hours ago
    world.settling = world.new(world.shard.store, Retired(other.store))
    assert world.step().was_reset
    assert world.spent("l40.impressions") == 3  # and what it had counted counts


def test_redis_away_is_a_store_error(tmp_path, redis_url):
    world = World(tmp_path, redis_url)
    world.tick(world.now_s)
    away = BudgetStore(connect(f"unix://{tmp_path}/none.sock"), Keyspace())
    settling = Settling(away, [world.shard.store])
    with pytest.raises(StoreError):
        settling.step(world.now_s)
