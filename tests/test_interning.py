"""A value of the request is found among all others, and taken for no other."""

import pytest

import adcore
from adcore import tables
from adcore.catalog import Expression
from adcore.numbering import Numbering
from adcore.request import Placement, Request
from tests.worlds import MOMENTS, catalog_of, item

NOW_S = MOMENTS[0]


@pytest.mark.parametrize("count", [1, 31, 32, 33, 63, 64, 65, 1000])
def test_a_value_is_found_wherever_it_stands_among_others(count: int) -> None:
    """Values are looked up in batches of 32, behind the placement's name and what else is asked."""
    targeting = Expression(dimension="segment", include=("known",))
    index = adcore.compile(catalog_of(item(1, targeting=targeting)))
    live = index.live(NOW_S)
    for place in {0, 1, 28, 29, 30, 31, 32, 61, 62, 63, 64, count // 2, count - 2, count - 1}:
        if 0 <= place < count:
            segments = [f"unknown {n}" for n in range(count)]
            assert not index.select(Request([Placement("slot")], segments=segments), live, 1)[0]
            segments[place] = "known"
            assert index.select(Request([Placement("slot")], segments=segments), live, 1)[0]


def test_values_whose_hashes_begin_alike_are_told_apart() -> None:
    """The table keeps half of a hash; of 300,000 values seven pairs share theirs."""
    texts = [f"{n * 0x9E3779B97F4A7C15 % 2**64:x}" for n in range(300_000)]
    numbering = Numbering()
    for text in texts:
        numbering.add(tables.SPACE_SEGMENT, text.encode())
    table = numbering.slots()
    by_tag: dict[int, list[str]] = {}
    for tag, number in zip(table[::2], table[1::2], strict=True):
        if number:
            by_tag.setdefault(tag, []).append(texts[number - 1])
    alike = [pair for pair in by_tag.values() if len(pair) > 1]
    assert alike, "without such a pair this tests nothing"
    for one, other, *_ in alike:
        for known in ((one,), (other,), (one, other)):
            index = adcore.compile(
                catalog_of(
                    *(
                        item(n, targeting=Expression(dimension="segment", include=(text,)))
                        for n, text in enumerate(known, 1)
                    )
                )
            )
            live = index.live(NOW_S)
            for asked in (one, other):
                [lines] = index.matching(Request([Placement("slot")], segments=[asked]), live)
                assert [known[line] for line in lines] == [asked] * (asked in known)
