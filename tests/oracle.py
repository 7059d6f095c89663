"""The specification of live and select as slow, obvious Python, straight from docs/architecture.md.

It reads the catalog's and the request's Structs and shares nothing else with adcore: no normalised
expressions, no numbers for values, no bitmaps. Where it and the engine differ, one is wrong.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple
from zoneinfo import ZoneInfo

from adcore.catalog import Catalog, Cpa, Cpc, Cpm, Expression, Flat, LineItem, Rate
from adcore.request import Placement, Request

MASK = 2**64 - 1
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Won(NamedTuple):
    line: int
    ad: int
    line_item_id: int
    creative_id: int
    priority: int
    ecpm_micros: int
    clear_price_micros: int


class Plan(NamedTuple):
    """How line items stand, by id; what is not named stands as booked."""

    rates: Mapping[int, int] = MappingProxyType({})
    multipliers: Mapping[int, int] = MappingProxyType({})
    probabilities: Mapping[int, int] = MappingProxyType({})
    stopped: frozenset[int] = frozenset()

    def runs(self, line: LineItem) -> bool:
        return line.id not in self.stopped and self.rates.get(line.id) != 0

    def takes_part(self, line: LineItem, draw: int) -> bool:
        hashed = splitmix64(splitmix64(draw ^ line.id) ^ 2)
        return (hashed * 1_000_000) >> 64 < self.rates.get(line.id, 1_000_000)

    def rate(self, line: LineItem) -> Rate:
        """The rate, as if it had been booked with what is known now."""
        probability = self.probabilities.get(line.id)
        match line.rate:
            case Cpc(price) if probability is not None:
                return Cpc(price, probability)
            case Cpa(price) if probability is not None:
                return Cpa(price, probability)
        return line.rate

    def ecpm(self, line: LineItem) -> int:
        return ecpm_of(self.rate(line))

    def score(self, line: LineItem) -> int:
        return self.ecpm(line) * self.multipliers.get(line.id, 1_000_000) // 1_000_000


AS_BOOKED = Plan()


# -- live ------------------------------------------------------------------------------------------


def live_lines(catalog: Catalog, now_s: int) -> set[int]:
    campaigns = {campaign.id: campaign for campaign in catalog.campaigns}
    return {
        number
        for number, line in enumerate(catalog.line_items)
        if line.status == "active"
        and campaigns[line.campaign_id].status == "active"
        and line.flight.start <= datetime.fromtimestamp(now_s, UTC) < line.flight.end
        and in_daypart(line, now_s)
    }


def in_daypart(line: LineItem, now_s: int) -> bool:
    local = datetime.fromtimestamp(now_s, ZoneInfo(line.time_zone))
    return not line.dayparts or any(
        WEEKDAYS[local.weekday()] in daypart.days
        and daypart.start_hour <= local.hour < daypart.end_hour
        for daypart in line.dayparts
    )


# -- targeting -------------------------------------------------------------------------------------


def folded(text: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def dimension_values(name: str, request: Request, placement: Placement) -> set[str]:
    match name:
        case "site":
            values: list[object] = [placement.site] if placement.site else []
        case "zone":
            values = list(placement.zones)
        case "ad_type":
            values = list(placement.ad_types)
        case "placement":
            values = [placement.name]
        case "keyword":
            values = list(request.keywords)
        case "category":
            values = list(request.categories)
        case "segment":
            values = list(request.segments)
        case _:
            values = [getattr(request, name)]
    return {folded(str(value)) for value in values if value is not None}


def key_values(key: str, request: Request, placement: Placement) -> list[object]:
    values: list[object] = []
    for source in (request.key_values, placement.key_values):
        given = source.get(key, [])
        values += given if isinstance(given, list) else [given]
    return values


def as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def holds(expression: Expression | None, request: Request, placement: Placement) -> bool:
    if expression is None:
        return True
    if expression.all is not None:
        return all(holds(part, request, placement) for part in expression.all)
    if expression.any is not None:
        return any(holds(part, request, placement) for part in expression.any)
    if expression.not_ is not None:
        return not holds(expression.not_, request, placement)
    if expression.dimension is not None:
        values = dimension_values(expression.dimension, request, placement)
        listed = {folded(str(value)) for value in expression.include or expression.exclude or ()}
    else:
        assert expression.key is not None
        given = key_values(expression.key, request, placement)
        if expression.at_least is not None or expression.below is not None:
            return any(
                (expression.at_least is None or number >= expression.at_least)
                and (expression.below is None or number < expression.below)
                for number in given
                if isinstance(number, int | float)
                and not isinstance(number, bool)
                and not math.isnan(number)
            )
        values = {as_text(value) for value in given}
        listed = {str(value) for value in expression.include or expression.exclude or ()}
    return bool(values & listed) == (expression.include is not None)


# -- select ----------------------------------------------------------------------------------------


def splitmix64(state: int) -> int:
    state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def drawn(weights: list[int], draw: int, placement: int, pick: int, purpose: int) -> int:
    hashed = draw
    for part in (placement, pick, purpose):
        hashed = splitmix64(hashed ^ part)
    rest = (hashed * sum(weights)) >> 64
    for place, weight in enumerate(weights):
        if rest < weight:
            return place
        rest -= weight
    raise AssertionError("the weights do not add up")


def ecpm_of(rate: Rate) -> int:
    match rate:
        case Cpm(price_micros):
            return price_micros
        case Cpc(price_micros, ppm) | Cpa(price_micros, ppm):
            return price_micros * ppm // 1000
        case Flat(_, value_cpm_micros):
            return value_cpm_micros


def in_unit_of_rate(rate: Rate, clear_ecpm: int) -> int:
    match rate:
        case Cpm():
            return clear_ecpm
        case Cpc(price_micros, ppm) | Cpa(price_micros, ppm) if ppm:
            return min(-(-clear_ecpm * 1000 // ppm), price_micros)
    return rate.price_micros


class Oracle:
    def __init__(self, catalog: Catalog, plan: Plan = AS_BOOKED) -> None:
        self.catalog = catalog
        self.plan = plan
        self.lines = catalog.line_items
        self.selection = {p.number: p.selection for p in catalog.priorities}
        self.creatives = {creative.id: creative for creative in catalog.creatives}
        campaigns = {campaign.id: campaign for campaign in catalog.campaigns}
        advertisers = {advertiser.id: advertiser for advertiser in catalog.advertisers}
        self.labels = []
        for line in self.lines:
            campaign = campaigns[line.campaign_id]
            advertiser = advertisers[campaign.advertiser_id]
            self.labels.append({*line.labels, *campaign.labels, *advertiser.labels})

    def select(self, request: Request, live: set[int], draw: int) -> list[list[Won]]:
        labels_taken: set[str] = set()
        return [
            self._fill(request, number, live, draw, labels_taken)
            for number in range(len(request.placements))
        ]

    def _fill(
        self, request: Request, number: int, live: set[int], draw: int, labels_taken: set[str]
    ) -> list[Won]:
        placement = request.placements[number]
        eligible = [
            line
            for line in sorted(live)
            if self.lines[line].id not in request.capped_line_items + placement.capped_line_items
            and self.plan.runs(self.lines[line])
            and self.plan.takes_part(self.lines[line], draw)
            and self.plan.ecpm(self.lines[line]) >= placement.floor_micros
            and self._ads(line, request, placement)
            and holds(self.lines[line].targeting, request, placement)
        ]
        wins: list[Won] = []
        for group in self._groups(eligible):
            while len(wins) < placement.count:
                taken = {win.line for win in wins}
                running = [x for x in group if x not in taken and not self.labels[x] & labels_taken]
                if not running:
                    break
                weights = [self.lines[line].weight for line in running]
                line = running[drawn(weights, draw, number, len(wins), 0)]
                ads = self._ads(line, request, placement)
                place = ads[drawn([ad[1] for ad in ads], draw, number, len(wins), 1)][0]
                labels_taken |= self.labels[line]
                rivals = [
                    other
                    for other in eligible
                    if self.lines[other].priority == self.lines[line].priority
                    and other not in taken | {line}
                    and not self.labels[other] & labels_taken
                ]
                price = self._clear_price(line, rivals, placement)
                wins.append(self._won(line, place, price))
        return wins

    def _groups(self, eligible: list[int]) -> list[list[int]]:
        groups: dict[tuple[int, int], list[int]] = {}
        for line in eligible:
            item = self.lines[line]
            auction = self.selection[item.priority] == "auction"
            groups.setdefault((item.priority, -self.plan.score(item) if auction else 0), []).append(
                line
            )
        return [groups[key] for key in sorted(groups)]

    def _ads(self, line: int, request: Request, placement: Placement) -> list[tuple[int, int]]:
        """Eligible ads of a line, as (place in the line, weight)."""
        return [
            (place, ad.weight)
            for place, ad in enumerate(self.lines[line].ads)
            if ad.creative_id not in request.blocked_creatives
            and (
                not placement.ad_types
                or self.creatives[ad.creative_id].ad_type_id in placement.ad_types
            )
        ]

    def _clear_price(self, line: int, rivals: list[int], placement: Placement) -> int:
        item = self.lines[line]
        if self.catalog.account.auction == "first_price":
            return item.rate.price_micros
        if self.selection[item.priority] == "lottery":
            return item.rate.price_micros
        own, multiplier = self.plan.ecpm(item), self.plan.multipliers.get(item.id, 1_000_000)
        runner = max((self.plan.score(self.lines[rival]) for rival in rivals), default=None)
        if runner is None:
            enough = 0
        elif runner == self.plan.score(item):
            enough = own  # an equal can't be outbid by less
        else:
            # The least eCPM of which the multiplier makes more than the runner's score.
            enough = -(-(runner + 1) * 1_000_000 // multiplier)
        clear_ecpm = min(max(enough, placement.floor_micros), own)
        return in_unit_of_rate(self.plan.rate(item), clear_ecpm)

    def _won(self, line: int, place: int, price: int) -> Won:
        item = self.lines[line]
        ad = sum(len(earlier.ads) for earlier in self.lines[:line]) + place
        creative_id = item.ads[place].creative_id
        return Won(line, ad, item.id, creative_id, item.priority, self.plan.ecpm(item), price)
