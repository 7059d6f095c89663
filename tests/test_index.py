"""live is exact for the seconds it says, dayparts follow the clock change, and nothing leaks."""

import gc
import sys
import tracemalloc
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import adcore
from adcore.catalog import Campaign, Daypart, Flight
from adcore.request import Placement, Request
from tests import worlds
from tests.oracle import live_lines
from tests.worlds import MOMENTS, catalog_of, item


def seconds(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp())


# -- live ------------------------------------------------------------------------------------------


@given(st.randoms(use_true_random=False), st.sampled_from(MOMENTS), st.integers(-5000, 5000))
def test_live_is_exact_for_the_seconds_it_says(rng: Random, moment: int, offset_s: int) -> None:
    """Without targeting each line has one row, so the count is the number of live lines."""
    lines = [worlds.line_item(rng, number) for number in range(8)]
    plain = [item(line.id, status=line.status, flight=line.flight, dayparts=line.dayparts,
                  time_zone=line.time_zone) for line in lines]  # fmt: skip
    catalog = catalog_of(*plain)
    index = adcore.compile(catalog)
    now_s = moment + offset_s
    live = index.live(now_s)
    assert live.valid_from_s <= now_s < live.valid_until_s
    span = range(live.valid_from_s, live.valid_until_s)
    for second in (span[0], span[len(span) // 2], span[-1]):
        assert len(live_lines(catalog, second)) == live.count
        assert index.live(second).valid_until_s == live.valid_until_s


def test_live_ends_at_the_next_quarter_or_flight_edge() -> None:
    start, end = seconds(2026, 1, 5, 10, 5), seconds(2026, 1, 5, 10, 10)
    flight = Flight(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))
    index = adcore.compile(catalog_of(item(1, flight=flight)))
    quarter = seconds(2026, 1, 5, 10)
    ranges = [(quarter, start, 0), (start, end, 1), (end, quarter + 900, 0)]
    for from_s, until_s, count in ranges:
        live = index.live(from_s)
        assert (live.valid_from_s, live.valid_until_s, live.count) == (from_s, until_s, count)


def test_pauses_of_line_and_campaign_count() -> None:
    campaigns = (Campaign(1, 1, "on"), Campaign(2, 1, "off", status="paused"))
    items = (item(1), item(2, status="paused"), item(3, campaign_id=2))
    index = adcore.compile(catalog_of(*items, campaigns=campaigns))
    live = index.live(MOMENTS[0])
    assert live.count == 1
    [won] = index.select(Request([Placement("slot", count=3)]), live, 0)
    assert [win.line_item_id for win in won] == [1]


@pytest.mark.parametrize(
    ("zone", "moment", "open_"),
    [
        # Berlin: summer time ends on 26 October 2025 at 01:00 UTC, so 02:00 to 03:00 comes twice.
        ("Europe/Berlin", (2025, 10, 25, 23, 59), False),
        ("Europe/Berlin", (2025, 10, 26, 0, 0), True),
        ("Europe/Berlin", (2025, 10, 26, 1, 59), True),
        ("Europe/Berlin", (2025, 10, 26, 2, 0), False),
        # It starts on 29 March 2026 at 01:00 UTC, when 02:00 to 03:00 does not come at all.
        ("Europe/Berlin", (2026, 3, 29, 0, 59), False),
        ("Europe/Berlin", (2026, 3, 29, 1, 0), False),
        # UTC+5:45 all year, and UTC-3:30 in winter.
        ("Asia/Kathmandu", (2026, 1, 3, 20, 14), False),
        ("Asia/Kathmandu", (2026, 1, 3, 20, 15), True),
        ("Asia/Kathmandu", (2026, 1, 3, 21, 15), False),
        ("America/St_Johns", (2026, 1, 4, 5, 29), False),
        ("America/St_Johns", (2026, 1, 4, 5, 30), True),
    ],
)
def test_dayparts_follow_the_local_clock(zone: str, moment: tuple[int, ...], open_: bool) -> None:
    sunday_at_two = Daypart(("sun",), 2, 3)
    index = adcore.compile(catalog_of(item(1, time_zone=zone, dayparts=(sunday_at_two,))))
    assert index.live(seconds(*moment)).count == open_


# -- shape -----------------------------------------------------------------------------------------


def test_the_counts_are_those_of_the_catalog() -> None:
    world = worlds.world(Random(5))
    index = adcore.compile(world.catalog)
    assert index.line_count == len(world.catalog.line_items)
    assert index.ad_count == sum(len(line.ads) for line in world.catalog.line_items)
    assert index.nbytes == len(index.buffer)


def test_an_empty_catalog_answers_every_request_with_nothing() -> None:
    index = adcore.compile(catalog_of())
    live = index.live(MOMENTS[0])
    assert (index.row_count, live.count) == (0, 0)
    assert index.select(Request([Placement("slot")] * 3), live, 1) == [[], [], []]


# -- memory ----------------------------------------------------------------------------------------


def growth_bytes(work: object, rounds: int) -> int:
    """Return the bytes that `rounds` more calls leave allocated; PyMem is traced, so C counts.

    As many calls go before, and are traced as well: caches of others, such as zoneinfo's, fill up.
    """
    assert callable(work)
    tracemalloc.start()
    try:
        for _ in range(rounds):
            work()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(rounds):
            work()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before


def test_select_and_live_leak_nothing() -> None:
    rng = Random(23)
    world = worlds.world(rng, line_count_max=40)
    index = adcore.compile(world.catalog)
    requests = [worlds.request(rng) for _ in range(20)]

    def work() -> None:
        live = index.live(rng.choice(MOMENTS))
        for request in requests:
            index.select(request, live, rng.getrandbits(64))

    # 4000 calls: a Win or a number's text left behind by one in two would be twice as much.
    assert growth_bytes(work, 200) < 16_000


def test_compile_attach_and_their_failures_leak_nothing() -> None:
    world = worlds.world(Random(29))
    good = bytes(adcore.compile(world.catalog).buffer)
    bad = good[:-1]

    def work() -> None:
        adcore.compile(world.catalog)
        adcore.Index.attach(good)
        for content in (bad, bytearray(good)):
            with pytest.raises(ValueError, match="compiled catalog"):
                adcore.Index.attach(content)

    before = sys.getrefcount(good)
    # The scratch of one Index alone is more than 100,000 bytes.
    assert growth_bytes(work, 20) < 20_000
    after = sys.getrefcount(good)
    assert after == before


def test_an_index_lives_as_long_as_its_live() -> None:
    index = adcore.compile(catalog_of(item(1)))
    live = index.live(MOMENTS[0])
    references = sys.getrefcount(index)
    del live
    left = sys.getrefcount(index)
    assert left == references - 2  # its own, and its plan's


def test_the_public_names_are_these() -> None:
    names = ["Catalog", "Index", "Live", "Placement", "Plan", "Request", "Win", "compile"]
    assert sorted(adcore.__all__) == names
