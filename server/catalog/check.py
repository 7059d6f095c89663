"""Every fault of a catalog at once: those of its shape, and those between its records."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from adcore.catalog import Catalog
from server.catalog import file, records, shape
from server.catalog.fault import Fault
from server.catalog.rules import Rules
from server.errors import CatalogError


class Checked(NamedTuple):
    """What came of a file: the catalog, unless a fault is an error; faults in the file's order."""

    catalog: Catalog | None
    faults: list[Fault]


def faults(catalog: Catalog, now_s: int | None = None) -> list[Fault]:
    """Return what is wrong between records; `now_s` adds the warnings that depend on the time."""
    return list(Rules(records.of_catalog(catalog), now_s).faults())


def check(source: file.Source, now_s: int | None = None) -> Checked:
    """Check a file that was read."""
    found = list(source.faults)
    catalog = None
    try:
        catalog = msgspec.convert(source.value, Catalog)
        found += faults(catalog, now_s)
    except (msgspec.ValidationError, RecursionError):
        # What could not even be read as YAML or JSON has said so already.
        if source.value is not None or not found:
            found += (_named(fault, source) for fault in shape.faults(source.value, Catalog))
            found += Rules(records.of_values(source.value), now_s).faults()
    refused = any(fault.severity == "error" for fault in found)
    return Checked(None if refused else catalog, source.located(found))


def load(path: Path) -> Catalog:
    """Read a file that may be published; CatalogError has a line for each fault."""
    checked = check(file.read(path))
    if checked.catalog is None:
        raise CatalogError("\n".join(lines(path, checked.faults)))
    return checked.catalog


def lines(path: Path, faults: list[Fault]) -> list[str]:
    """Write faults as editors and terminals link them: `FILE:LINE: path: message`."""
    return [f"{path}:{fault.line}: {fault}" for fault in faults]


def _named(fault: Fault, source: file.Source) -> Fault:
    match fault.steps:
        case (str(kind), int(position), *_) if kind in records.KINDS:
            return fault._replace(record=records.name_of(kind, position, source.value))
    return fault
