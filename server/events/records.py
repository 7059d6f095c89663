"""The records that frames hold, each a msgpack array. Fields are only ever added, at the end.

A whole network address and a name of a person are never in one.
"""

from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

# -- a frame's kind

RECORD_BEACON: Final = 1
RECORD_DECISION: Final = 2

# -- what a beacon is about


class Kind(IntEnum):
    IMPRESSION = 1
    CLICK = 2
    EVENT = 3
    CONVERSION = 4


PREVIEW: Final = 1
"""Flag: decided at a pretended time or in a demo; recorded, never billed."""
RATE_SHIFT: Final = 1
RATE_MASK: Final = 3
"""Flags, bits 1 and 2: the place in RATES of what the price is for."""
RATES: Final = ("cpm", "cpc", "cpa", "flat")

VIEWABLE_EVENT: Final = 40
"""The event that says half of the ad was seen for a second, as Kevel numbers it."""

# An impression later than this finds its lease returned: the units may be another's by now.
IMPRESSION_WINDOW_S: Final = 120
# The ledger remembers ids for a day, to know a repeat; keys are kept a day beyond their last use.
CLICK_WINDOW_S: Final = 86_400
EVENT_WINDOW_S: Final = 86_400


class Outcome(IntEnum):
    """What became of a request. The number is stored in frames, the name is a metric's label."""

    ACCEPTED = 0
    PREVIEW = 1
    HEAD = 2
    PREFETCH = 3
    EXPIRED = 4
    FUTURE = 5
    NO_USER_AGENT = 6
    ROBOT = 7
    HEADLESS = 8
    DATACENTRE = 9
    # Those below leave no frame.
    BAD_QUERY = 16
    BAD_TOKEN = 17
    UNKNOWN_CREATIVE = 18
    DESTINATION_CHANGED = 19
    SPOOL_FAILED = 20


# What is counted is computed in 64 bits. A record beyond these bounds is none, whoever wrote it:
# its reader would fail, and fail again at each start.
Small = Annotated[int, Meta(ge=0, lt=1 << 31)]
Moment = Annotated[int, Meta(ge=0, lt=1 << 40)]  # 34,000 years of seconds
Amount = Annotated[int, Meta(ge=0, lt=1 << 53)]  # micros, of which nanos are made


class Routed(Struct, array_like=True, frozen=True, gc=False):
    """How every record begins: enough to know which aggregator it belongs to."""

    kind: int
    outcome: int
    received_s: int
    issued_s: int
    id: bytes


class Beacon(Struct, array_like=True, frozen=True, gc=False):
    """An impression, a click, an event or a conversion.

    Billing needs what the token says; telling invalid traffic needs the network and the user agent.
    """

    kind: Small
    outcome: Small
    received_s: Moment
    issued_s: Moment
    id: bytes
    line_item_id: int
    creative_id: int
    site_id: int
    placement: bytes
    lease: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]  # a window's number (leases), or 0
    price_micros: Amount
    event: int
    flags: Small
    network: str  # the address cut to /24 or /48
    user_agent: str  # 512 bytes at most, ASCII, the rest escaped
    # Of a conversion only. How long after a click or a view it counts is the line item's to say,
    # and stands here because the log must be countable without today's catalog.
    value_micros: Amount = 0
    order: bytes = b""  # head of a digest of the advertiser's reference: one order, one conversion
    click_lookback_s: Moment = 0
    view_lookback_s: Moment = 0


class Answered(Struct, array_like=True, frozen=True, gc=False):
    """One line of a decision: who won a placement, or line item 0 for no ad."""

    site_id: int
    line_item_id: int
    creative_id: int


class Decision(Struct, array_like=True, frozen=True, gc=False):
    """A request and its answer, one in `weight`: totals are sums of weights.

    Sampled by the id, so that every log of one decision is kept or none.
    """

    kind: Small  # 0
    outcome: Small  # 0
    received_s: Moment
    issued_s: Moment
    id: bytes
    weight: Small
    generation: int
    answers: list[Answered]
