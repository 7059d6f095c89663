"""Goals and forecasts in a line each, for tests of the control law."""

from typing import Any

import numpy as np

from server.pacing.goals import EVEN, HOURS, IMPRESSION, PPM, Goals, Seen, Supply

DAY = 86_400.0
MONDAY = 1_795_996_800.0  # 00:00 UTC


def goals(lines: int = 1, *, limits: Any = (1000.0,), uses: Any = None, **given: Any) -> Goals:
    """Each line with the account of its own number, for Monday, unless told otherwise."""
    limit = np.asarray(limits, np.float64)
    a = len(limit)
    pairs = np.array(
        uses if uses is not None else [(at, at) for at in range(lines)], np.int64
    ).reshape(-1, 2)
    fields: dict[str, Any] = {
        "ids": np.arange(1, lines + 1),
        "priority": np.full(lines, 8),
        "guaranteed": np.ones(lines, np.bool_),
        "start_s": np.full(lines, MONDAY),
        "end_s": np.full(lines, MONDAY + DAY),
        "active": np.ones(lines, np.bool_),
        "event": np.full(lines, IMPRESSION),
        "booked_ppm": np.full(lines, PPM),
        "keys": tuple(f"ever/a{number}" for number in range(a)),
        "limit": limit,
        "begin_s": np.full(a, MONDAY),
        "close_s": np.full(a, MONDAY + DAY),
        "pacing": np.full(a, EVEN),
        "curve": np.full(a, -1),
        "use_line": pairs[:, 0],
        "use_account": pairs[:, 1],
        "use_event": np.full(len(pairs), IMPRESSION),
        "use_price": np.ones(len(pairs)),
        "curves": np.zeros((0, HOURS)),
        "until_s": np.inf,
    }
    for name, value in given.items():
        fields[name] = np.asarray(value) if isinstance(value, (list, np.ndarray)) else value
    return Goals(**fields)


def supply(scale: Any = (1.0,), *, shape: Any = None, strength: float = 25.0,
           ceiling: float = np.inf) -> Supply:  # fmt: skip
    """Impressions a second at rate 1, the same at all hours unless a shape says otherwise."""
    scale = np.asarray(scale, np.float64)
    n = len(scale)
    row = np.ones(HOURS) if shape is None else np.asarray(shape, np.float64)
    return Supply(
        row[None, :], np.zeros(n, np.int64), scale, np.full(n, strength), np.full(n, ceiling)
    )


def seen(time_s: float, spent: Any, billed: Any = None, *, clicks: Any = None,
         blocked: bool = False) -> Seen:  # fmt: skip
    spent = np.asarray(spent, np.float64)
    whole = np.asarray(spent if billed is None else billed, np.int64)
    none = np.zeros(len(whole), np.int64)
    clicked = none if clicks is None else np.asarray(clicks, np.int64)
    return Seen(time_s, whole, clicked, none, spent, np.full(len(whole), blocked))
