"""Small, crowded worlds: catalogs, requests and moments that collide with each other on purpose.

`world(rng)` makes one from any `random.Random`, so a seed repeats it; `worlds()` is the same for
Hypothesis. Vocabularies are tiny, so that values meet, eCPMs tie and labels conflict all the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, get_args

from hypothesis import strategies as st

import adcore
from adcore.catalog import (
    Account,
    Ad,
    AdType,
    Advertiser,
    Campaign,
    Catalog,
    Cpa,
    Cpc,
    Cpm,
    Creative,
    Daypart,
    Dimension,
    Expression,
    Flat,
    Flight,
    Html,
    LineItem,
    Priority,
    Rate,
    Site,
    Weekday,
)
from adcore.request import KeyValues, Placement, Request, Scalar
from tests.oracle import Plan

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
ID_DIMENSIONS = ("site", "zone", "ad_type")
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
TEXTS = ("a", "b", "C", "é", "É", "long-value-of-more-than-16-bytes", "12")
KEYS = ("k", "K", "age", "é")
KEY_TEXTS = ("x", "X", "true", "7", "7.0", "0.5", "-3")
LABELS = ("cars", "beer", "bank")
BOUNDS = (-3.0, 0.5, 7.0, 8.0, 1e15)
# Half-hour and quarter-hour zones, both hemispheres, a zone that is a day ahead.
TIME_ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Kiritimati",
)
# Around the clock changes in Berlin (26 October 2025 and 29 March 2026, 01:00 UTC) and a Monday.
MOMENTS = tuple(
    int(datetime(*day, hour, tzinfo=UTC).timestamp()) + offset_s
    for day in ((2025, 10, 26), (2026, 3, 29), (2026, 1, 5))
    for hour in (0, 1, 2, 12, 22)
    for offset_s in (0, 899, 1800, 3599)
)
ALWAYS = Flight(datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


@dataclass
class World:
    catalog: Catalog
    requests: list[Request]
    moments: list[int]


def world(rng: Random, line_count_max: int = 20) -> World:
    advertisers = tuple(
        Advertiser(number, "advertiser", "a.example", labels=labels(rng, 0.2))
        for number in (1, 2, 3)
    )
    campaigns = tuple(
        Campaign(
            number,
            rng.choice(advertisers).id,
            "campaign",
            status="active" if rng.random() < 0.9 else "paused",
            labels=labels(rng, 0.2),
        )
        for number in range(1, 6)
    )
    creatives = tuple(creative(number, rng.randint(1, 3)) for number in range(1, 9))
    catalog = catalog_of(
        *(line_item(rng, number) for number in range(rng.randint(0, line_count_max))),
        account=Account("account", "EUR", auction=rng.choice(("first_price", "second_price"))),
        priorities=tuple(
            Priority(number, "tier", selection=rng.choice(("auction", "auction", "lottery")))
            for number in (4, 8, 12)
        ),
        advertisers=advertisers,
        campaigns=campaigns,
        creatives=creatives,
    )
    return World(catalog, [request(rng) for _ in range(4)], rng.sample(MOMENTS, 3))


def catalog_of(*line_items: LineItem, **records: Any) -> Catalog:
    """Return a catalog of these line items; `records` replaces what is around them."""
    around: dict[str, Any] = {
        "account": Account("account", "EUR"),
        "priorities": (
            Priority(4, "top"),
            Priority(8, "standard"),
            Priority(12, "bulk", "lottery"),
        ),
        "ad_types": tuple(AdType(number, "size", 300, 250) for number in (1, 2, 3)),
        "sites": (Site(1, "site", "site.example"),),
        "advertisers": (Advertiser(1, "advertiser", "a.example"),),
        "campaigns": (Campaign(1, 1, "campaign"),),
        "creatives": tuple(creative(number, ad_type=number) for number in (1, 2, 3)),
    }
    return Catalog(**(around | records), line_items=line_items)


def creative(number: int, ad_type: int) -> Creative:
    return Creative(number, 1, "creative", ad_type, "https://example.com", Html("<p>ad</p>"))


def item(number: int, price_micros: int = 1000, **fields: Any) -> LineItem:
    """Return a line item that always serves; `fields` replaces what matters to a test."""
    usual: dict[str, Any] = {
        "campaign_id": 1,
        "name": "line item",
        "priority": 8,
        "rate": Cpm(price_micros),
        "flight": ALWAYS,
        "ads": (Ad(1),),
    }
    return LineItem(id=number, **(usual | fields))


def labels(rng: Random, share: float) -> tuple[str, ...]:
    return tuple(label for label in LABELS if rng.random() < share)


# -- line items ------------------------------------------------------------------------------------


def line_item(rng: Random, number: int) -> LineItem:
    return LineItem(
        id=1000 + number,
        campaign_id=rng.randint(1, 5),
        name="line item",
        status="active" if rng.random() < 0.95 else "paused",
        priority=rng.choice((4, 8, 8, 12)),
        rate=rate(rng),
        weight=rng.choice((1, 1, 2, 100, 1_000_000)),
        flight=flight(rng),
        time_zone=rng.choice(TIME_ZONES),
        dayparts=tuple(daypart(rng) for _ in range(rng.choice((0, 0, 0, 1, 2)))),
        labels=labels(rng, 0.15),
        targeting=None if rng.random() < 0.25 else expression(rng, rng.choice((0, 1, 2, 3))),
        ads=tuple(
            Ad(rng.randint(1, 8), weight=rng.choice((1, 1, 3, 100)))
            for _ in range(rng.choice((1, 1, 2, 3)))
        ),
    )


def rate(rng: Random) -> Rate:
    price_micros = rng.choice((0, 1, 999, 1000, 2000, 2000, 5000, 10**15))
    match rng.randrange(5):
        case 0:
            return Cpc(price_micros, rng.choice((0, 1, 333, 1000, 1_000_000)))
        case 1:
            return Cpa(price_micros, rng.choice((0, 7, 1000, 3000)))
        case 2:
            return Flat(price_micros, rng.choice((0, 1000, 2000)))
    return Cpm(price_micros)


def flight(rng: Random) -> Flight:
    """Mostly always; else an edge on, or a fraction of a second beside, one of the moments."""
    edge = datetime.fromtimestamp(rng.choice(MOMENTS), UTC) + timedelta(
        microseconds=rng.choice((-1, 0, 0, 1, 500_000))
    )
    match rng.randrange(10):
        case 0:
            return Flight(edge, ALWAYS.end)
        case 1:
            return Flight(ALWAYS.start, edge)
    return ALWAYS


def daypart(rng: Random) -> Daypart:
    start_hour = rng.randint(0, 23)
    days = tuple(rng.sample(WEEKDAYS, rng.randint(1, 7)))
    return Daypart(days, start_hour, rng.randint(start_hour + 1, 24))


def expression(rng: Random, depth: int) -> Expression:
    """Now and then wider than sixteen conjunctions can say."""
    if rng.random() < 0.04:
        return wide_expression(rng)
    if depth == 0 or rng.random() < 0.3:
        return leaf(rng)
    parts = tuple(expression(rng, depth - 1) for _ in range(rng.choice((0, 1, 2, 2, 3))))
    match rng.randrange(4):
        case 0:
            return Expression(not_=expression(rng, depth - 1))
        case 1:
            return Expression(any=parts[:2])
    return Expression(all=parts[:2] if depth > 2 else parts)


def wide_expression(rng: Random) -> Expression:
    ors = (Expression(any=tuple(leaf(rng) for _ in range(3))) for _ in range(rng.randint(3, 5)))
    return Expression(all=tuple(ors))


def leaf(rng: Random) -> Expression:
    if rng.random() < 0.35:
        return key_leaf(rng)
    dimension = rng.choice(DIMENSIONS)
    texts: tuple[int | str, ...] = (1, 2, "3") if dimension in ID_DIMENSIONS else (*TEXTS, 12)
    return _listed(rng, texts, dimension=dimension)


def key_leaf(rng: Random) -> Expression:
    key = rng.choice(KEYS)
    if rng.random() < 0.6:
        return _listed(rng, (*KEY_TEXTS, 7), key=key)
    low, high = sorted(rng.sample(BOUNDS, 2))
    match rng.randrange(3):
        case 0:
            return Expression(key=key, at_least=low)
        case 1:
            return Expression(key=key, below=high)
    return Expression(key=key, at_least=low, below=high)


def _listed(rng: Random, texts: tuple[int | str, ...], **subject: Any) -> Expression:
    values = tuple(rng.choices(texts, k=rng.choice((0, 1, 1, 2, 3))))
    if rng.random() < 0.35:
        return Expression(exclude=values, **subject)
    return Expression(include=values, **subject)


# -- plans -----------------------------------------------------------------------------------------


def plan(rng: Random, line_items: Sequence[LineItem]) -> Plan:
    """How some of the line items stand; scores tie across eCPMs, and a few lines are throttled."""
    ids = [line.id for line in line_items]

    def some(*values: int) -> dict[int, int]:
        share = rng.choice((0, 0.3, 1))
        return {number: rng.choice(values) for number in ids if rng.random() < share}

    return Plan(
        rates=some(0, 1, 500_000, 999_999, 1_000_000),
        multipliers=some(0, 1, 400_000, 500_000, 1_000_000, 2_000_000, 8_000_000),
        probabilities=some(0, 1, 1000, 2000, 1_000_000),
        stopped=frozenset(number for number in ids if rng.random() < 0.1),
    )


def planned(index: adcore.Index, plan: Plan, line_items: Sequence[LineItem]) -> adcore.Plan:
    """Make the index's own plan of it; stops are made through a Live."""
    ids = sorted({*plan.rates, *plan.multipliers, *plan.probabilities})
    booked = {
        line.id: line.rate.ctr_ppm if isinstance(line.rate, Cpc) else line.rate.conversion_ppm
        for line in line_items
        if isinstance(line.rate, Cpc | Cpa)
    }
    made = index.plan(
        ids,
        rates_ppm=[plan.rates.get(it, 1_000_000) for it in ids] if plan.rates else None,
        multipliers_ppm=(
            [plan.multipliers.get(it, 1_000_000) for it in ids] if plan.multipliers else None
        ),
        probabilities_ppm=(
            [plan.probabilities.get(it, booked.get(it, 0)) for it in ids]
            if plan.probabilities
            else None
        ),
    )
    live = index.live(0, made)
    for number in plan.stopped:
        live.stop(number)
    return made


