"""A value of the request is found among all others, and taken for no other."""

import pytest

import adcore
from adcore import tables
from adcore.catalog import Expression
from adcore.numbering import Numbering
from adcore.request import Placement, Request
from tests.oracle import holds
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


@pytest.mark.parametrize("bits", [64, 52, 28])
def test_values_whose_hashes_begin_alike_are_told_apart(bits: int) -> None:
    """The table keeps half of a hash; of 300,000 values about ten pairs share theirs.

    Texts of two words, of one and a part, and of a part: what is compared last, differs.
    """
    texts = [f"{n * 0x9E3779B97F4A7C15 % 2**bits:x}" for n in range(300_000)]
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


# -- the bytes of a value: words of eight, and what is left ----------------------------------------

SIZES = [*range(1, 18), *range(30, 34), 63, 64, 65, 255, 256]


def texts_of(size: int) -> list[str]:
    """Texts of so many bytes: some differ only in one byte, in case, or beyond ASCII."""
    plain = ("the quick brown fox " * 13)[:size]
    made = {plain, plain.upper(), plain.swapcase(), "@" * size, "`" * size, "[" * size, "{" * size}
    made |= {letter * size for letter in "aAzZ"}
    made |= {plain[:place] + "#" + plain[place + 1 :] for place in {0, size // 2, size - 1}}
    for letter in "éÉ\x7f\u0080ÿĀ漢\U0001f600":
        room = size - len(letter.encode())
        if room >= 0:
            made |= {plain[:room] + letter, letter + plain.upper()[:room]}
    assert all(len(text.encode()) == size for text in made)
    return sorted(made)


@pytest.mark.parametrize("size", SIZES)
def test_texts_of_every_size_meet_their_like_and_nothing_else(size: int) -> None:
    """Held against the oracle, one text of the request at a time, and all of them at once."""
    texts = texts_of(size)
    near = [text for other in {max(1, size - 1), min(256, size + 1)} for text in texts_of(other)]
    lines = [
        *(item(n, targeting=Expression(dimension="segment", include=(it,)))
          for n, it in enumerate(texts, 1)),
        *(item(n, targeting=Expression(key="k", include=(it,)))
          for n, it in enumerate(texts, 1001)),
    ]  # fmt: skip
    index = adcore.compile(catalog_of(*lines))
    live = index.live(NOW_S)
    asked = [[text] for text in (*texts, *near, "", "x" * 257, texts[0] + "x" * 256)]
    for segments in (*asked, texts, [*near, *texts]):
        request = Request([Placement("slot")], segments=segments, key_values={"k": segments})
        assert sorted(index.matching(request, live)[0]) == [
            number
            for number, line in enumerate(lines)
            if holds(line.targeting, request, request.placements[0])
        ]


def test_a_text_that_begins_as_another_is_another() -> None:
    """Known: every prefix of a long text. Zeros, which fill up a word, are bytes as well."""
    long = "abcdefgh" * 3
    for filler in ("", "\0", "\0\0\0\0"):
        known = [long[:size] + filler for size in range(1, 25)]
        lines = [
            item(n, targeting=Expression(key="k", include=(it,))) for n, it in enumerate(known, 1)
        ]
        index = adcore.compile(catalog_of(*lines))
        live = index.live(NOW_S)
        for size in range(25):
            for more in ("", "\0", "\0\0", "\0\0\0\0", "\0" * 8, "x"):
                asked = long[:size] + more
                request = Request([Placement("slot")], key_values={"k": asked})
                [lines_found] = index.matching(request, live)
                assert [known[line] for line in lines_found] == [asked] * (asked in known)


def test_a_text_that_utf8_can_not_say_matches_nothing() -> None:
    index = adcore.compile(
        catalog_of(item(1, targeting=Expression(dimension="segment", include=("known",))))
    )
    live = index.live(NOW_S)
    for segments, won in ((["\ud800"], 0), (["\ud800", "known"], 1), (["known", "\udfff"], 1)):
        request = Request([Placement("slot")], segments=segments)
        assert len(index.matching(request, live)[0]) == won


def test_a_subclass_of_text_is_text() -> None:
    class Text(str):
        pass

    index = adcore.compile(
        catalog_of(item(1, targeting=Expression(dimension="segment", include=("known",))))
    )
    request = Request([Placement("slot")], segments=[Text("KNOWN")])
    assert list(index.matching(request, index.live(NOW_S))[0]) == [0]
