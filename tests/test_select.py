"""select keeps the rules of docs/architecture.md; each case is small enough to work by hand."""

from collections import Counter
from random import Random
from typing import Any

import pytest

import adcore
from adcore.catalog import Account, Ad, Cpa, Cpc, Expression, Flat, LineItem
from adcore.limits import (
    BLOCKED_MAX,
    CAPPED_HERE_MAX,
    CAPPED_MAX,
    PLACEMENTS_MAX,
    REQUEST_KEYS_MAX,
    REQUEST_VALUES_MAX,
    WINNERS_MAX,
)
from adcore.request import Placement, Request
from tests.oracle import Oracle, drawn, live_lines
from tests.worlds import MOMENTS, catalog_of, item

NOW_S = MOMENTS[0]
SECOND_PRICE = Account("account", "EUR", auction="second_price")


def wins(
    *items: LineItem, request: Request | None = None, draw: int = 1, **records: Any
) -> list[list[adcore.Win]]:
    index = adcore.compile(catalog_of(*items, **records))
    return index.select(request or Request([Placement("slot")]), index.live(NOW_S), draw)


def ids(*items: LineItem, **given: Any) -> list[list[int]]:
    return [[win.line_item_id for win in placement] for placement in wins(*items, **given)]


def asking(**fields: Any) -> Request:
    return Request([Placement("slot", **fields)])


# -- order -----------------------------------------------------------------------------------------


def test_a_smaller_priority_wins_whatever_it_pays() -> None:
    assert ids(item(1, 9000, priority=8), item(2, 1, priority=4)) == [[2]]


def test_in_an_auction_the_higher_ecpm_wins_and_rates_compare_by_ecpm() -> None:
    click = item(2, rate=Cpc(1_000_000, ctr_ppm=2000))  # 2 units for 1000 impressions
    action = item(3, rate=Cpa(10_000_000, conversion_ppm=300))
    flat = item(4, rate=Flat(1, value_cpm_micros=1_500_000))
    items = (item(1, 1_000_000), click, action, flat)
    assert ids(*items, request=asking(count=4)) == [[3, 2, 4, 1]]
    assert [win.ecpm_micros for win in wins(*items, request=asking(count=4))[0]] == [
        3_000_000, 2_000_000, 1_500_000, 1_000_000,
    ]  # fmt: skip


def test_equals_are_drawn_by_weight() -> None:
    items = [item(1, weight=1), item(2, weight=3)]
    index = adcore.compile(catalog_of(*items))
    live, rng = index.live(NOW_S), Random(5)
    tally = Counter(
        index.select(asking(), live, rng.getrandbits(64))[0][0].line_item_id for _ in range(4000)
    )
    assert 900 < tally[1] < 1100


def test_a_lottery_ignores_the_price() -> None:
    items = [item(1, 1, priority=12), item(2, 9000, priority=12)]
    index = adcore.compile(catalog_of(*items))
    live = index.live(NOW_S)
    assert {index.select(asking(), live, n * 2**60)[0][0].line_item_id for n in range(16)} == {1, 2}


@pytest.mark.parametrize("draw", [0, 1, 2**63, 2**64 - 1])
def test_the_draw_is_the_documented_arithmetic(draw: int) -> None:
    """Weights that do not divide 2^64, so that a rounding other than the stated one shows."""
    weights = [7, 1, 999_983, 13, 1_000_000]
    items = [item(n, weight=weight) for n, weight in enumerate(weights)]
    expected = drawn(weights, draw, placement=1, pick=0, purpose=0)
    answer = ids(*items, request=Request([Placement("a"), Placement("b")]), draw=draw)
    assert answer[1] == [expected]


def unmixed(hashed: int, purpose: int) -> int:
    """Return the draw whose mix for placement 0 and pick 0 is `hashed`: splitmix64 backwards."""
    mask = 2**64 - 1
    for part in (purpose, 0, 0):
        hashed ^= hashed >> 31 ^ hashed >> 62
        hashed = hashed * pow(0x94D049BB133111EB, -1, 2**64) & mask
        hashed ^= hashed >> 27 ^ hashed >> 54
        hashed = hashed * pow(0xBF58476D1CE4E5B9, -1, 2**64) & mask
        hashed ^= hashed >> 30 ^ hashed >> 60
        hashed = (hashed - 0x9E3779B97F4A7C15 & mask) ^ part
    return hashed