# -- requests --------------------------------------------------------------------------------------


def request(rng: Random) -> Request:
    texts = (*TEXTS, *TEXTS[:2], "c", "A", "unheard of", "x" * 300, "\ud800", "")

    def text() -> str | None:
        return rng.choice(texts) if rng.random() < 0.8 else None

    def several() -> list[str]:
        return rng.choices(texts, k=rng.choice((0, 1, 2, 4)))

    return Request(
        placements=[placement(rng) for _ in range(rng.choice((0, 1, 1, 2, 3)))],
        country=text(),
        region=text(),
        metro=text(),
        city=text(),
        device=text(),
        os=text(),
        browser=text(),
        language=text(),
        domain=text(),
        connection=text(),
        keywords=several(),
        categories=several(),
        segments=several(),
        key_values=key_values(rng),
        blocked_creatives=rng.sample(range(1, 12), rng.choice((0, 0, 1, 3))),
        capped_line_items=rng.choices(range(998, 1022), k=rng.choice((0, 0, 1, 5, 20))),
    )


def placement(rng: Random) -> Placement:
    return Placement(
        name=rng.choice((*TEXTS, "A", "c")),
        site=rng.choice((0, 1, 1, 9, 2**70)),
        zones=rng.choices((1, 2, 3, 9, -1), k=rng.choice((0, 1, 2))),
        ad_types=rng.choices((1, 2, 3, 9, 2**64), k=rng.choice((0, 0, 0, 1, 2))),
        count=rng.choice((1, 2, 2, 3, 20)),
        floor_micros=rng.choice((0, 0, 0, 1, 1000, 1999, 2001, 2**62)),
        key_values=key_values(rng) if rng.random() < 0.3 else {},
        capped_line_items=rng.choices(range(998, 1022), k=rng.choice((0, 0, 0, 2, 10))),
    )


