"""From a catalog to what `pace` and `forecast` reckon with: goals, and what is seen of them.

Only line items with a limit are here; the others go at full rate. Pure: moments are arguments.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from math import inf
from typing import Any, Final, NamedTuple

import numpy as np

from adcore.catalog import Campaign, Catalog, Cpa, Cpc, Cpm, Expression, Flat, LineItem, Rate
from server.pacing.accounts import Account, day_bounds_s, line_item_accounts
from server.pacing.forecast import Line, open_hours_utc
from server.pacing.goals import (
    ASAP,
    CLICK,
    CONVERSION,
    CUSTOM,
    EVEN,
    FRONTLOADED,
    HOURS,
    IMPRESSION,
    PPM,
    Goals,
    Numbers,
    Whole,
)
from server.pacing.pace import curve_utc
from server.pacing.standing import Unit

QUARTER_S: Final = 900
UNITS: Final[tuple[Unit, ...]] = ("impressions", "clicks", "conversions", "micros")
"""In the order of the columns of what is billed."""

_PACINGS: Final = {"even": EVEN, "frontloaded": FRONTLOADED, "asap": ASAP, "custom": CUSTOM}
_EVENTS: Final = {"impressions": IMPRESSION, "clicks": CLICK, "conversions": CONVERSION}
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Limited(NamedTuple):
    """One account of the goals, as the ledger's counts add up to it."""

    account: Account
    period: str
    owner: int  # a line item's id, or its campaign's
    is_campaign: bool
    unit: Unit


@dataclass(frozen=True, slots=True)
class Booked:
    """A catalog's line items with limits, in the order of `goals.ids`."""

    goals: Goals
    ecpms: Numbers
    """[n] micros, as the engine ranks them without a plan."""
    items: tuple[LineItem, ...]
    campaigns: tuple[Campaign, ...]
    """[n] each one's."""
    lines: tuple[Line, ...]
    """[n] what the forecast must know."""
    limits: tuple[Limited, ...]
    """[a] in the order of `goals.keys`."""
    days: dict[str, tuple[int, int]]
    """The local day that these goals are for, by time zone: from its first quarter to its last."""


