"""Rows become columns, features and postings: what a request's values are looked up in.

A column holds at most one predicate of a row. A dimension with one value in a request needs one
column, because `normalise` leaves one predicate of it in an AND. A dimension with several values
needs as many as the busiest row. So do the key-values: they are one dimension, whose values are
(key, value), and a row's first predicate on any key lies in the first column, whatever the key.
"""

import struct
from array import array
from collections import defaultdict
from typing import TypeAlias, get_args

from adcore import tables
from adcore.catalog import Dimension
from adcore.expression import KEY_VALUE, Between, Conjunction, Predicate, Subject
from adcore.interning import slots_of

_COLUMN = struct.Struct("<II")
_POSTING = struct.Struct("<QIIII")
_FEATURE = struct.Struct("<IIIII")
_RANGE = struct.Struct("<ddII")
_PREDICATE = struct.Struct("<IIII")

# A bitmap is one AND where a list is a walk; below 1 / 128 of the rows the list is both smaller and
# faster (targeting.md 3). The minimum keeps small catalogs from becoming all bitmaps.
_DENSE_SHARE = 128
_DENSE_ROWS_MIN = 16

Content: TypeAlias = "bytes | bytearray | array[int]"


class _Column:
    """One predicate a row at most: the rows that include, and the rows that name each feature."""

    def __init__(self) -> None:
        self.includes: list[int] = []
        self.rows: defaultdict[int, list[int]] = defaultdict(list)


# A conjunction in numbers: column and predicate of each part, and its packed ranges.
# Plain tuples of numbers, because the garbage collector stops looking at those.
Coded: TypeAlias = tuple[tuple[tuple[int, int], ...], bytes]

# Space, negated, features.
_Predicate: TypeAlias = tuple[int, bool, tuple[int, ...]]


