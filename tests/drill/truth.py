"""What the drill wrote, by itself and before it was sent; and what the counts must be by that.

A row is one event. Rows stand in a file in the order in which they were sent, and a second file
names those whose writing failed, so that nobody expects them. `expected` is the plain count that
the ledger must come to: it shares no code with it.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

IMPRESSION, CLICK, EVENT, CONVERSION = 1, 2, 3, 4
DECISION, UNREADABLE = 0, 255
KINDS: Final = {1: "impression", 2: "click", 3: "event", 4: "conversion"}
OUTCOMES: Final = {1: "preview", 2: "head", 3: "prefetch", 4: "expired", 5: "future"}
VIEWABLE: Final = 40
CPM, CPC, CPA, FLAT = 0, 1, 2, 3

Key = tuple[int, int, int, int, str]
"""Hour, line item, creative, site, measure."""


class Row(NamedTuple):
    """An event as it was sent; `extra` is a conversion's value or a decision's weight."""

    id: bytes
    kind: int
    outcome: int
    event: int
    rate: int
    line: int
    creative: int
    site: int
    issued_s: int
    price_micros: int
    extra: int = 0


_ROW = struct.Struct(">16sBBBBIIIIQQ")
_FAILED = struct.Struct(">I")


class Journal:
    """Writes rows; each is in the file before `intend` returns it to be sent."""

    def __init__(self, path: Path) -> None:
        self._rows = path.open("wb", buffering=0)
        self._failed = path.with_suffix(".failed").open("wb", buffering=0)
        self.count = 0

    def intend(self, rows: Iterable[Row]) -> None:
        self._rows.write(b"".join(_ROW.pack(*row) for row in rows))

    def sent(self) -> None:
        """Say that the next row was taken: written to a spool, or answered."""
        self.count += 1

    def failed(self) -> None:
        """Say that the next row was refused, and its sender told so."""
        self._failed.write(_FAILED.pack(self.count))
        self.count += 1


def taken(path: Path) -> Iterator[Row]:
    """Give the rows of a journal that were not refused."""
    failed = {number for (number,) in _FAILED.iter_unpack(path.with_suffix(".failed").read_bytes())}
    with path.open("rb") as rows:
        number = 0
        while piece := rows.read(_ROW.size * 4096):
            for fields in _ROW.iter_unpack(piece):
                if number not in failed:
                    yield Row(*fields)
                number += 1


def expected(rows: Iterable[Row]) -> Counter[Key]:
    """Count. Every id's impression must be among the rows, as the ledger would wait for it."""
    counts: Counter[Key] = Counter()
    seen: set[tuple[bytes, int, int, int]] = set()
    for row in rows:
        place = (row.issued_s // 3600, row.line, row.creative, row.site)
        if row.kind == UNREADABLE:
            counts[0, 0, 0, 0, "unreadable"] += 1
        elif row.kind == DECISION:
            counts[place[0], 0, 0, row.site, "decision_logs"] += 1
            counts[place[0], 0, 0, row.site, "requests"] += row.extra
            counts[*place, "decisions" if row.line else "no_fill"] += row.extra
        elif row.outcome:
            counts[*place, f"invalid.{KINDS[row.kind]}.{OUTCOMES[row.outcome]}"] += 1
        else:
            # An order, here in the place of the weight, makes a conversion another one.
            key = (row.id, row.kind, row.event, row.extra if row.kind == CONVERSION else 0)
            if key in seen:
                counts[*place, f"invalid.{KINDS[row.kind]}.duplicate"] += 1
            else:
                seen.add(key)
                _count_valid(counts, place, row)
    return counts


def _count_valid(counts: Counter[Key], place: tuple[int, int, int, int], row: Row) -> None:
    revenue_nanos = 0
    if row.kind == IMPRESSION:
        counts[*place, "impressions"] += 1
        revenue_nanos = row.price_micros if row.rate == CPM else 0
    elif row.kind == CLICK:
        counts[*place, "clicks"] += 1
        revenue_nanos = row.price_micros * 1000 if row.rate == CPC else 0
    elif row.kind == EVENT:
        counts[*place, "viewable" if row.event == VIEWABLE else "events"] += 1
    else:
        counts[*place, "conversions"] += 1
        counts[*place, "conversion_value_micros"] += row.extra
        revenue_nanos = row.price_micros * 1000 if row.rate == CPA else 0
    if revenue_nanos:
        counts[*place, "revenue_nanos"] += revenue_nanos


class Difference(NamedTuple):
    lost: int
    doubled: int
    examples: list[tuple[Key, int, int]]


def difference(expected: Counter[Key], found: Counter[Key], spare: dict[Key, int]) -> Difference:
    """Compare, key by key; `spare` says how many more than expected there may be of some."""
    lost = doubled = 0
    examples = []
    for key in expected.keys() | found.keys():
        least, most = expected[key], expected[key] + spare.get(key, 0)
        if found[key] < least or found[key] > most:
            examples.append((key, expected[key], found[key]))
            lost += max(least - found[key], 0)
            doubled += max(found[key] - most, 0)
    return Difference(lost, doubled, sorted(examples)[:20])
