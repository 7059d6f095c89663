"""What a line item's accounts are, what impressions cost in each, and when a day begins."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcore.catalog import Budget, Campaign, Cpa, Cpc, Cpm, Flat, Goal, LineItem
from adcore.zones import zone_names
from server.pacing.accounts import (
    COST_PER_MILLION_MAX,
    EVENT_PARTS,
    EVER,
    Account,
    accounts_of,
    day_bounds_s,
    line_item_accounts,
    period,
)
from server.store.budgets import AMOUNT_MAX, GHOSTS_MAX, WANT_MAX, Call, Limit, Want
from tests.catalogs import minimal
from tests.sim.budget_twin import WINDOW_US, BudgetTwin

pytestmark = pytest.mark.plain

WINDOW_S = 10
QUARTER_S = 900
PLAIN = minimal().line_items[0]
CAMPAIGN = Campaign(7, 20, "c")


def item(**fields: object) -> LineItem:
    return msgspec.structs.replace(PLAIN, id=42, time_zone="Europe/Berlin", **fields)


def of(line_item: LineItem, **campaign: object) -> dict[tuple[str, str], Account]:
    owner = msgspec.structs.replace(CAMPAIGN, **campaign)
    return {(a.name, a.zone): a for a in line_item_accounts(line_item, owner)}


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


# -- which there are


def test_a_line_item_without_limits_needs_no_lease():
    assert of(item()) == {}
    assert accounts_of(minimal()).keys() == {41}


def test_every_limit_is_an_account_under_its_owner_s_days():
    found = of(
        item(goal=Goal("impressions", 100, 10), budget=Budget(5000, 500), rate=Cpm(2_000_000)),
        goal=Goal("impressions", daily=7),
        budget=Budget(daily_micros=90),
        time_zone="Asia/Tokyo",
    )
    assert {key: account.limit for key, account in found.items()} == {
        ("l42.impressions", ""): 100,
        ("l42.impressions", "Europe/Berlin"): 10,
        ("l42.micros", ""): 5000,
        ("l42.micros", "Europe/Berlin"): 500,
        ("c7.impressions", "Asia/Tokyo"): 7,
        ("c7.micros", "Asia/Tokyo"): 90,
    }


def test_a_flat_line_item_spends_nothing_of_its_campaign_s_budget():
    flat = item(rate=Flat(10**9, 5))
    assert of(flat, budget=Budget(10)) == {}
    assert of(flat, goal=Goal("impressions", 5)).keys() == {("c7.impressions", "")}


# -- what they cost


@pytest.mark.parametrize(
    ("rate", "unit", "impressions", "cost"),
    [
        (Cpm(5), "impressions", 7, 7),
        (Cpm(2_500_000), "micros", 3, 7500),
        (Cpm(1), "micros", 1, 1),  # a thousandth of a micro
        (Cpm(1), "micros", 1000, 1),
        (Cpm(1), "micros", 1001, 2),
        (Cpm(10**15), "micros", 10**6, 10**18),
        (Cpc(400_000, 1500), "clicks", 1000, 1875),  # 1.5 and a quarter more, in thousandths
        (Cpc(400_000, 1500), "clicks", 1, 2),
        (Cpc(400_000, 1500), "micros", 1000, 750_000),
        (Cpc(400_000, 0), "clicks", 10**6, 0),
        (Cpa(14_000_000, 650), "conversions", 10**6, 812_500),
        (Cpa(14_000_000, 650), "micros", 1, 11_375),
        (Cpc(10**15, 10**6), "micros", 10**6, COST_PER_MILLION_MAX),
    ],
)
def test_what_impressions_take(rate, unit, impressions, cost):
    limits = {"budget": Budget(10**9)} if unit == "micros" else {"goal": Goal(unit, 10**9)}
    [account] = line_item_accounts(item(rate=rate, **limits), CAMPAIGN)
    assert account.name == f"l42.{unit}"
    assert account.cost(impressions) == cost


@given(st.integers(0, 10**18), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**12))
def test_a_refund_leaves_enough_for_what_was_sent(cost_per_million, sent, unsent, limit):
    account = Account("l1.micros", "", limit, cost_per_million)
    left = account.cost(sent + unsent) - account.refund(unsent)
    assert left >= Fraction(sent * cost_per_million, 10**6)
    assert left >= account.cost(sent)  # a whole number, so the ledger's rounding up fits as well


def test_a_window_may_grant_a_fiftieth_or_five_impressions():
    assert Account("a", "", 10**6, 10**6).window_max == 20_000
    assert Account("a", "", 10**6 + 1, 10**6).window_max == 20_001
    assert Account("a", "", 50, 10**6).window_max == 5
    assert Account("a", "", 50, 30 * 10**6).window_max == 150  # one impression takes 30


def test_clicks_and_conversions_are_reckoned_in_thousandths_and_nothing_else_is():
    for unit, rate in (("clicks", Cpc(400_000, 1500)), ("conversions", Cpa(400_000, 1500))):
        goal = Goal(unit, 50, 7)
        found = of(item(rate=rate, goal=goal, budget=Budget(900)), goal=goal)
        limits = {key: account.limit for key, account in found.items()}
        assert limits[f"l42.{unit}", ""] == limits[f"c7.{unit}", ""] == 50_000
        assert limits[f"l42.{unit}", "Europe/Berlin"] == 7000
        assert limits["l42.micros", ""] == 900
        assert found[f"l42.{unit}", ""].window_max == 1000
        assert (found[f"l42.{unit}", ""].parts, found["l42.micros", ""].parts) == (EVENT_PARTS, 1)


def test_the_largest_goal_is_a_whole_number_to_a_script():
    largest = 10**12  # of `adcore.catalog.Units`
    goal = Goal("clicks", largest, largest)
    accounts = line_item_accounts(item(rate=Cpc(400_000, 10**6), goal=goal), CAMPAIGN)
    for account in accounts:
        # All that it may come to: spent, out, and held back by as many ghosts as there may be.
        assert account.limit + GHOSTS_MAX * account.window_max < AMOUNT_MAX
        assert account.limit + account.cost(WANT_MAX) < AMOUNT_MAX
    msgspec.convert({"unit": "clicks", "total": largest}, Goal)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"unit": "clicks", "total": largest + 1}, Goal)


@pytest.mark.parametrize(("parts", "starves"), [(EVENT_PARTS, False), (1, True)])
def test_small_leases_leave_a_small_click_goal_alone(monkeypatch, parts, starves):
    """Thirty servers show two impressions of three in each window, and nobody clicks."""
    monkeypatch.setattr("server.pacing.accounts.EVENT_PARTS", parts)
    goal = Goal("clicks", 50)
    [account] = line_item_accounts(item(rate=Cpc(400_000, 1000), goal=goal), CAMPAIGN)
    limit = Limit(EVER, account.name, account.limit, account.window_max)
    want = [Want(3, ((0, account.cost(3)),))]
    twin, start, granted = BudgetTwin(), 1000, 0
    twin.reset(start - 2, start - 1, (EVER,), (start - 2) * WINDOW_US)
    assert twin.settle(start - 1, {}) is None
    assert twin.open(start - 1, {EVER: {account.name: 0}}) is None
    for window in range(start, start + 18):  # as many as are never settled
        for server in range(30):
            back = {window - 1: {limit.field: account.refund(1)}} if window > start else {}
            call = Call(f"s{server}", window, 0, window, [limit], want, back)
            granted += sum(twin.grant(call, window * WINDOW_US).granted)
    assert (granted < 18 * 30 * 3) == starves
    assert (twin.out()[limit.field] > 0.04 * account.limit) == starves


# -- days

ZONES = sorted(zone_names())


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("UTC", "2026-11-30", 24),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),  # half an hour of summer time
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Asia/Kolkata", "2026-06-01", 24),
        ("Asia/Kathmandu", "2026-06-01", 24),
        ("Africa/Cairo", "2026-04-24", 23),  # there is no midnight
        ("Africa/Cairo", "2026-10-29", 25),  # its last hour comes twice
        ("Atlantic/Azores", "2026-10-25", 25),  # its first hour comes twice
    ],
)
def test_a_day_has_the_hours_its_clocks_show(zone, day, hours):
    start, end = day_bounds_s(day, zone)
    assert end - start == hours * 3600
    assert period(start, zone) == period(end - 1, zone) == day
    assert period(start - 1, zone) < day < period(end, zone)


def test_an_account_without_days_has_one_period():
    assert Account("l1.micros", "", 5, 5).period(0) == EVER
    late = at("2026-11-30T23:59:59+01:00")
    daily = Account("l1.micros", "Europe/Berlin", 5, 5)
    assert (daily.period(late), daily.period(late + 1)) == ("2026-11-30", "2026-12-01")


@pytest.mark.parametrize("year", range(2026, 2038, 3))
def test_no_window_and_no_quarter_of_an_hour_straddles_a_midnight(year):
    """So a window's spending is one day's, and a day is a sum of quarters; in every zone."""
    first = datetime(year, 1, 1, tzinfo=UTC)
    assert QUARTER_S % WINDOW_S == 0
    for zone in ZONES:
        last = None
        for number in range(0, 366, 1 if zone in ("Africa/Cairo", "Australia/Lord_Howe") else 13):
            start, end = day_bounds_s((first + timedelta(days=number)).date().isoformat(), zone)
            assert start % QUARTER_S == 0, zone
            assert end % QUARTER_S == 0, zone
            assert 82_800 <= end - start <= 90_000, zone
            last = end
        assert last is not None
