"""What changed from one catalog to another, record by record and field by field.

Records are matched by id, so moving one within its list is no change: order has no meaning.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from adcore.catalog import Catalog
from server.catalog.fault import Steps, path_of, shown
from server.catalog.records import KINDS, number_field

_UNSET = msgspec.UNSET


class Change(NamedTuple):
    """A record that came (old is UNSET) or went (new is), or a field with its values."""

    record: str  # such as `line item 1203`
    name: str
    steps: Steps  # within the record; empty when all of it came or went
    old: Any
    new: Any

    def __str__(self) -> str:
        if not self.steps:
            return f"{'+' if self.old is _UNSET else '-'} {self.record} {shown(self.name)}"
        old, new = (
            "default" if value is _UNSET else shown(value) for value in (self.old, self.new)
        )
        return f"~ {self.record} {shown(self.name)}: {path_of(self.steps)}: {old} -> {new}"


def diff(old: Catalog, new: Catalog) -> Iterator[Change]:
    for steps, before, after in _fields(_plain(old.account), _plain(new.account), ()):
        yield Change("account", new.account.name, steps, before, after)
    for kind, called in KINDS.items():
        number = number_field(kind)
        olds = {getattr(record, number): record for record in getattr(old, kind)}
        news = {getattr(record, number): record for record in getattr(new, kind)}
        for key in sorted(olds.keys() | news.keys()):
            before, after = olds.get(key, _UNSET), news.get(key, _UNSET)
            if before == after:
                continue
            record, name = f"{called} {key}", (before if after is _UNSET else after).name
            if before is _UNSET or after is _UNSET:
                yield Change(record, name, (), before, after)
                continue
            for steps, was, is_ in _fields(_plain(before), _plain(after), ()):
                yield Change(record, name, steps, was, is_)


def _plain(record: Any) -> Any:
    return msgspec.to_builtins(record)


def _fields(old: Any, new: Any, steps: Steps) -> Iterator[tuple[Steps, Any, Any]]:
    """Yield the smallest parts that differ; lists of other lengths differ as a whole."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from _fields(old.get(name, _UNSET), new.get(name, _UNSET), (*steps, name))
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for position, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _fields(before, after, (*steps, position))
    else:
        yield steps, old, new
