"""Columns put together from many lists, in windows: held against the scan at every edge.

A select plans for the first 4 blocks and then for the rest, of which it opens windows of 8, 32 and
then 128 blocks, a full match of 128 (65,536 rows) from the start; lists begin, end and pause
anywhere among them.
"""

from functools import cache
from random import Random

import pytest

import adcore
from adcore.catalog import Expression, LineItem
from adcore.index import OUTCOMES
from adcore.request import Placement, Request
from tests.worlds import MOMENTS, catalog_of, item

NOW_S = MOMENTS[0]
BLOCK, WINDOW = 512, 65_536
ALL_WORDS = 2**32 - 1
FAR = 172 * BLOCK + 4097
SEGMENTS = 400
# The rows at which blocks and windows of a select begin; those of a full match are among them.
EDGES = [0, BLOCK, 4 * BLOCK, 12 * BLOCK, 44 * BLOCK, WINDOW, 172 * BLOCK, 2 * WINDOW]


def crossing(rng: Random, number: int) -> LineItem:
    """A line that few requests meet: it needs values of two or three sets of segments."""
    leaves = []
    for _ in range(rng.randint(2, 3)):
        values = tuple(f"s{int(SEGMENTS * rng.random() ** 2)}" for _ in range(rng.randint(1, 3)))
        if rng.random() < 0.3:
            leaves.append(Expression(dimension="segment", exclude=tuple(dict.fromkeys(values))))
        else:
            leaves.append(Expression(dimension="segment", include=tuple(dict.fromkeys(values))))
    # Just here and just before: the first row of a window, and the last.
    if any(edge - 1 <= number <= edge for edge in EDGES):
        leaves = [Expression(dimension="keyword", include=("edge",))]
    # Ranks are by eCPM falling, so the row of a line is its number.
    return item(number + 1, 10**9 - number, targeting=Expression(all=tuple(leaves)))


@cache
def crowd(rows: int) -> adcore.Index:
    rng = Random(rows)
    return adcore.compile(catalog_of(*(crossing(rng, number) for number in range(rows))))


def asked(rng: Random, count: int, winners: int = 1) -> Request:
    segments = [f"s{number}" for number in rng.sample(range(SEGMENTS), count)]
    return Request([Placement("slot", count=winners)], segments=segments, keywords=["edge"])


@pytest.mark.parametrize("rows", [1, 511, 513, 2048, 2049, 6145, 22_529, WINDOW + 1, FAR])
@pytest.mark.parametrize("segments", [0, 1, 2, 30, 390])
def test_many_lists_over_the_edges_of_windows(rows: int, segments: int) -> None:
    index = crowd(rows)
    live = index.live(NOW_S)
    request = asked(Random(segments), segments, 100)
    [expected] = index.scan(request, live)
    assert set(expected) >= {edge for edge in EDGES if edge < rows}
    assert index.matching(request, live) == [expected]
    [won] = index.select(request, live, 7)
    assert [win.line for win in won] == list(expected[:100])


@pytest.mark.parametrize("rows", [22_529, FAR])
def test_a_walk_may_begin_behind_the_first_rows_of_every_list(rows: int) -> None:
    index = crowd(rows)
    live = index.live(NOW_S)
    rng = Random(11)
    for word_first in (8, 40, 168, 1016, 1024, 1032, ALL_WORDS):
        assert index.differences(asked(rng, 100), live, word_first, ALL_WORDS) == 0


def test_winners_are_found_wherever_they_stand() -> None:
    """Nobody but one line: the walk goes on to it through windows of every size."""
    rows = 172 * BLOCK + 600
    places = [*EDGES[:-1], *(edge - 1 for edge in EDGES[1:-1]), 3 * BLOCK + 7, rows - 1]
    lines = {}
    for number, place in enumerate(places):
        both = Expression(
            all=(
                Expression(dimension="segment", include=(f"p{number}", "q")),
                Expression(dimension="keyword", exclude=(f"n{place % 5}",)),
            )
        )
        lines[place] = item(place + 1, 10**9 - place, targeting=both)
    never = Expression(dimension="segment", include=("never",))
    made = (lines.get(n) or item(n + 1, 10**9 - n, targeting=never) for n in range(rows))
    index = adcore.compile(catalog_of(*made))
    live = index.live(NOW_S)
    for number in range(len(places)):
        names = [f"p{number}", f"p{(number + 1) % len(places)}"]
        for segments in (names[:1], names, [*names, "unknown"]):
            request = Request([Placement("slot", count=3)], segments=segments, keywords=["n9"])
            expected = sorted({places[int(name[1:])] for name in segments if name[0] == "p"})
            assert [win.line for win in index.select(request, live, 1)[0]] == expected


def test_the_bitmaps_may_lie_at_any_multiple_of_eight_bytes() -> None:
    index = crowd(22_529)
    request = asked(Random(3), 100)
    [expected] = index.scan(request, index.live(NOW_S))
    for offset in (8, 16, 24, 40):
        moved = adcore.Index.attach(memoryview(bytes(offset) + index.buffer)[offset:])
        live = moved.live(NOW_S)
        assert moved.matching(request, live) == [expected]
        assert moved.select(request, live, 1)[0][0].line == expected[0]


def test_replaying_changes_nothing() -> None:
    """What is timed is what select does; labels and counts are as if it had been done once."""
    lines = [item(n, n, labels=("same" if n % 2 else f"label {n}",)) for n in range(1, 9)]
    index = adcore.compile(catalog_of(*lines))
    live = index.live(NOW_S)
    request = Request([Placement("slot", count=8)])
    won = [[win.line for win in it] for it in index.select(request, live, 3)]
    seen = index.seen
    for times in (0, 1, 2, 50):
        assert index.replay(request, live, 3, times) == (len(won[0]) if times else 0)
        if times:
            assert index.seen == seen
        assert [[win.line for win in it] for it in index.select(request, live, 3)] == won
    with pytest.raises(ValueError, match="none to fill"):
        index.replay(Request([]), live, 3, 1)


@pytest.mark.parametrize("rows", [1, 64, 513, 5000])
def test_every_row_of_a_whole_walk_is_counted_once(rows: int) -> None:
    rng = Random(rows)
    only = Expression(dimension="keyword", include=("k",))
    lines = [
        item(
            n,
            10**9 - n,
            status="active" if rng.random() < 0.7 else "paused",
            targeting=only if rng.random() < 0.01 else Expression(key="never", include=("x",)),
        )
        for n in range(1, rows + 1)
    ]
    index = adcore.compile(catalog_of(*lines))
    live = index.live(NOW_S)
    request = Request([Placement("slot", count=100)], keywords=["k"])
    [won] = index.select(request, live, 1)
    active = [line for line in lines if line.status == "active"]
    assert [win.line_item_id for win in won] == [it.id for it in active if it.targeting is only]
    assert index.seen == {
        **dict.fromkeys(OUTCOMES, 0),
        "won": len(won),
        "not_live": rows - len(active),
        "targeting": len(active) - len(won),
    }