def key_values(rng: Random) -> KeyValues:
    scalars: tuple[Scalar, ...] = (
        *KEY_TEXTS, 7, 7.0, 0.5, -3, -0.0, True, False, 10**20, float("inf"), float("nan"),
        "\ud800",
    )  # fmt: skip
    given: KeyValues = {}
    for key in (*KEYS, "unheard of"):
        if rng.random() < 0.5:
            listed = rng.choices(scalars, k=rng.choice((0, 1, 1, 2, 3)))
            given[key] = listed if len(listed) != 1 or rng.random() < 0.5 else listed[0]
    return given


# -- Hypothesis ------------------------------------------------------------------------------------


def worlds() -> st.SearchStrategy[World]:
    return st.builds(world, st.randoms(use_true_random=False), st.integers(0, 8))


def expressions() -> st.SearchStrategy[Expression]:
    """Any well-formed expression, also one that needs too many conjunctions."""
    leaves = st.builds(leaf, st.randoms(use_true_random=False))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(lambda parts: Expression(all=tuple(parts)), st.lists(inner, max_size=4)),
            st.builds(lambda parts: Expression(any=tuple(parts)), st.lists(inner, max_size=4)),
            st.builds(lambda part: Expression(not_=part), inner),
        ),
        max_leaves=12,
    )


def requests() -> st.SearchStrategy[Request]:
    return st.builds(request, st.randoms(use_true_random=False))
