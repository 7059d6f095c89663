"""The index, the scan of rows as they were booked, and the oracle agree on every line.

The scan reads nothing that the index matches by, so at millions of pairs it stands in for the
oracle, which is held against both on a part of them. ADCORE_SOAK_PAIRS says how many pairs (a
request's placement, a row) the scan goes through: `make soak`.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Event

import pytest
from msgspec.structs import replace

import adcore
from adcore import tables
from adcore.catalog import Expression
from adcore.request import Placement, Request
from benchmarks import workload
from tests import worlds
from tests.oracle import holds, live_lines
from tests.test_layout import HEADER, SECTION
from tests.worlds import catalog_of, item

LINES = 1200
ORACLE_PAIRS = 100_000
SCAN_PAIRS = int(os.environ.get("ADCORE_SOAK_PAIRS", 10_000_000))
ROUND_PAIRS = 2_000_000  # after so many, another catalog
ALL_WORDS = 2**32 - 1


def crowded(rng: Random) -> adcore.Catalog:
    lines = tuple(worlds.line_item(rng, number) for number in range(LINES))
    return replace(worlds.world(rng).catalog, line_items=lines)


def test_index_scan_and_oracle_agree_on_lines() -> None:
    rng = Random(21)
    pairs = 0
    while pairs < ORACLE_PAIRS:
        catalog = crowded(rng)
        index = adcore.compile(catalog)
        now_s = rng.choice(worlds.MOMENTS)
        live, expected_live = index.live(now_s), live_lines(catalog, now_s)
        for request in (worlds.request(rng) for _ in range(20)):
            matching = index.matching(request, live)
            assert matching == index.scan(request, live)
            for placement, lines in zip(request.placements, matching, strict=True):
                assert sorted(lines) == [
                    line
                    for line in sorted(expected_live)
                    if holds(catalog.line_items[line].targeting, request, placement)
                ]
                pairs += len(expected_live)


def test_index_and_scan_agree_on_rows_by_the_million() -> None:
    rng = Random(int(os.environ.get("ADCORE_SOAK_SEED", 22)))
    pairs = matched = 0
    while pairs < SCAN_PAIRS:
        index = adcore.compile(crowded(rng))
        live = index.live(rng.choice(worlds.MOMENTS))
        round_end = min(SCAN_PAIRS, pairs + ROUND_PAIRS)
        while pairs < round_end:
            request = worlds.request(rng)
            assert index.differences(request, live, 0, ALL_WORDS) == 0
            pairs += live.count * len(request.placements)
            matched += sum(map(len, index.matching(request, live)))
    assert matched > pairs / 1000, "worlds in which nothing matches test nothing"


def test_they_agree_on_the_reference_workload() -> None:
    """Sets of many values, lists longer than a block, bitmaps: what small worlds do not have."""
    for name in ("ADS-A", "ADS-B"):
        index = adcore.compile(workload.catalog(name, 5000, 3))
        live = index.live(workload.NOW_S)
        for request in workload.requests(200, 4):
            assert index.differences(request, live, 0, ALL_WORDS) == 0


@pytest.mark.parametrize("line_count", [0, 1, 63, 64, 65, 511, 512, 513, 4096, 4097])
def test_lines_at_the_edges_of_words_and_blocks_are_told(line_count: int) -> None:
    index = adcore.compile(catalog_of(*(item(n + 1) for n in range(line_count))))
    live = index.live(worlds.MOMENTS[0])
    request = Request([Placement("slot")])
    assert sorted(index.matching(request, live)[0]) == [*range(line_count)]
    assert sorted(index.scan(request, live)[0]) == [*range(line_count)]
    assert index.differences(request, live, 0, ALL_WORDS) == 0


def test_a_stop_meanwhile_is_no_difference() -> None:
    """From another thread, since the check lets go of the GIL; seen to fail on live rows."""
    index = adcore.compile(catalog_of(*(item(n + 1) for n in range(4096))))
    live = index.live(worlds.MOMENTS[0])
    request = Request([Placement("slot")])
    checked = Event()

    def turn() -> None:
        while not checked.is_set():
            for line_item_id in range(1, 4097, 64):
                live.stop(line_item_id)
                live.resume(line_item_id)

    with ThreadPoolExecutor(1) as threads:
        turning = threads.submit(turn)
        differences = [index.differences(request, live, 0, ALL_WORDS) for _ in range(2000)]
        checked.set()
        turning.result()
    assert set(differences) == {0}


def test_a_check_may_look_at_any_part() -> None:
    index = adcore.compile(catalog_of(*(item(n + 1) for n in range(3000))))
    live = index.live(worlds.MOMENTS[0])
    request = Request([Placement("slot")])
    for word_first, word_count in ((0, 0), (7, 8), (40, 64), (47, 1), (1000, 8), (2**32 - 1, 1)):
        assert index.differences(request, live, word_first, word_count) == 0


def test_a_planted_difference_is_counted() -> None:
    """One bit of one bitmap: the index is wrong on one row, and the scan is not."""
    only_a = Expression(dimension="os", include=("a",))
    made = adcore.compile(catalog_of(*(item(n, targeting=only_a) for n in range(1, 99))))
    content = bytearray(made.buffer)
    start, _ = SECTION.unpack_from(content, HEADER.size + tables.BITMAPS * SECTION.size)
    content[start] ^= 1 << 5
    index = adcore.Index.attach(bytes(content))
    live = index.live(worlds.MOMENTS[0])
    for placements in (1, 3):
        request = Request([Placement("slot")] * placements)
        assert index.differences(request, live, 0, ALL_WORDS) == placements
        assert index.differences(request, live, 8, 8) == 0
