"""The records of a catalog by kind and position, with gaps where one can't be read.

A file with a broken campaign still has its other faults reported, and no false ones: what refers to
the broken campaign is neither dangling nor checked against it.
"""

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import msgspec

from adcore.catalog import Account, Catalog

KINDS = {
    "priorities": "priority",
    "ad_types": "ad type",
    "sites": "site",
    "zones": "zone",
    "advertisers": "advertiser",
    "campaigns": "campaign",
    "line_items": "line item",
    "creatives": "creative",
}
"""Each list of `Catalog`, and what one of its records is called."""

_TYPES = {field.name: field.type for field in msgspec.structs.fields(Catalog)}
_ITEM_TYPES = {kind: _TYPES[kind].__args__[0] for kind in KINDS}


Entry: TypeAlias = tuple[Any, Any]
"""What a record is found by (its id, or a priority's number; None when even that can't be read),
and the record, or None for one that can't be read. A plain tuple: a catalog may have 300,000."""


class Records(NamedTuple):
    account: Account | None
    entries: dict[str, list[Entry]]
    unknown: frozenset[str]  # kinds of which the whole list can't be read


def of_catalog(catalog: Catalog) -> Records:
    entries = {}
    for kind in KINDS:
        listed = getattr(catalog, kind)
        entries[kind] = list(zip(map(attrgetter(number_field(kind)), listed), listed, strict=True))
    return Records(catalog.account, entries, frozenset())


def of_values(values: Any) -> Records:
    """Take what can be read from a file's values that are not a whole catalog."""
    values = values if isinstance(values, dict) else {}
    lists = {kind: values.get(kind, [] if kind == "zones" else None) for kind in KINDS}
    return Records(
        account=_read(values.get("account"), Account),
        entries={
            kind: list(_entries(kind, listed)) if isinstance(listed, list) else []
            for kind, listed in lists.items()
        },
        unknown=frozenset(kind for kind, listed in lists.items() if not isinstance(listed, list)),
    )


def name_of(kind: str, position: int, values: Any) -> str:
    """Name a record of a file for people: `line item 1203`; empty when it has no number."""
    try:
        record = values[kind][position]
        number = record[number_field(kind)]
    except (KeyError, IndexError, TypeError):
        return ""
    return f"{KINDS[kind]} {number}" if isinstance(number, int) else ""


def _entries(kind: str, listed: list[Any]) -> Iterator[Entry]:
    for value in listed:
        record = _read(value, _ITEM_TYPES[kind])
        if record is not None:
            yield getattr(record, number_field(kind)), record
        else:
            number = value.get(number_field(kind)) if isinstance(value, dict) else None
            yield number if isinstance(number, int) else None, None


def number_field(kind: str) -> str:
    """Return the field by which records of this kind are found."""
    return "number" if kind == "priorities" else "id"


def _read(value: Any, type_: Any) -> Any:
    try:
        return msgspec.convert(value, type_)
    except (msgspec.ValidationError, RecursionError):
        return None
