"""What is wrong with a catalog: where, and in words for the person who wrote it."""

import json
import re
from typing import Literal, NamedTuple, TypeAlias

Steps: TypeAlias = tuple[str | int, ...]
"""The way from the file's top to a value: field names and positions."""

DEPTH_MAX = 64
"""Steps to the deepest value that is looked at. A targeting expression uses about twenty, and
recursion over a file stays far from Python's own limit."""

Severity: TypeAlias = Literal["error", "warning"]

SHOWN_CHARACTERS_MAX = 60  # of a value in a message; a person recognises it by its beginning

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


class Fault(NamedTuple):
    steps: Steps
    message: str
    severity: Severity = "error"  # only errors refuse a catalog
    record: str = ""  # which record this is in, such as `line item 1203`
    line: int | None = None  # in the file, when there is one

    @property
    def path(self) -> str:
        """The steps as people write them, such as `line_items[3].flight.end`."""
        return path_of(self.steps)

    def __str__(self) -> str:
        where = f"{self.path} ({self.record})" if self.record else self.path
        what = f"warning: {self.message}" if self.severity == "warning" else self.message
        return f"{where}: {what}" if where else what


def path_of(steps: Steps) -> str:
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            name = step if _PLAIN_NAME.fullmatch(step) else shown(step)
            path += f".{name}" if path else name
    return path


def shown(value: object) -> str:
    """Quote a value from a file: short, and without control characters that a terminal obeys."""
    if isinstance(value, str):
        text = f'"{value[:SHOWN_CHARACTERS_MAX]}"'
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 1] + "…"
