"""A workload as numbers, for engines that know nothing of catalogs: the peers, and other languages.

It is read off the catalog as booked and the requests as asked, and shares nothing with adcore's
own way to numbers. A line's terms must all hold: an include if the request has one of its values,
an exclude if it has none, so a dimension that the request lacks fails the one and passes the other.
A line may have several terms of one dimension.

Dimensions are numbered as `workload.FACETS`, with the keys of `wide` after them; values are the
workloads' own numbers from 1 on, hours of the week (UTC) from Monday's 0 on.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeAlias, get_args

from adcore.catalog import Catalog, Daypart, Expression, LineItem, Weekday
from adcore.request import Request
from benchmarks.workload import FACETS, NOW_S

_WEEKDAYS = {day: number for number, day in enumerate(get_args(Weekday))}
HOUR = next(number for number, facet in enumerate(FACETS) if facet.name == "hour")
KEY_FIRST = len(FACETS)
"""From this dimension on, each is one key of key-values."""


def hour_of_week(moment_s: int) -> int:
    moment = datetime.fromtimestamp(moment_s, UTC)
    return moment.weekday() * 24 + moment.hour


NOW_HOUR = hour_of_week(NOW_S)


class Term(NamedTuple):
    dimension: int
    negated: bool
    values: tuple[int, ...]


Line: TypeAlias = tuple[Term, ...]
Asked: TypeAlias = dict[int, tuple[int, ...]]
"""The values of a request by dimension; none is empty."""


class Numbering(dict[str, int]):
    """The number of each dimension; a new name, which is a key's, gets the next one."""

    def __init__(self) -> None:
        super().__init__({facet.name: number for number, facet in enumerate(FACETS)})

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]

    def lines(self, catalog: Catalog) -> Iterator[Line]:
        """The lines in the catalog's order; flights and pauses are not looked at."""
        return map(self._line, catalog.line_items)

    def _line(self, item: LineItem) -> Line:
        assert item.targeting is not None
        assert item.targeting.all is not None
        terms = [self._term(leaf) for leaf in item.targeting.all]
        if item.dayparts:
            terms.append(Term(HOUR, False, tuple(_hours(item.dayparts))))
        return tuple(terms)

    def _term(self, leaf: Expression) -> Term:
        name = leaf.dimension or leaf.key
        listed = leaf.include if leaf.include is not None else leaf.exclude
        assert name is not None
        assert listed is not None
        return Term(self[name], leaf.include is None, tuple(map(int, listed)))

    def asked(self, request: Request) -> Asked:
        """What the request has for its one placement, at the hour of NOW_S."""
        [placement] = request.placements
        named: dict[str, list[Any]] = {"placement": [placement.name], "zone": placement.zones}
        for name in ("country", "region", "device", "os", "language"):
            named[name] = [value for value in [getattr(request, name)] if value is not None]
        named |= {"segment": request.segments, "hour": [NOW_HOUR]}
        for key, values in request.key_values.items():
            named[key] = values if isinstance(values, list) else [values]
        return {self[name]: tuple(map(int, values)) for name, values in named.items() if values}


def _hours(dayparts: Iterable[Daypart]) -> Iterator[int]:
    for daypart in dayparts:
        for day in daypart.days:
            for hour in range(daypart.start_hour, daypart.end_hour):
                yield _WEEKDAYS[day] * 24 + hour


def dump(path: Path, catalog: Catalog, requests: Iterable[Request]) -> None:
    """Write the line items, then the requests, each as whole numbers on one line.

    A line item is `terms (dimension negated count value..)*`, a request is
    `dimensions (dimension count value..)*`.
    """
    numbering = Numbering()
    with path.open("w") as file:
        for line in numbering.lines(catalog):
            _write(file, len(line), [(dim, int(neg), len(v), *v) for dim, neg, v in line])
        for request in requests:
            asked = numbering.asked(request)
            _write(file, len(asked), [(dim, len(v), *v) for dim, v in sorted(asked.items())])


def _write(file: TextIO, count: int, parts: Iterable[Iterable[int]]) -> None:
    file.write(" ".join(map(str, (count, *(number for part in parts for number in part)))) + "\n")