@pytest.mark.parametrize("third", [1, 2])
def test_a_draw_is_exact_to_the_last_of_its_64_bits(third: int) -> None:
    """The smallest hash that gives each of three equals its turn, and the one before it."""
    first = -(-third * 2**64 // 3)
    lines = [item(n) for n in range(3)]
    assert ids(*lines, draw=unmixed(first, 0)) == [[third]]
    assert ids(*lines, draw=unmixed(first - 1, 0)) == [[third - 1]]
    ads = item(9, ads=(Ad(1), Ad(2), Ad(3)))
    assert wins(ads, draw=unmixed(first, 1))[0][0].ad == third
    assert wins(ads, draw=unmixed(first - 1, 1))[0][0].ad == third - 1


# -- what a line must have -------------------------------------------------------------------------


def test_a_floor_is_the_least_ecpm_that_serves_in_every_kind_of_priority() -> None:
    items = (item(1, 999), item(2, 1000), item(3, 999, priority=12), item(4, 1000, priority=12))
    assert ids(*items, request=asking(floor_micros=1000, count=4)) == [[2, 4]]


def test_a_line_needs_an_ad_of_an_asked_type_that_is_not_blocked() -> None:
    items = (item(1, 3000, ads=(Ad(1),)), item(2, 2000, ads=(Ad(2), Ad(1))), item(3, 1000))
    [[first]] = wins(*items, request=asking(ad_types=[2, 3]))
    assert (first.line_item_id, first.creative_id, first.ad) == (2, 2, 1)
    blocking = Request([Placement("slot", count=3)], blocked_creatives=[1])
    assert ids(*items, request=blocking) == [[2]]
    assert ids(*items, request=asking(ad_types=[2**64])) == [[]]


def test_a_line_with_several_matching_conjunctions_wins_once() -> None:
    either = Expression(
        any=(Expression(dimension="country", include=("DE",)), Expression(key="k", include=("x",)))
    )
    request = Request([Placement("slot", count=5)], country="de", key_values={"k": "x"})
    assert ids(item(1, targeting=either), request=request) == [[1]]


def test_an_absent_dimension_fails_an_include_and_passes_an_exclude() -> None:
    items = (
        item(1, 3000, targeting=Expression(dimension="country", include=("DE",))),
        item(2, 2000, targeting=Expression(dimension="country", exclude=("DE",))),
        item(3, 1000, targeting=Expression(key="age", at_least=0.0)),
        item(4, 500, targeting=Expression(not_=Expression(key="age", at_least=0.0))),
    )
    assert ids(*items, request=asking(count=4)) == [[2, 4]]


def test_a_placement_adds_to_the_requests_key_values() -> None:
    both = Expression(
        all=(Expression(key="k", include=("a",)), Expression(key="k", include=("b",)))
    )
    request = Request(
        [Placement("one", key_values={"k": "b"}), Placement("two")], key_values={"k": ["a", "c"]}
    )
    assert ids(item(1, targeting=both), request=request) == [[1], []]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (25, "25"), (0.5, "0.5"), (25.0, "25.0"), (True, "true"), (False, "false"), (-7, "-7"),
        (10**20, str(10**20)), (1e300, "1e+300"), (float("nan"), "nan"), (-0.0, "-0.0"),
    ],
)  # fmt: skip
def test_a_number_is_also_its_text(value: Any, text: str) -> None:
    request = Request([Placement("slot")], key_values={"k": value})
    assert ids(item(1, targeting=Expression(key="k", include=(text,))), request=request) == [[1]]


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        (18, True), (30, False), (17.99, False), (29.99, True), ("20", False), (True, False),
        (float("nan"), False), ([1, "x", 20], True), ([], False),
    ],
)  # fmt: skip
def test_a_range_holds_its_low_end_and_only_numbers(value: Any, inside: bool) -> None:
    adults = item(1, targeting=Expression(key="age", at_least=18.0, below=30.0))
    request = Request([Placement("slot")], key_values={"age": value})
    assert ids(adults, request=request) == ([[1]] if inside else [[]])


def test_a_huge_number_is_above_every_bound() -> None:
    grown = item(1, targeting=Expression(key="n", at_least=2.0**53))
    low = item(2, targeting=Expression(key="n", below=-(2.0**53)))
    for value, winner in ((10**5000, 1), (-(10**5000), 2), (10**200, 1), (2**63, 1)):
        request = Request([Placement("slot")], key_values={"n": value})
        assert ids(grown, low, request=request) == [[winner]]


