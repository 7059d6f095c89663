"""What a report says: counts of some hours, summed by what was asked for.

    counts in Redis, charges ─► collect ─► rows of sums ─► columns

Sums are integers up to the last step; only a ratio is a float. An hour belongs to the day in which
it begins, in the report's time zone: where zones differ from UTC by half an hour, half of a day's
last hour is the next day's.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct

from adcore.catalog import Catalog
from server.errors import StoreError
from server.ledger.charges import Charge
from server.ledger.measures import INVALID, MEASURES

ROWS_MAX: Final = 500_000  # some 400 MB; what is larger is for a warehouse to ask
HOUR_S: Final = 3600

DEMAND: Final = ("advertiser", "campaign", "line_item", "creative")
PLACES: Final = (*DEMAND, "site")
TIMES: Final = ("day", "hour")
DIMENSIONS: Final = (*PLACES, *TIMES)

NONE: Final = 0  # no ad was shown, or no site could be read
UNKNOWN: Final = -1  # the line item has left the catalog, and whose it was with it

Sums = dict[bytes, int]
"""By measure; what is not there is 0."""
_Cell = tuple[int, int, int]  # line item, creative, site


class Query(Struct, frozen=True, kw_only=True):
    by: tuple[str, ...]  # of DIMENSIONS, none twice
    from_hour: int  # since 1970, UTC
    to_hour: int  # exclusive
    zone: ZoneInfo
    only: dict[str, frozenset[int]] = {}  # by one of PLACES, the ids wanted
    reasons: bool = False  # a column for each reason that something is invalid
    charged: bool = False  # columns of what is charged and what was free

    @property
    def is_of_budgets(self) -> bool:
        """Whether its rows are line items' or campaigns', and whole ones."""
        parts = {"creative", "site"}
        return bool({"line_item", "campaign"} & {*self.by}) and not parts & {*self.by, *self.only}

    @property
    def is_of_supply(self) -> bool:
        """Whether a request, which is for any ad, belongs to the rows."""
        return not {*self.by, *self.only} & {*DEMAND}


class Row(NamedTuple):
    key: tuple[int, ...]  # in the order of `Query.by`: ids, a day's ordinal, an hour since 1970
    sums: Sums


class Report(Struct, frozen=True, kw_only=True):
    query: Query
    names: "Names"
    rows: list[Row]  # in ascending order of their keys
    total: Sums
    asked: Sums  # under no ad: requests of these hours and sites, the logs they are rebuilt from
    notes: tuple[str, ...] = ()

    @property
    def is_estimated(self) -> bool:
        """Whether requests and decisions stand for logs that were not kept."""
        return self.asked.get(b"requests", 0) != self.asked.get(b"decision_logs", 0)


class Names:
    """What ids are called, and whose they are, today."""

    def __init__(self, catalog: Catalog | None) -> None:
        self.currency = catalog.account.currency if catalog else ""
        self.of: dict[str, dict[int, str]] = {dimension: {} for dimension in PLACES}
        self._campaigns: dict[int, int] = {}  # by line item
        self._advertisers: dict[int, int] = {}  # by campaign
        self._owners: dict[int, int] = {}  # by creative
        if catalog is None:
            return
        self.of = {
            "advertiser": {record.id: record.name for record in catalog.advertisers},
            "campaign": {record.id: record.name for record in catalog.campaigns},
            "line_item": {record.id: record.name for record in catalog.line_items},
            "creative": {record.id: record.name for record in catalog.creatives},
            "site": {record.id: record.name for record in catalog.sites},
        }
        self._campaigns = {line.id: line.campaign_id for line in catalog.line_items}
        self._advertisers = {campaign.id: campaign.advertiser_id for campaign in catalog.campaigns}
        self._owners = {creative.id: creative.advertiser_id for creative in catalog.creatives}

    def places(self, line_item: int, creative: int, site: int) -> dict[str, int]:
        """Give the id in each of PLACES."""
        campaign = self._campaigns.get(line_item, UNKNOWN) if line_item else NONE
        advertiser = self._advertisers.get(campaign, UNKNOWN) if line_item else NONE
        if advertiser == UNKNOWN:
            advertiser = self._owners.get(creative, UNKNOWN)
        ids = (advertiser, campaign, line_item, creative, site)
        return dict(zip(PLACES, ids, strict=True))


def collect(
    counted: Iterable[tuple[int, dict[bytes, int]]],
    query: Query,
    names: Names,
    charges: Iterable[Charge] = (),
) -> Report:
    """Sum the hours' fields, each of them `line.creative.site.measure`, and the charges."""
    rows: dict[tuple[int, ...], Sums] = {}
    asked: Sums = {}
    places: dict[_Cell, dict[str, int]] = {}
    sites = {"site": query.only["site"]} if "site" in query.only else {}
    for hour, fields in counted:
        moments = _moments(hour, query)
        for cell, sums in _cells(fields).items():
            ids = places.get(cell)
            if ids is None:
                ids = places[cell] = names.places(*cell)
            if cell[0] == NONE and _is_wanted(ids, sites):
                _add(asked, sums)
            if _is_wanted(ids, query.only):
                if query.charged and ids["campaign"] == UNKNOWN:  # whose budget nobody knows
                    sums[b"charged_nanos"] = sums.get(b"revenue_nanos", 0)
                ids = ids | moments
                _add(rows.setdefault(tuple([ids[word] for word in query.by]), {}), sums)
        if len(rows) > ROWS_MAX:
            raise StoreError(f"more than {ROWS_MAX} rows: ask for fewer hours, or by less")
    for hour, line, charged, free in charges:
        ids = names.places(line, NONE, NONE) | _moments(hour, query)
        is_within = query.from_hour <= hour < query.to_hour
        if is_within and ids["campaign"] != UNKNOWN and _is_wanted(ids, query.only):
            row = rows.setdefault(tuple([ids[word] for word in query.by]), {})
            _add(row, {b"charged_nanos": charged, b"free_nanos": free})
    total: Sums = {}
    for sums in rows.values():
        _add(total, sums)
    chosen = columns(query)
    said = [Row(key, rows[key]) for key in sorted(rows) if any(c.of(rows[key]) for c in chosen)]
    return Report(query=query, names=names, rows=said, total=total, asked=asked)


