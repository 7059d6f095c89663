"""Where in a JSON text the values are: lines for faults, and keys that appear twice.

The text is known to be JSON, so this only walks into what leads to a wanted value and lets the
standard library's C scanner pass over the rest: 90 MB take 3 s; token by token they took 30.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Final

from server.catalog.fault import DEPTH_MAX, Fault, Steps

_BETWEEN: Final = re.compile(r"[ \t\n\r,:]*")  # two tokens of valid JSON


def lines(text: str, wanted: Iterable[Steps]) -> dict[Steps, int]:
    """Return the line of each wanted value, or of the nearest one around it."""
    wanted = set(wanted)
    prefixes = {steps[:length] for steps in wanted for length in range(len(steps) + 1)}
    found = _Walk(text, prefixes.__contains__).offsets
    line, at = 1, 0
    line_at: dict[int, int] = {}
    for offset in sorted(found.values()):
        line += text.count("\n", at, offset)
        line_at[offset] = line
        at = offset

    def line_of(steps: Steps) -> int:
        return line_at[found[steps]] if steps in found else line_of(steps[:-1])

    return {steps: line_of(steps) for steps in wanted}


def repeated_keys(text: str) -> list[Fault]:
    """Return a fault for each key that its mapping had before."""
    if not _has_repeated_keys(text):
        return []
    return [
        Fault(steps, "appears twice in one mapping", line=text.count("\n", 0, offset) + 1)
        for steps, offset in _Walk(text, lambda steps: True).repeated
    ]


def _has_repeated_keys(text: str) -> bool:
    """Look fast whether there are any; where they are is a slower question."""
    found = False

    def look(pairs: list[tuple[str, None]]) -> None:
        nonlocal found
        found = found or len(dict(pairs)) != len(pairs)

    json.loads(text, object_pairs_hook=look, parse_int=str, parse_float=str)
    return found


class _Walk:
    """Offsets of the values (of their keys, in a mapping) whose steps `leads` says to look at."""

    def __init__(self, text: str, leads: Callable[[Steps], bool]) -> None:
        self.offsets: dict[Steps, int] = {}
        self.repeated: list[tuple[Steps, int]] = []
        self._text = text
        self._leads = leads
        decoder = json.JSONDecoder(object_pairs_hook=len, parse_int=str, parse_float=str)
        self._scan = decoder.raw_decode
        start = self._next(0)
        self.offsets[()] = start
        self._pass_value(start, ())

    def _next(self, at: int) -> int:
        match = _BETWEEN.match(self._text, at)
        return match.end() if match else at

    def _pass_value(self, at: int, steps: Steps) -> int:
        """Walk over the value at this offset; return where it ends."""
        opening = self._text[at]
        if opening not in "{[" or len(steps) >= DEPTH_MAX or not self._leads(steps):
            return int(self._scan(self._text, at)[1])
        seen: set[str | int] = set()
        at = self._next(at + 1)
        while self._text[at] not in "}]":
            start, step = at, len(seen)
            if opening == "{":
                step, at = self._scan(self._text, at)
                at = self._next(at)
                if step in seen:
                    self.repeated.append(((*steps, step), start))
            seen.add(step)
            below = (*steps, step)
            if self._leads(below):
                self.offsets[below] = start
            at = self._next(self._pass_value(at, below))
        return at + 1