def test_a_line_that_the_request_leaves_out_neither_wins_nor_bids() -> None:
    items = (item(1, 3000), item(2, 2000), item(3, 1000))
    request = Request([Placement("slot")], capped_line_items=[7, 2, 7, 1, 2, 1])
    assert ids(*items, request=request) == [[3]]
    index = adcore.compile(catalog_of(*items))
    index.select(request, index.live(NOW_S), 1)
    assert index.seen["capped"] == 2
    request.capped_line_items = [2]
    [[win]] = wins(*items, request=request, account=SECOND_PRICE)
    assert (win.line_item_id, win.clear_price_micros) == (1, 1001), "no rival either"
    request.capped_line_items = [1, 2, 3]
    assert ids(*items, request=request) == [[]]
    here = Request([Placement("a"), Placement("b", capped_line_items=[2, 1]), Placement("c")])
    assert ids(*items, request=here) == [[1], [3], [1]]


@pytest.mark.parametrize("count", [1, 2, 3, 64, CAPPED_MAX])
def test_each_of_those_left_out_is_found(count: int) -> None:
    rng = Random(count)
    left_out = rng.sample(range(1, 2000), count)
    index = adcore.compile(catalog_of(*(item(n) for n in range(1, 2000))))
    request = Request([Placement("slot", count=100)], capped_line_items=left_out)
    for draw in range(30):
        [won] = index.select(request, index.live(NOW_S), draw * 2**58)
        assert len(won) == 100
        assert not {win.line_item_id for win in won} & set(left_out)


# -- labels ----------------------------------------------------------------------------------------


def test_winners_of_one_request_share_no_label() -> None:
    items = (
        item(1, 4000, labels=("cars",)),
        item(2, 3000, labels=("beer", "cars")),
        item(3, 2000, labels=("beer",)),
        item(4, 1000),
    )
    request = Request([Placement("a", count=2), Placement("b", count=2)])
    # A line without labels may win in both placements; line 1 not, as it would share with itself.
    assert ids(*items, request=request) == [[1, 3], [4]]
    assert ids(*items, request=request) == [[1, 3], [4]], "labels of the last request are forgotten"


# -- prices ----------------------------------------------------------------------------------------


def prices(*items: LineItem, **fields: Any) -> list[int]:
    [won] = wins(*items, request=asking(**fields), account=SECOND_PRICE)
    return [win.clear_price_micros for win in won]


def test_second_price_is_a_micro_above_the_next_and_at_least_the_floor() -> None:
    items = (item(1, 5000), item(2, 3000), item(3, 1000))
    assert prices(*items, count=3) == [3001, 1001, 0]
    assert prices(*items, count=1, floor_micros=4000) == [4000]
    assert prices(*items, count=3, floor_micros=700) == [3001, 1001, 700]
    assert prices(item(1, 5000), item(2, 5000)) == [5000], "never more than its own"


def test_second_price_looks_at_its_own_priority_and_not_at_a_lottery() -> None:
    assert prices(item(1, 5000, priority=4), item(2, 4000, priority=8)) == [0]
    assert prices(item(1, 5000, priority=12), item(2, 4000, priority=12), count=2).count(5000) == 1


def test_second_price_skips_those_who_share_a_label_with_a_winner_so_far() -> None:
    items = (
        item(1, 5000, labels=("cars",)),
        item(2, 4000, labels=("cars",)),
        item(3, 3000, labels=("beer",)),
        item(4, 2000, labels=("beer",)),
        item(5, 1000),
    )
    assert prices(*items, count=2) == [3001, 1001]


def test_second_price_of_a_click_is_rounded_up_and_of_a_flat_rate_is_its_own() -> None:
    click = item(1, rate=Cpc(1_000_000, ctr_ppm=3000))  # 3_000_000 for 1000 impressions
    assert prices(click, item(2, 1_000_000)) == [333_334]
    assert prices(item(1, rate=Flat(77, value_cpm_micros=5000)), item(2, 1000)) == [77]
    assert prices(item(1, rate=Cpc(500, ctr_ppm=0))) == [500], "nothing to convert by"
    # A million on 10^9 units, times the largest probability: needs more than 64 bits on the way.
    assert prices(item(1, rate=Cpc(10**15, ctr_ppm=10**6)), item(2, 10**15)) == [10**12 + 1]


def test_first_price_is_the_lines_own() -> None:
    [[win]] = wins(item(1, rate=Cpc(700, ctr_ppm=999)), item(2, 1))
    assert win.clear_price_micros == 700


def test_what_a_price_is_worth_is_said_per_thousand_impressions() -> None:
    click = item(1, rate=Cpc(1_000_000, ctr_ppm=3000))
    [[win]] = wins(click, item(2, 1_000_000), account=SECOND_PRICE)
    assert win.clear_ecpm_micros == 1_000_001, "the next one's, and a micro"
    [[win]] = wins(click, item(2, 1_000_000))
    assert win.clear_ecpm_micros == 3_000_000
    [[win]] = wins(item(1, rate=Flat(77, value_cpm_micros=5000)), account=SECOND_PRICE)
    assert win.clear_ecpm_micros == 5000, "a flat rate is its own, whoever is next"