def _moments(hour: int, query: Query) -> dict[str, int]:
    return {"day": local(hour, query.zone).toordinal(), "hour": hour}


def _cells(fields: dict[bytes, int]) -> dict[_Cell, Sums]:
    cells: dict[tuple[bytes, bytes, bytes], Sums] = {}
    for field, amount in fields.items():
        line, creative, site, measure = _split(field)
        sums = cells.get((line, creative, site))
        if sums is None:
            sums = cells[line, creative, site] = {}
        sums[measure] = amount
    return {
        (int(line), int(creative), int(site)): sums
        for (line, creative, site), sums in cells.items()
    }


def _add(sums: Sums, more: Sums) -> None:
    for measure, amount in more.items():
        sums[measure] = sums.get(measure, 0) + amount


def _split(field: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    try:
        line, creative, site, measure = field.split(b".", 3)
    except ValueError:
        raise StoreError(f"Redis has the count {field!r}, which is none of ours") from None
    if measure not in _KNOWN:
        raise StoreError(f"a newer adcore counted {measure!r} in Redis: report with that one")
    return line, creative, site, measure


def _is_wanted(ids: dict[str, int], only: dict[str, frozenset[int]]) -> bool:
    return all(ids[dimension] in wanted for dimension, wanted in only.items())


def local(hour: int, zone: ZoneInfo) -> datetime:
    """Give an hour's beginning in a zone."""
    return datetime.fromtimestamp(hour * HOUR_S, UTC).astimezone(zone)


# -- columns ---------------------------------------------------------------------------------------

Value = int | float | None
Kind = Literal["count", "nanos", "micros", "ratio"]


class Column(NamedTuple):
    name: str
    kind: Kind
    of: Callable[[Sums], Value]  # None where there is nothing to divide by
    is_sampled: bool = False  # rebuilt from sampled logs, when the report says that it is estimated


def columns(query: Query) -> list[Column]:
    """Give what is said of each row; requests and fill only where they mean something."""
    supply = [Column("requests", "count", _sum("requests"), True)] if query.is_of_supply else []
    fill = [Column("fill", "ratio", _ratio("decisions", "decisions", "no_fill"), True)]
    charges = [
        Column("charged", "nanos", _sum("charged_nanos")),
        Column("over_delivery", "nanos", _sum("free_nanos")),
    ]
    reasons = ("unreadable", *INVALID) if query.reasons else ()
    return [
        *supply,
        Column("decisions", "count", _sum("decisions"), True),
        *(fill if query.is_of_supply else []),
        Column("impressions", "count", _sum("impressions")),
        Column("viewable", "count", _sum("viewable")),
        Column("viewability", "ratio", _ratio("viewable", "impressions")),
        Column("clicks", "count", _sum("clicks")),
        Column("ctr", "ratio", _ratio("clicks", "impressions")),
        Column("conversions", "count", _sum("conversions")),
        Column("conversion_value", "micros", _sum("conversion_value_micros")),
        Column("revenue", "nanos", _sum("revenue_nanos")),
        *(charges if query.charged else []),
        Column("events", "count", _sum("events")),
        Column("invalid", "count", _sum("unreadable", *INVALID)),
        *(Column(name, "count", _sum(name)) for name in reasons),
    ]


def _sum(*names: str) -> Callable[[Sums], int]:
    if len(names) == 1:
        measure = names[0].encode()
        return lambda sums: sums.get(measure, 0)
    measures = {name.encode() for name in names}
    return lambda sums: sum(amount for measure, amount in sums.items() if measure in measures)


def _ratio(part: str, *whole: str) -> Callable[[Sums], float | None]:
    of_part, of_whole = _sum(part), _sum(*whole)

    def ratio(sums: Sums) -> float | None:
        below = of_whole(sums)
        return of_part(sums) / below if below else None

    return ratio


_KNOWN: Final = {name.encode() for name in MEASURES}
