"""What is counted: a fixed list of measures, each summed by hour, line item, creative and site.

The hour is the one in which the ad was decided, UTC, whenever its click or conversion comes. What
has no ad (requests, no fill, what can't be read) stands under line item and creative 0. Every frame
adds to exactly one of `of_frames`, so nothing vanishes.
"""

from typing import Final

from server.events.records import Kind, Outcome

OUTCOMES_STORED: Final = 16  # numbers below it leave a frame
# What the ledger finds out by itself: from several beacons, or from when they came.
FOUND: Final = (
    "duplicate",
    "no_impression",
    "double_click",
    "rate",
    "late",
    "unattributed",
    "lease_closed",
)
OTHER: Final = "other"

REASONS: Final = (
    *(outcome.name.lower() for outcome in Outcome if 0 < outcome < OUTCOMES_STORED),
    *FOUND,
    OTHER,
)
KINDS: Final = tuple(kind.name.lower() for kind in Kind)

COUNTED: Final = ("impressions", "clicks", "viewable", "events", "conversions")
INVALID: Final = tuple(f"invalid.{kind}.{reason}" for kind in KINDS for reason in REASONS)
SUMS: Final = ("revenue_nanos", "conversion_value_micros")
DECIDED: Final = ("requests", "decisions", "no_fill")

MEASURES: Final = (*COUNTED, *SUMS, *DECIDED, "decision_logs", "unreadable", *INVALID)
NUMBERS: Final = {name: number for number, name in enumerate(MEASURES)}

of_frames: Final = (*COUNTED, "decision_logs", "unreadable", *INVALID)
"""Their total is the number of frames counted, less the beacons that still wait."""


def invalid(kind: Kind, reason: str) -> int:
    """The number of the measure that counts a beacon of this kind as invalid, and why."""
    return NUMBERS[f"invalid.{kind.name.lower()}.{reason}"]