# -- blocks ----------------------------------------------------------------------------------------

EDGES = (0, 1, 63, 64, 65, 511, 512, 513, 2047, 2049)
WORLDS = [(rows, groups) for rows in EDGES for groups in (1, 3, 10_000)]
# Past the first large block; once each, as the oracle takes its time.
WORLDS += [(4095, 1), (4097, 3), (6145, 3)]


def rung(number: int, groups: int) -> LineItem:
    """Name values that one, thirty or a seventh of the lines have: all kinds of postings."""
    city = Expression(dimension="city", include=(f"{number}", f"m{number % 199}", f"c{number % 7}"))
    keyword = Expression(dimension="keyword", include=(f"k{number % 151}",))
    segment = Expression(dimension="segment", exclude=(f"not {number}", f"not {number % 5}"))
    targeting = Expression(all=(city, keyword, segment))
    return item(number, 1000 + number % groups, targeting=targeting)


@pytest.mark.parametrize(("rows", "groups"), WORLDS)
def test_every_row_can_win_at_the_edges_of_blocks(rows: int, groups: int) -> None:
    rng = Random(rows)
    catalog = catalog_of(*(rung(number, groups) for number in range(rows)))
    index, oracle = adcore.compile(catalog), Oracle(catalog)
    live, expected_live = index.live(NOW_S), live_lines(catalog, NOW_S)
    assert live.count == index.row_count == rows
    cities = [*(f"c{n}" for n in range(7)), "m0", "m57", *map(str, (0, 609, rows // 2, rows - 1))]
    for city in cities:
        # Half of the keywords leave something of every city. A `c` must keep its last row, so that
        # a draw over a whole group notices it; and line 609, alone in its city, must be found by
        # skipping four rows of its keyword, as nothing before it is looked at.
        always = [f"k{(rows - 1) % 151}", f"k{609 % 151}"]
        keywords = [*always, *(f"k{n}" for n in rng.sample(range(151), 75))]
        segments = [f"not {rng.randrange(5)}", f"not {rng.randrange(rows + 5)}"]
        request = Request(
            [Placement("slot", count=rng.choice((3, 20)))],
            city=city,
            keywords=keywords,
            segments=rng.sample(segments, 2),
        )
        draw = rng.getrandbits(64)
        expected = oracle.select(request, expected_live, draw)
        got = index.select(request, live, draw)
        assert [[w.line for w in won] for won in got] == [[w.line for w in won] for won in expected]


# -- the library's door ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"count": 0}, {"count": WINNERS_MAX + 1}, {"count": -1}, {"count": 2**70},
        {"floor_micros": -1}, {"floor_micros": 2**63}, {"zones": [1] * (REQUEST_VALUES_MAX + 1)},
        {"capped_line_items": [1] * (CAPPED_HERE_MAX + 1)},
        {"ad_types": [1] * (REQUEST_VALUES_MAX + 1)},
        {"key_values": {str(n): 1 for n in range(REQUEST_KEYS_MAX)}},
        {"key_values": {"k": [1] * REQUEST_VALUES_MAX}},
    ],
)  # fmt: skip
def test_a_placement_out_of_bounds_is_a_value_error(fields: dict[str, Any]) -> None:
    request = Request([Placement("slot", **fields)], key_values={"one": "more"})
    with pytest.raises(ValueError, match=r"must be|more than"):
        wins(item(1), request=request)


@pytest.mark.parametrize(
    "fields",
    [
        {"keywords": ["x"] * (REQUEST_VALUES_MAX + 1)}, {"segments": ["x"] * 5000},
        {"blocked_creatives": [1] * (BLOCKED_MAX + 1)},
        {"capped_line_items": [1] * (CAPPED_MAX + 1)},
        {"key_values": {str(n): 1 for n in range(REQUEST_KEYS_MAX + 1)}},
        {"key_values": {"k": [0.5] * REQUEST_VALUES_MAX, "l": 1}},
    ],
)  # fmt: skip
def test_a_request_out_of_bounds_is_a_value_error(fields: dict[str, Any]) -> None:
    known = item(1, targeting=Expression(key="k", below=1.0))
    with pytest.raises(ValueError, match="more than"):
        wins(known, request=Request([Placement("slot")], **fields))
    with pytest.raises(ValueError, match="more than"):
        wins(known, request=Request([Placement("slot")] * (PLACEMENTS_MAX + 1)))


def test_a_request_at_every_limit_is_answered() -> None:
    """Everything is known to the catalog, so that the scratch is as full as it can be."""
    texts = [str(n) for n in range(REQUEST_VALUES_MAX)]
    numbers = [*range(1, REQUEST_VALUES_MAX + 1)]
    known = [
        item(n + 1, n, targeting=Expression(dimension=name, include=tuple(values)))
        for n, (name, values) in enumerate(
            [(name, texts) for name in ("keyword", "category", "segment", "country", "placement")]
            + [(name, numbers) for name in ("zone", "ad_type", "site")]
        )
    ]
    known.append(item(99, 99, targeting=Expression(key="k", include=tuple(texts[:500]))))
    known.append(item(98, 98, targeting=Expression(key="k", at_least=1023.0)))
    placement = Placement("7", 7, numbers, numbers, WINNERS_MAX, 0, {"k": [*range(1, 1024)]})
    request = Request(
        [placement] * PLACEMENTS_MAX,
        country="7",
        keywords=texts,
        categories=texts,
        segments=texts,
        key_values={"k": 0},
        blocked_creatives=[*range(2, BLOCKED_MAX + 2)],
        capped_line_items=[*range(100, CAPPED_MAX + 100)],
    )
    answer = ids(*known, request=request)
    assert answer == [[99, 98, 8, 7, 6, 5, 4, 3, 2, 1]] * PLACEMENTS_MAX


@pytest.mark.parametrize(
    "fields",
    [
        {"country": 5}, {"country": b"DE"}, {"keywords": "abc"}, {"keywords": [None]},
        {"segments": ("a",)}, {"blocked_creatives": ["1"]}, {"blocked_creatives": [True]},
        {"capped_line_items": ["1"]}, {"capped_line_items": (1,)},
        {"key_values": []}, {"key_values": {1: "x"}}, {"key_values": {"k": None}},
        {"key_values": {"k": [["x"]]}}, {"key_values": {"k": {}}},
        {"key_values": {"unheard of": object()}}, {"placements": None}, {"placements": [None]},
    ],
)  # fmt: skip
def test_a_wrong_type_in_a_request_is_a_type_error(fields: dict[str, Any]) -> None:
    index = adcore.compile(catalog_of(item(1)))
    live = index.live(NOW_S)
    with pytest.raises(TypeError):
        index.select(Request(**{"placements": [Placement("slot")]} | fields), live, 1)
    assert len(index.select(Request([Placement("slot")]), live, 1)[0]) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"name": None}, {"site": "1"}, {"zones": (1,)}, {"count": 1.0}, {"ad_types": [1.0]},
        {"key_values": []}, {"key_values": {"k": None}}, {"capped_line_items": (1,)},
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [0, 1])
def test_a_wrong_type_in_a_placement_leaves_the_index_fit(
    fields: dict[str, Any], before: int
) -> None:
    index = adcore.compile(catalog_of(item(1, labels=("cars",))))
    live = index.live(NOW_S)
    good = Placement("slot")
    with pytest.raises(TypeError):
        # The winner of the first placement holds a label when the second one fails.
        index.select(Request([good] * before + [Placement(**{"name": "p"} | fields)]), live, 1)
    wins = index.select(Request([good]), live, 1)
    assert [[win.line_item_id for win in placed] for placed in wins] == [[1]]