def booked(catalog: Catalog, now_s: int) -> Booked:
    """Make the goals of the local days that `now_s` is in; they are good until `until_s`."""
    campaigns = {campaign.id: campaign for campaign in catalog.campaigns}
    accounts = {
        item.id: line_item_accounts(item, campaigns[item.campaign_id])
        for item in catalog.line_items
    }
    items = sorted((item for item in catalog.line_items if accounts[item.id]), key=lambda i: i.id)
    making = _Making(items, campaigns, _guaranteed_tiers(catalog), now_s)
    for number, item in enumerate(items):
        for account in accounts[item.id]:
            making.use(number, item, account)
    goals = making.goals()
    return Booked(
        goals,
        _numbers(_ecpm(item.rate) for item in items),
        tuple(items),
        tuple(campaigns[item.campaign_id] for item in items),
        tuple(making.line(item) for item in items),
        tuple(making.limits),
        {
            zone: (start // QUARTER_S, end // QUARTER_S)
            for zone, (start, end) in making.days.items()
        },
    )


class _Making:
    """Collects the arrays of one `Goals`."""

    def __init__(
        self,
        items: Sequence[LineItem],
        campaigns: Mapping[int, Campaign],
        guaranteed: Set[int],
        now_s: int,
    ) -> None:
        self.limits: list[Limited] = []
        self.days: dict[str, tuple[int, int]] = {}
        self._items = items
        self._campaigns = campaigns
        self._guaranteed = guaranteed
        self._now_s = now_s
        self._places: dict[str, int] = {}
        self._spans: list[tuple[float, float]] = []
        self._pacing: list[int] = []
        self._curve: list[int] = []
        self._curves: dict[tuple[tuple[int, ...], str], int] = {}
        self._uses: list[tuple[int, int, int, float]] = []
        self._open: dict[Any, tuple[bool, ...]] = {}
        self._together: dict[int, tuple[float, float, bool]] = {}  # of a campaign's line items
        for item in items:
            start, end, asap = self._together.get(item.campaign_id, (inf, -inf, True))
            self._together[item.campaign_id] = (
                min(start, item.flight.start.timestamp()),
                max(end, item.flight.end.timestamp()),
                asap and item.pacing == "asap",
            )

    def use(self, number: int, item: LineItem, account: Account) -> None:
        """Add what a line item takes of an account, and the account if it is new."""
        unit = UNITS[UNITS.index(account.name.rpartition(".")[2])]
        event, price = _price(unit, item.rate)
        if price <= 0:
            return  # what costs nothing limits nothing
        place = self._place(item, account, unit)
        self._uses.append((number, place, event, price))

    def _place(self, item: LineItem, account: Account, unit: Unit) -> int:
        if account.zone and account.zone not in self.days:
            self.days[account.zone] = day_bounds_s(account.period(self._now_s), account.zone)
        period = account.period(self._now_s)
        key = f"{period}/{account.name}"
        place = self._places.get(key)
        if place is not None:
            return place
        place = self._places[key] = len(self.limits)
        is_campaign = account.name.startswith("c")
        owner = item.campaign_id if is_campaign else item.id
        self.limits.append(Limited(account, period, owner, is_campaign, unit))
        start, end, asap = (
            self._together[item.campaign_id]
            if is_campaign
            else (item.flight.start.timestamp(), item.flight.end.timestamp(), False)
        )
        if account.zone:
            day = self.days[account.zone]
            within = max(start, day[0]), min(end, day[1])
            # A day outside of the flight: nothing is spent in it, whatever its plan.
            start, end = within if within[0] < within[1] else day
        self._spans.append((start, end))
        curve, pacing = -1, EVEN
        if is_campaign:
            pacing = ASAP if asap else EVEN
        else:
            pacing = _PACINGS[item.pacing]
            if account.zone and pacing == FRONTLOADED:
                pacing = EVEN  # what is brought forward is the flight's
            if pacing == CUSTOM:
                curve = self._curves.setdefault(
                    (item.pacing_curve, item.time_zone), len(self._curves)
                )
        self._pacing.append(pacing)
        self._curve.append(curve)
        return place

    def goals(self) -> Goals:
        items, limits = self._items, self.limits
        curves = [
            curve_utc(tuple(map(float, weights)), zone, self._now_s)
            for weights, zone in self._curves
        ]
        rates = [_event(item.rate) for item in items]
        begins, closes = zip(*self._spans, strict=True) if self._spans else ((), ())
        lines, places, events, prices = zip(*self._uses, strict=True) if self._uses else [()] * 4
        return Goals(
            ids=_whole(item.id for item in items),
            priority=_whole(item.priority for item in items),
            guaranteed=np.array([item.priority in self._guaranteed for item in items], np.bool_),
            start_s=_numbers(item.flight.start.timestamp() for item in items),
            end_s=_numbers(item.flight.end.timestamp() for item in items),
            active=np.array(
                [
                    item.status == "active" and self._campaigns[item.campaign_id].status == "active"
                    for item in items
                ],
                np.bool_,
            ),
            event=_whole(event for event, _ in rates),
            booked_ppm=_whole(ppm for _, ppm in rates),
            keys=tuple(self._places),
            limit=_numbers(each.account.limit / each.account.parts for each in limits),
            begin_s=_numbers(begins),
            close_s=_numbers(closes),
            pacing=_whole(self._pacing),
            curve=_whole(self._curve),
            use_line=_whole(lines),
            use_account=_whole(places),
            use_event=_whole(events),
            use_price=_numbers(prices),
            curves=np.array(curves, np.float64) if curves else np.zeros((0, HOURS)),
            until_s=float(min((end for _, end in self.days.values()), default=inf)),
        )

    def line(self, item: LineItem) -> Line:
        key = item.dayparts, item.time_zone
        hours = self._open.get(key)
        if hours is None:
            parts = [
                ([_WEEKDAYS.index(day) for day in part.days], part.start_hour, part.end_hour)
                for part in item.dayparts
            ]
            hours = open_hours_utc(parts, item.time_zone, self._now_s) if parts else ()
            self._open[key] = hours
        return Line(item.id, named_sites(item.targeting) or (), hours)


def _whole(values: Any) -> Whole:
    return np.array(list(values), np.int64)


def _numbers(values: Any) -> Numbers:
    return np.array(list(values), np.float64)


def _guaranteed_tiers(catalog: Catalog) -> set[int]:
    """Give those tiers whose every line item has a goal of impressions, and time for it.

    Where one has none, price decides; and in a lottery nobody is ranked.
    """
    tiers = {tier.number for tier in catalog.priorities if tier.selection == "auction"}
    return tiers - {
        item.priority
        for item in catalog.line_items
        if item.goal is None or item.goal.unit != "impressions" or item.pacing == "asap"
    }


def _ecpm(rate: Rate) -> int:
    match rate:
        case Cpm(price_micros=price):
            return price
        case Cpc(price_micros=price, ctr_ppm=ppm) | Cpa(price_micros=price, conversion_ppm=ppm):
            return price * ppm // 1000
        case Flat(value_cpm_micros=value):
            return value


def _event(rate: Rate) -> tuple[int, int]:
    match rate:
        case Cpc(ctr_ppm=ppm):
            return CLICK, ppm
        case Cpa(conversion_ppm=ppm):
            return CONVERSION, ppm
    return IMPRESSION, PPM


def _price(unit: Unit, rate: Rate) -> tuple[int, float]:
    """Say what takes from an account of this unit, and how much of it."""
    if unit != "micros":
        return _EVENTS[unit], 1.0
    match rate:
        case Cpm(price_micros=price):
            return IMPRESSION, price / 1000
        case Cpc(price_micros=price):
            return CLICK, float(price)
        case Cpa(price_micros=price):
            return CONVERSION, float(price)
    return IMPRESSION, 0.0  # a flat rate spends no budget


def named_sites(targeting: Expression | None) -> tuple[int, ...] | None:
    """Give the sites that a request must be of; None where the targeting does not say."""
    if targeting is None:
        return None
    if targeting.dimension == "site" and targeting.include is not None:
        return tuple(int(site) for site in targeting.include if str(site).isdecimal())
    if targeting.all is not None:
        for part in targeting.all:
            if (sites := named_sites(part)) is not None:
                return sites
    if targeting.any:
        parts = [named_sites(part) for part in targeting.any]
        if all(part is not None for part in parts):
            return tuple(sorted({site for part in parts for site in part or ()}))
    return None