class Columns:
    def __init__(self) -> None:
        self._features: list[tuple[int, bytes]] = []
        self._numbers: defaultdict[int, dict[bytes | int, int]] = defaultdict(dict)
        self._columns: list[_Column] = []
        self._column_numbers: dict[tuple[str, int], int] = {}
        self._range_firsts = array("I", [0])
        self._ranges = bytearray()
        # Bookings repeat each other's predicates: each is kept once.
        self._predicates: list[_Predicate] = []
        self._predicate_numbers: dict[_Predicate, int] = {}
        self._term_firsts = array("I", [0])
        self._terms = array("I")

    def coded(self, conjunction: Conjunction) -> Coded:
        """Give numbers to the conjunction's columns and values, ready to be added as a row."""
        used: defaultdict[str, int] = defaultdict(int)
        predicates, ranges = [], b""
        for predicate in sorted(conjunction, key=_selective_first):
            dimension = predicate.subject.dimension
            if isinstance(predicate, Between):
                ranges += self._range(predicate)
                continue
            column = self._column(dimension, used[dimension])
            used[dimension] += 1
            space = self._space(predicate.subject)
            # Sorted, because a set of bytes has another order in every process.
            features = tuple([self._feature(space, value) for value in sorted(predicate.values)])
            predicates.append((column, self._predicate(space, predicate.negated, features)))
        return tuple(predicates), ranges

    def add(self, row: int, coded: Coded) -> None:
        """Add the next row; `row` is one more than the last one."""
        predicates, ranges = coded
        for number, predicate in predicates:
            _, negated, features = self._predicates[predicate]
            column = self._columns[number]
            if not negated:
                column.includes.append(row)
            for feature in features:
                column.rows[feature].append(row)
            self._terms.append(predicate)
        self._term_firsts.append(len(self._terms))
        self._ranges += ranges
        self._range_firsts.append(len(self._ranges) // _RANGE.size)

    def _column(self, dimension: str, place: int) -> int:
        number = self._column_numbers.setdefault((dimension, place), len(self._columns))
        if number == len(self._columns):
            self._columns.append(_Column())
        return number

    def _predicate(self, space: int, negated: bool, features: tuple[int, ...]) -> int:
        predicate = (space, negated, features)
        number = self._predicate_numbers.setdefault(predicate, len(self._predicates))
        if number == len(self._predicates):
            self._predicates.append(predicate)
        return number

    def _range(self, predicate: Between) -> bytes:
        key = self._feature(tables.SPACE_KEY, predicate.subject.key)
        return _RANGE.pack(predicate.at_least, predicate.below, key, predicate.negated)

    def _space(self, subject: Subject) -> int:
        if subject.dimension == KEY_VALUE:
            return tables.KEY_SPACE_FIRST + self._feature(tables.SPACE_KEY, subject.key)
        return _SPACES[subject.dimension]

    def _feature(self, space: int, value: bytes | int) -> int:
        numbers = self._numbers[space]
        number = numbers.get(value)
        if number is None:
            number = numbers[value] = len(self._features)
            text = value if isinstance(value, bytes) else value.to_bytes(8, "little")
            self._features.append((space, text))
        return number

    def sections(self, row_count: int) -> dict[int, Content]:
        columns, bitmaps, dense = bytearray(), bytearray(), bytearray()
        posting_rows = array("I")
        postings_of: list[list[bytes]] = [[] for _ in self._features]
        bitmap_next = len(self._columns)
        for (dimension, _), number in self._column_numbers.items():
            column = self._columns[number]
            base = _base(row_count, column.includes)
            bitmaps += base
            columns += _COLUMN.pack(_SPACES[dimension], row_count - len(column.includes))
            for feature, rows in column.rows.items():
                if len(rows) < max(row_count // _DENSE_SHARE, _DENSE_ROWS_MIN):
                    posting = _POSTING.pack(len(posting_rows), len(rows), number, 0, 0)
                    posting_rows.extend(rows)
                else:
                    posting = _POSTING.pack(0, len(rows), number, bitmap_next, 0)
                    dense += _turned(base, rows)
                    bitmap_next += 1
                postings_of[feature].append(posting)
        return {
            tables.COLUMNS: columns,
            tables.BITMAPS: bitmaps + dense,
            tables.POSTINGS: b"".join(posting for own in postings_of for posting in own),
            tables.POSTING_ROWS: posting_rows,
            tables.FEATURES: self._feature_records([len(own) for own in postings_of]),
            tables.TEXTS: b"".join(text for _, text in self._features),
            tables.SLOTS: slots_of(self._features),
            tables.RANGE_FIRSTS: self._range_firsts if self._ranges else b"",
            tables.RANGES: self._ranges,
            tables.TERM_FIRSTS: self._term_firsts,
            tables.TERMS: self._terms,
            **self._predicate_sections(),
        }

    def _predicate_sections(self) -> dict[int, Content]:
        records, values = bytearray(), array("I")
        for space, negated, features in self._predicates:
            records += _PREDICATE.pack(space, negated, len(values), len(features))
            values.extend(features)
        return {tables.PREDICATES: records, tables.PREDICATE_VALUES: values}

    def _feature_records(self, posting_counts: list[int]) -> bytes:
        records = bytearray()
        text_first = posting_first = 0
        for (space, text), count in zip(self._features, posting_counts, strict=True):
            records += _FEATURE.pack(text_first, len(text), posting_first, count, space)
            text_first += len(text)
            posting_first += count
        return bytes(records)


def _selective_first(predicate: Predicate) -> tuple[bool, int]:
    """Put includes of few values in the first columns, which then rule out most rows at once."""
    return predicate.negated, 0 if isinstance(predicate, Between) else len(predicate.values)


def _base(row_count: int, includes: list[int]) -> bytearray:
    """Return one bit a row, padded to whole blocks: zero where a row needs a value to pass."""
    blocks = -(-row_count // tables.BLOCK_ROWS)
    base = bytearray(b"\xff") * (blocks * tables.BLOCK_WORDS * 8)
    for row in includes:
        base[row >> 3] &= ~(1 << (row & 7))
    return base


def _turned(base: bytearray, rows: list[int]) -> bytearray:
    """Return the base with the bits of these rows, which are distinct, turned over."""
    bitmap = bytearray(base)
    for row in rows:
        bitmap[row >> 3] ^= 1 << (row & 7)
    return bitmap


_SPACES = {
    dimension: int(getattr(tables, f"SPACE_{dimension.upper()}"))
    for dimension in get_args(Dimension)
} | {KEY_VALUE: tables.KEY_SPACE_FIRST}
