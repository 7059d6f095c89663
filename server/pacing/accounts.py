"""Which limits a line item spends, and what impressions take of each. Pure: no clock, no I/O.

An account is one limit that may be spent once: of a line item or of its campaign (the owner), for
all time or for each day in the owner's time zone, in impressions, clicks, conversions or micros.
Its name is ACCOUNT in Redis: `l42.impressions`, `c7.micros`. A day's account and the one for all
time have the same name; they differ in their period.

Impressions and the micros of a CPM rate are certain once an ad is sent, so their accounts are never
overspent. Clicks, conversions and what is paid for them come later or never: an impression takes
its probability, as booked, times ESTIMATE_MARGIN. Accounts of clicks and conversions are reckoned
in thousandths (EVENT_PARTS), here and in Redis alone: what people and `pace` see is whole.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

from adcore.catalog import Campaign, Catalog, Cpa, Cpc, Cpm, Flat, LineItem, Rate
from adcore.zones import zone

EVER: Final = "ever"
"""The period of an account without days."""

MILLION: Final = 1_000_000
WINDOW_PARTS: Final = 50  # one window may grant a fiftieth of a limit
WINDOW_IMPRESSIONS_MIN: Final = 5  # ... or what so many impressions take, if that is more

# An impression takes about a thousandth of a click. In whole ones a lease of three took a click and
# gave none of it back, so small goals starved: most of what they had left was set aside for shows
# that bring nothing. Goals are at most 10^12 units, so amounts in thousandths are far below 2^53.
EVENT_PARTS: Final = 1000
_EVENTS: Final = (".clicks", ".conversions")

# Clicks of a day vary around what was booked; what is set aside and not clicked comes back within
# three minutes, so a margin costs a line item nothing but the speed of its last few units.
ESTIMATE_MARGIN_PERCENT: Final = 125

# 10^12 micros for one impression. Only an estimate reaches it: price and probability at their ends.
COST_PER_MILLION_MAX: Final = 10**18


class Account(NamedTuple):
    """One limit of a line item."""

    name: str  # of its owner and unit
    zone: str  # whose days it has; empty: for all time
    limit: int  # in parts of its unit, as are all its amounts
    cost_per_million: int  # what a million impressions take, rounded up

    @property
    def parts(self) -> int:
        """In how many parts one of its unit is reckoned."""
        return parts_of(self.name)

    def period(self, moment_s: int) -> str:
        """Which account of this name a moment belongs to."""
        return period(moment_s, self.zone) if self.zone else EVER

    def cost(self, impressions: int) -> int:
        """What so many impressions take, rounded up."""
        return -(-impressions * self.cost_per_million // MILLION)

    def refund(self, impressions: int) -> int:
        """What comes back for so many that were not sent, rounded down: never more than they took.

        For a and b impressions, cost(a + b) - refund(b) is enough for the other a.
        """
        return impressions * self.cost_per_million // MILLION

    @property
    def window_max(self) -> int:
        """What one window may grant: so much at most is lost from sight with one window."""
        return max(self.cost(WINDOW_IMPRESSIONS_MIN), -(-self.limit // WINDOW_PARTS))


def parts_of(name: str) -> int:
    """In how many parts one unit of the account of this name is reckoned."""
    return EVENT_PARTS if name.endswith(_EVENTS) else 1


def accounts_of(catalog: Catalog) -> dict[int, tuple[Account, ...]]:
    """Give the accounts of each line item that has any: those that may only serve on a lease."""
    campaigns = {campaign.id: campaign for campaign in catalog.campaigns}
    found = {
        item.id: line_item_accounts(item, campaigns[item.campaign_id])
        for item in catalog.line_items
    }
    return {number: accounts for number, accounts in found.items() if accounts}


def line_item_accounts(item: LineItem, campaign: Campaign) -> tuple[Account, ...]:
    """Give what an impression of the line item takes from: its own accounts, its campaign's."""
    return (
        *_owned(line_item_prefix(item.id), item, item.rate),
        *_owned(campaign_prefix(campaign.id), campaign, item.rate),
    )


def line_item_prefix(number: int) -> str:
    """What the names of its accounts begin with."""
    return f"l{number}."


def campaign_prefix(number: int) -> str:
    return f"c{number}."


def _owned(prefix: str, owner: LineItem | Campaign, rate: Rate) -> Iterator[Account]:
    if owner.goal is not None:
        unit, goal = owner.goal.unit, owner.goal
        cost = _parts_per_million(unit, rate)
        yield from _limits(f"{prefix}{unit}", owner.time_zone, goal.total, goal.daily, cost)
    # A flat rate spends no budget: only its campaign may have one, for others beside it.
    if owner.budget is not None and not isinstance(rate, Flat):
        total, daily = owner.budget.total_micros, owner.budget.daily_micros
        cost = _micros_per_million(rate)
        yield from _limits(f"{prefix}micros", owner.time_zone, total, daily, cost)


def _limits(
    name: str, owner_zone: str, total: int | None, daily: int | None, cost: int
) -> Iterator[Account]:
    parts = parts_of(name)
    if total is not None:
        yield Account(name, "", total * parts, cost)
    if daily is not None:
        yield Account(name, owner_zone, daily * parts, cost)


def _parts_per_million(unit: str, rate: Rate) -> int:
    match unit, rate:
        case "impressions", _:
            return MILLION
        case ("clicks", Cpc(ctr_ppm=ppm)) | ("conversions", Cpa(conversion_ppm=ppm)):
            return _with_margin(ppm * EVENT_PARTS)
    # The catalog's rules let nothing else through, and were it there, each impression would be
    # taken for one: too little, rather than too much.
    return MILLION * EVENT_PARTS


def _micros_per_million(rate: Rate) -> int:
    match rate:
        case Cpm(price_micros=price):
            return price * 1000
        case Cpc(price_micros=price, ctr_ppm=ppm) | Cpa(price_micros=price, conversion_ppm=ppm):
            return min(_with_margin(ppm * price), COST_PER_MILLION_MAX)
        case Flat():
            return 0


def _with_margin(expected: int) -> int:
    return -(-expected * ESTIMATE_MARGIN_PERCENT // 100)


# -- days ------------------------------------------------------------------------------------------


def period(moment_s: int, zone_name: str) -> str:
    """Name the local day of a moment, such as `2026-11-30`."""
    return datetime.fromtimestamp(moment_s, UTC).astimezone(zone(zone_name)).date().isoformat()


def day_bounds_s(day: str, zone_name: str) -> tuple[int, int]:
    """Give the first second of a local day, and that of the next: 23 to 25 hours later.

    Where clocks skip midnight the day begins as they do; where it comes twice, at the first one.
    """
    today = date.fromisoformat(day)
    start, end = (_midnight_s(each, zone_name) for each in (today, today + timedelta(days=1)))
    return start, end


def _midnight_s(day: date, zone_name: str) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone(zone_name)).timestamp())
