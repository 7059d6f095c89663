"""Two more workloads: a thousand keys, and hundreds of segments a request.

ADS-A has one key and at most 20 segments a request. Here are lines that target nothing but
key-values, or nothing but segments, in the numbers at which an index with a column for each key,
or one that walks a list for each segment, shows it.

    key-values  1,000 keys of 100 values each; a line targets one to three keys with one to five
                values, a request has 20 keys with one value each
    segments    100,000 segments; a line has one to four sets of one to eight, a request has 500

Keys and values are drawn by Zipf's law, so the first keys meet often and most hardly ever; the
shares of sets that exclude are those of the reference workloads.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Literal

from adcore.catalog import Catalog, Expression, LineItem
from adcore.request import Placement, Request
from benchmarks.workload import Zipf, booked, catalog_of

Wide = Literal["key-values", "segments"]

KEYS, VALUES_A_KEY, KEYS_ASKED = 1000, 100, 20
KEYS_TARGETED, KEY_VALUES, KEYS_EXCLUDED = (1, 3), (1, 5), 0.1
SEGMENTS, SEGMENTS_ASKED = 100_000, 500
SETS_TARGETED, SET_VALUES, SETS_EXCLUDED = (1, 4), (1, 8), 0.2


class _Dice:
    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.keys = Zipf(self.rng, KEYS, 1.0)
        self.values = Zipf(self.rng, VALUES_A_KEY, 1.0)
        self.segments = Zipf(self.rng, SEGMENTS, 0.8)


def catalog(workload: Wide, line_count: int, seed: int) -> Catalog:
    dice = _Dice(seed)
    line_item = _key_value_line if workload == "key-values" else _segment_line
    return catalog_of(line_item(dice, number) for number in range(line_count))


def _key_value_line(dice: _Dice, number: int) -> LineItem:
    keys = _distinct(dice.keys.rank, dice.rng.randint(*KEYS_TARGETED))
    leaves = []
    for key in keys:
        values = tuple(dice.values.values(dice.rng.randint(*KEY_VALUES)))
        if dice.rng.random() < KEYS_EXCLUDED:
            leaves.append(Expression(key=_key(key), exclude=values))
        else:
            leaves.append(Expression(key=_key(key), include=values))
    return booked(number, dice.rng, leaves)


def _segment_line(dice: _Dice, number: int) -> LineItem:
    leaves = []
    for _ in range(dice.rng.randint(*SETS_TARGETED)):
        values = tuple(dice.segments.values(dice.rng.randint(*SET_VALUES)))
        if dice.rng.random() < SETS_EXCLUDED:
            leaves.append(Expression(dimension="segment", exclude=values))
        else:
            leaves.append(Expression(dimension="segment", include=values))
    return booked(number, dice.rng, leaves)


def requests(workload: Wide, count: int, seed: int, winners: int = 1) -> list[Request]:
    dice = _Dice(seed)
    made = _key_value_requests if workload == "key-values" else _segment_requests
    return list(made(dice, count, winners))


def _key_value_requests(dice: _Dice, count: int, winners: int) -> Iterator[Request]:
    for _ in range(count):
        keys = _distinct(dice.keys.rank, KEYS_ASKED)
        yield Request(
            [Placement("1", count=winners)],
            key_values={_key(key): dice.values.values(1)[0] for key in keys},
        )


def _segment_requests(dice: _Dice, count: int, winners: int) -> Iterator[Request]:
    for _ in range(count):
        segments = _distinct(dice.segments.rank, SEGMENTS_ASKED)
        yield Request(
            [Placement("1", count=winners)], segments=[str(rank + 1) for rank in segments]
        )


def _distinct(draw: Callable[[], int], count: int) -> list[int]:
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[draw()] = None
    return list(drawn)


def _key(rank: int) -> str:
    return f"key{rank + 1}"
