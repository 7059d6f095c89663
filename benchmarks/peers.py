"""The engine's peers: the same matching by CRoaring, and by NumPy.

Both keep, for each column, the lines that pass without any of its values, and for each value the
lines that include it and those that exclude it. A request's lines in a column are
`(passing | union of including) - union of excluding`, and its lines the AND over columns and
whichever are live. A column is a dimension, or the second, third.. term on one dimension; keys of
key-values share theirs, as in adcore: with a column each, a request would pay for every key that
it does not have. Hours are folded into the live lines, as adcore does.

    CRoaring    pyroaring.BitMap throughout. Columns with the fewest passing lines come first, and
                what was found so far is ANDed in before excluding: of the orders of operations
                that were tried none was clearly faster on ADS-A and ADS-B. Base and postings are
                left as arrays and bitsets; run containers were slower.
    NumPy       the columns as arrays of bool, a byte a line, the postings as arrays of line
                numbers that are written into a copy of them.

Each answers with an array of line numbers, as adcore does, but in no order of rank. Requests come
as numbers, grouped by dimension; looking those up is part of the time, reading texts is not.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from benchmarks.numbered import HOUR, KEY_FIRST, NOW_HOUR, Asked, Line

Lines: TypeAlias = NDArray[np.uint32]
"""Line numbers, ascending."""
Grouped: TypeAlias = dict[int, tuple[int, ...]]
"""A request: the numbers of its values, by dimension, with all keys as one."""
_Numbers: TypeAlias = "array[int]"
T = TypeVar("T")


class Column(NamedTuple):
    group: int
    including: _Numbers  # lines
    named: dict[int, tuple[_Numbers, _Numbers]]  # by value: lines that include it, that exclude it


class Columns:
    """The lines of a workload, turned into columns."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.live = array("I")
        self._columns: dict[tuple[int, int], Column] = {}
        self.line_count = 0
        for line in lines:
            self._add(self.line_count, line)
            self.line_count += 1
        # The most selective first: what is left becomes small early.
        self.columns = sorted(self._columns.values(), key=lambda column: -len(column.including))

    def _add(self, number: int, line: Line) -> None:
        used: defaultdict[int, int] = defaultdict(int)
        live = True
        for term in line:
            if term.dimension == HOUR:
                live = NOW_HOUR in term.values
                continue
            group = _group(term.dimension)
            column = self._columns.setdefault(
                (group, used[group]), Column(group, array("I"), defaultdict(_nobody))
            )
            used[group] += 1
            if not term.negated:
                column.including.append(number)
            for value in dict.fromkeys(term.values):
                column.named[_number(term.dimension, value)][term.negated].append(number)
        if live:
            self.live.append(number)


def _nobody() -> tuple[_Numbers, _Numbers]:
    return array("I"), array("I")


def _group(dimension: int) -> int:
    return min(dimension, KEY_FIRST)


def _number(dimension: int, value: int) -> int:
    return dimension << 32 | value


def grouped(asked: Asked) -> Grouped:
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for dimension, values in asked.items():
        groups[_group(dimension)] += (_number(dimension, value) for value in values)
    return {group: tuple(numbers) for group, numbers in groups.items()}


def _each(
    named: dict[int, tuple[_Numbers, _Numbers]], made: Callable[[_Numbers], T]
) -> dict[int, tuple[T | None, T | None]]:
    """Make something of every posting that has a line."""
    return {
        number: (made(including) if including else None, made(excluding) if excluding else None)
        for number, (including, excluding) in named.items()
    }


class Peer(Protocol):
    name: str

    def match(self, asked: Grouped) -> Any: ...

    def lines(self, answer: Any) -> Lines:
        """Turn an answer of `match` into what can be compared."""


class CRoaring:
    name = "CRoaring"

    def __init__(self, columns: Columns) -> None:
        everyone = _bitmap(range(columns.line_count))
        self._live = _bitmap(columns.live)
        self._columns = [
            (
                group,
                everyone - _bitmap(including),
                _each(named, _bitmap),
            )
            for group, including, named in columns.columns
        ]

    def match(self, asked: Grouped) -> _Numbers:
        found = self._live.copy()
        for group, passing, named in self._columns:
            including, excluding = [], []
            for number in asked.get(group, ()):
                postings = named.get(number)
                if postings is not None:
                    if postings[0] is not None:
                        including.append(postings[0])
                    if postings[1] is not None:
                        excluding.append(postings[1])
            if not including:
                found &= passing
            else:
                # `union` of one is several times as slow as the operator.
                one = len(including) == 1
                passed = passing | including[0] if one else passing.union(*including)
                passed &= found
                found = passed
            if excluding:
                found -= excluding[0] if len(excluding) == 1 else BitMap.union(*excluding)
        return found.to_array()

    def lines(self, answer: _Numbers) -> Lines:
        return np.array(answer, np.uint32)


def _bitmap(numbers: Iterable[int]) -> BitMap:
    return BitMap(numbers, optimize=False)


class NumPy:
    name = "NumPy"

    def __init__(self, columns: Columns) -> None:
        self._live = np.zeros(columns.line_count, np.bool_)
        self._live[_places(columns.live)] = True
        self._columns = []
        for group, including, named in columns.columns:
            passing = np.ones(columns.line_count, np.bool_)
            passing[_places(including)] = False
            self._columns.append((group, passing, _each(named, _places)))

    def match(self, asked: Grouped) -> NDArray[np.intp]:
        found = self._live.copy()
        for group, passing, named in self._columns:
            numbers = asked.get(group, ())
            postings = [named[number] for number in numbers if number in named]
            if not postings:
                found &= passing
                continue
            passed = passing.copy()
            for including, _ in postings:
                if including is not None:
                    passed[including] = True
            for _, excluding in postings:
                if excluding is not None:
                    passed[excluding] = False
            found &= passed
        return np.flatnonzero(found)

    def lines(self, answer: NDArray[np.intp]) -> Lines:
        return answer.astype(np.uint32)


def _places(lines: _Numbers) -> NDArray[np.intp]:
    # As indexing wants them, or it would convert them for every request.
    return np.array(lines, np.intp)


PEERS: tuple[Callable[[Columns], Peer], ...] = (CRoaring, NumPy)