@pytest.mark.parametrize(
    ("owner", "field"),
    [("request", "keywords"), ("request", "key_values"), ("request", "blocked_creatives"),
     ("request", "capped_line_items"), ("request", "placements"), ("placement", "name"),
     ("placement", "capped_line_items"), ("placement", "zones"),
     ("placement", "site"), ("placement", "key_values")],
)  # fmt: skip
def test_a_field_taken_away_is_a_type_error(owner: str, field: str) -> None:
    index = adcore.compile(catalog_of(item(1)))
    request = Request([Placement("slot")])
    setattr(request if owner == "request" else request.placements[0], field, None)
    with pytest.raises(TypeError, match="not "):
        index.select(request, index.live(NOW_S), 1)


def test_the_arguments_are_checked() -> None:
    index, other = adcore.compile(catalog_of(item(1))), adcore.compile(catalog_of(item(1)))
    with pytest.raises(ValueError, match="another Index"):
        index.select(Request([]), other.live(NOW_S), 1)
    with pytest.raises(TypeError):
        index.select(None, index.live(NOW_S), 1)
    with pytest.raises(TypeError):
        index.select(Request([]), None, 1)
    with pytest.raises(OverflowError):
        index.select(Request([]), index.live(NOW_S), 2**64)
    with pytest.raises(TypeError):
        adcore.Win()
