"""Why a line item did not win, in words: what `Index.explain` gives.

Reasons stand in the order in which they are looked for: the first that applies is the one given.
OpenRTB's loss codes are those of AdCOM's "Loss Reason Codes", where one says the same.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

from adcore import explaining


class Reason(IntEnum):
    WON = explaining.WON
    PAUSED = explaining.PAUSED  # the line item or its campaign
    FLIGHT = explaining.FLIGHT  # not begun, or over
    STOPPED = explaining.STOPPED  # by the plan
    DAYPART = explaining.DAYPART  # not at this hour of the week
    TARGETING = explaining.TARGETING  # the dimension says what failed
    THROTTLED = explaining.THROTTLED  # by the plan: sits this request out
    CAPPED = explaining.CAPPED  # left out by the request: the user has seen it often enough
    CREATIVE = explaining.CREATIVE  # none of an asked ad type, or all of them blocked
    FLOOR = explaining.FLOOR  # eCPM below the placement's
    LABEL = explaining.LABEL  # excluded by a winner with the same label
    OUTRANKED = explaining.OUTRANKED  # full before its turn, by a better priority or score
    DRAW = explaining.DRAW  # an equal won the draw for the last place


LOSS_CODES: Final = {
    Reason.CREATIVE: 200,  # creative filtered, general
    Reason.LABEL: 205,  # creative filtered, advertiser exclusions
    Reason.FLOOR: 100,  # below auction floor
    Reason.OUTRANKED: 102,  # lost to higher bid
    Reason.DRAW: 102,
}


class Verdict(NamedTuple):
    """What became of one line item in one placement."""

    line: int  # position in `catalog.line_items`
    line_item_id: int
    priority: int
    ecpm_micros: int  # as booked
    reason: Reason
    # What targeting failed on: a dimension, or a key as `key:name`. Of a line item with several
    # conjunctions it is the first part that fails of the one with the fewest that do. None with
    # TARGETING: its targeting can never be met.
    dimension: str | None
    by: int | None  # id of the line item that won in its place

    @property
    def loss_code(self) -> int | None:
        return LOSS_CODES.get(self.reason)


class _Index(Protocol):
    def verdict(self, rank: int, reason: int, detail: int) -> Verdict: ...
    def rank_of(self, line_item_id: int) -> int | None: ...


class Explanation:
    """Every line item of one placement, in rank order: by priority, eCPM and position.

    A byte and a number a line item, which become a Verdict when one is looked at.
    """

    def __init__(self, index: _Index, reasons: bytes, details: Sequence[int]) -> None:
        self._index = index
        self._reasons = reasons
        self._details = details

    def __len__(self) -> int:
        return len(self._reasons)

    def __getitem__(self, rank: int) -> Verdict:
        return self._index.verdict(rank, self._reasons[rank], self._details[rank])

    def __iter__(self) -> Iterator[Verdict]:
        return map(self.__getitem__, range(len(self)))

    def counts(self) -> dict[Reason, int]:
        """How many line items there are of each reason, none left out."""
        return {reason: self._reasons.count(reason) for reason in Reason}

    def of(self, line_item_id: int) -> Verdict | None:
        """The verdict on one line item; None when the catalog does not have it."""
        rank = self._index.rank_of(line_item_id)
        return None if rank is None else self[rank]
