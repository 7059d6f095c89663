"""ADS-A and ADS-B: the two reference workloads for targeting, as catalogs and requests from a seed.

Every line item targets a few of ten dimensions with values drawn by Zipf's law, as do the requests.
ADS-A: two to four dimensions by weight; about 2.5 % of the lines match a request. ADS-B: placement
and size always, and one or two more; about 0.4 % match. The workload's dimensions become ours so:

    size -> zone         lang -> language       kv -> the key-value `kv`     segment -> segments
    hour-of-week -> dayparts, a run of hours in UTC, so it costs the request nothing

Size is a zone rather than an ad type, because an ad type is also what a creative has. Line items
have one priority, eCPMs with few ties and one creative: a request costs what its targeting costs.
"""

from bisect import bisect
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import accumulate
from random import Random
from typing import Any, Literal, NamedTuple, get_args

from adcore.catalog import (
    Account,
    Ad,
    AdType,
    Advertiser,
    Campaign,
    Catalog,
    Cpm,
    Creative,
    Daypart,
    Expression,
    Flight,
    Html,
    LineItem,
    Priority,
    Site,
    Weekday,
    Zone,
)
from adcore.request import Placement, Request

Workload = Literal["ADS-A", "ADS-B"]

NOW_S = int(datetime(2026, 3, 4, 10, 30, tzinfo=UTC).timestamp())
_WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
_FLIGHT = Flight(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


class Facet(NamedTuple):
    """How one dimension is targeted and asked for."""

    name: Any  # a Dimension, `hour` or `kv`
    values: int
    zipf: float
    targets: tuple[int, int]  # values in a set
    weight: float  # of being targeted
    excluded: float  # share of the sets that exclude
    asked: int  # values in a request
    present: float  # share of the requests that have any


FACETS = (
    Facet("country", 200, 1.1, (1, 5), 3, 0.05, 1, 0.97),
    Facet("region", 1000, 1.0, (1, 10), 1, 0.1, 1, 0.7),
    Facet("device", 5, 1.0, (1, 2), 2, 0, 1, 1),
    Facet("os", 8, 1.0, (1, 3), 1, 0, 1, 0.95),
    Facet("placement", 2000, 0.9, (1, 30), 2, 0.2, 1, 1),
    Facet("zone", 20, 1.0, (1, 3), 3, 0, 1, 1),
    Facet("language", 50, 1.2, (1, 2), 1, 0.05, 1, 0.8),
    Facet("hour", 168, 0, (20, 100), 1, 0, 1, 1),
    Facet("kv", 10_000, 1.0, (1, 5), 1.5, 0.1, 3, 0.6),
    Facet("segment", 100_000, 0.8, (1, 8), 2, 0.2, 20, 0.7),
)
_PLACEMENT, _SIZE = 4, 5
_WEIGHTS = list(accumulate(facet.weight for facet in FACETS))


class Zipf:
    """Ranks from 0 on, the first the most frequent; an exponent of 0 makes all alike."""

    def __init__(self, rng: Random, count: int, exponent: float) -> None:
        self._random = rng.random
        self._cumulated = list(accumulate((rank + 1) ** -exponent for rank in range(count)))

    def rank(self) -> int:
        cumulated = self._cumulated
        return bisect(cumulated, self._random() * cumulated[-1], hi=len(cumulated) - 1)

    def values(self, draws: int) -> list[str]:
        """Draw so many values as texts from "1" on; repeats are dropped."""
        ranks = dict.fromkeys(self.rank() for _ in range(draws))
        return [str(rank + 1) for rank in ranks]


class _Dice:
    """The values of every facet from one generator."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self._facets = [Zipf(self.rng, facet.values, facet.zipf) for facet in FACETS]

    def values(self, number: int, draws: int) -> list[str]:
        return self._facets[number].values(draws)


def catalog(workload: Workload, line_count: int, seed: int) -> Catalog:
    dice = _Dice(seed)
    return catalog_of(_line_item(dice, workload, number) for number in range(line_count))


def catalog_of(line_items: Iterable[LineItem]) -> Catalog:
    """Put the least around them that makes a catalog."""
    return Catalog(
        account=Account("benchmark", "EUR"),
        priorities=(Priority(8, "standard"),),
        ad_types=(AdType(1, "rectangle", 300, 250),),
        sites=(Site(1, "site", "site.example"),),
        zones=tuple(Zone(number + 1, 1, f"size {number + 1}") for number in range(20)),
        advertisers=(Advertiser(1, "advertiser", "advertiser.example"),),
        campaigns=(Campaign(1, 1, "campaign"),),
        line_items=tuple(line_items),
        creatives=(Creative(1, 1, "creative", 1, "https://example.com", Html("<p>ad</p>")),),
    )


def _line_item(dice: _Dice, workload: Workload, number: int) -> LineItem:
    leaves: list[Expression] = []
    dayparts: tuple[Daypart, ...] = ()
    for facet in _targeted(dice.rng, workload):
        count = dice.rng.randint(*FACETS[facet].targets)
        if FACETS[facet].name == "hour":
            dayparts = _dayparts(dice.rng.randrange(168), count)
        else:
            leaves.append(_leaf(dice, facet, count, workload))
    return booked(number, dice.rng, leaves, dayparts)


def booked(
    number: int, rng: Random, leaves: Iterable[Expression], dayparts: tuple[Daypart, ...] = ()
) -> LineItem:
    """Line item `number`, from 0 on: all of the leaves must hold."""
    return LineItem(
        id=number + 1,
        campaign_id=1,
        name=f"line item {number + 1}",
        priority=8,
        rate=Cpm(rng.randrange(100_000, 20_000_000)),
        flight=_FLIGHT,
        dayparts=dayparts,
        targeting=Expression(all=tuple(leaves)),
        ads=(Ad(1),),
    )


def _targeted(rng: Random, workload: Workload) -> list[int]:
    facets = [_PLACEMENT, _SIZE] if workload == "ADS-B" else []
    wanted = rng.randint(3, 4) if workload == "ADS-B" else rng.randint(2, 4)
    while len(facets) < wanted:
        facet = bisect(_WEIGHTS, rng.random() * _WEIGHTS[-1])
        if facet not in facets:
            facets.append(facet)
    return facets


def _leaf(dice: _Dice, number: int, count: int, workload: Workload) -> Expression:
    facet = FACETS[number]
    never = workload == "ADS-B" and number in (_PLACEMENT, _SIZE)
    excludes = dice.rng.random() < facet.excluded and not never
    values = tuple(dice.values(number, count))
    listed: dict[str, Any] = {"exclude" if excludes else "include": values}
    if facet.name == "kv":
        return Expression(key="kv", **listed)
    return Expression(dimension=facet.name, **listed)


def _dayparts(hour_first: int, hours: int) -> tuple[Daypart, ...]:
    """Return a run of hours as one daypart a day that it touches."""
    parts = []
    hour = hour_first
    end = hour_first + hours
    while hour < end:
        day_end = min(end, hour // 24 * 24 + 24)
        start_hour = hour % 24
        parts.append(Daypart((_WEEKDAYS[hour // 24 % 7],), start_hour, start_hour + day_end - hour))
        hour = day_end
    return tuple(parts)


def requests(count: int, seed: int, winners: int = 1) -> list[Request]:
    dice = _Dice(seed)
    return [_request(dice, winners) for _ in range(count)]


def _request(dice: _Dice, winners: int) -> Request:
    asked = {
        facet.name: dice.values(number, facet.asked) if dice.rng.random() < facet.present else []
        for number, facet in enumerate(FACETS)
    }
    one = {name: values[0] if values else None for name, values in asked.items()}
    return Request(
        placements=[
            Placement(
                asked["placement"][0],
                zones=[int(value) for value in asked["zone"]],
                count=winners,
            )
        ],
        country=one["country"],
        region=one["region"],
        device=one["device"],
        os=one["os"],
        language=one["language"],
        segments=asked["segment"],
        key_values={"kv": list(asked["kv"])} if asked["kv"] else {},
    )
