"""Text for a terminal: cut and padded by the cells that it takes, coloured where that is wanted."""

import os
from collections.abc import Sequence
from typing import Final, TextIO
from unicodedata import east_asian_width

BOLD, DIM, RED, GREEN, YELLOW, CYAN, PLAIN = (f"\x1b[{code}m" for code in (1, 2, 31, 32, 33, 36, 0))
_LEVELS: Final = "▁▂▃▄▅▆▇█"


def has_colour(stream: TextIO) -> bool:
    """Whether what is written there may have colours; see https://no-color.org."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def painted(text: str, colour: str) -> str:
    """Colour a text; with an empty colour it stays as it is."""
    return f"{colour}{text}{PLAIN}" if colour else text


def cells(text: str) -> int:
    """How many cells a terminal takes for it."""
    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def cut(text: str, cells_max: int) -> str:
    """Shorten, and let nothing through that a terminal would obey."""
    plain = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    if cells(plain) <= cells_max:
        return plain
    while cells(plain) > cells_max - 1:
        plain = plain[:-1]
    return f"{plain}…"


def padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))


def sparkline(amounts: Sequence[float]) -> str:
    """One sign each: a dot for nothing, else its share of the largest, rounded up.

    The largest is no full block: lines above each other stay apart.
    """
    most = max(amounts, default=0)
    return "".join(
        _LEVELS[-int(-amount * (len(_LEVELS) - 1) // most) - 1] if amount > 0 else "·"
        for amount in amounts
    )


def columns_of(amounts: Sequence[float], height: int) -> list[str]:
    """Draw a bar chart of some lines, the highest first; one sign across for each amount."""
    most = max(amounts, default=0)
    steps = len(_LEVELS)
    levels = [-int(-amount * height * steps // most) if amount > 0 else 0 for amount in amounts]
    lines = []
    for row in reversed(range(height)):
        within = [min(max(level - row * steps, 0), steps) for level in levels]
        lines.append("".join(_LEVELS[level - 1] if level else " " for level in within))
    return lines


def bar(share: float, width: int) -> str:
    """Fill a share of `width` cells, to half a cell; something shows as something."""
    halves = min(max(round(share * width * 2), 1 if share > 0 else 0), width * 2)
    whole, rest = divmod(halves, 2)
    return ("━" * whole + "╸" * rest).ljust(width, "─")
