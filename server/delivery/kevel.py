"""`POST /api/v2` as it is asked: Kevel's Decision API.

`asking.pyx` turns it into the engine's request, and `answer.pyx` writes what is answered. What
Kevel's public SDKs send is understood; what would restrict the choice in a way we can't honour yet
is refused with a 400, because leaving a restriction out would show an ad that the caller ruled out.
Other unknown fields are ignored.
"""

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from adcore.limits import (
    BLOCKED_MAX,
    PLACEMENTS_MAX,
    REQUEST_KEYS_MAX,
    REQUEST_VALUES_MAX,
)
from server.delivery.asking import names_fault

EXACT: Final = 2**53  # key-values are compared as doubles: past this, two integers may be one
FLOOR_UNITS_MAX: Final = 1_000_000  # of currency a thousand; more is a mistake in the unit
COUNT_MAX: Final = 20  # Kevel's; the engine gives more (WINNERS_MAX)
EVENTS_MAX: Final = 16  # tracking URLs a placement: each costs a signature
LIST_MAX: Final = 64  # zones, ad types, values of one property

CatalogId: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Ids: TypeAlias = Annotated[list[CatalogId], Meta(max_length=LIST_MAX)]
Number: TypeAlias = Annotated[int, Meta(ge=-EXACT, le=EXACT)]
Scalar: TypeAlias = str | bool | Number | float | None
Properties: TypeAlias = Annotated[
    dict[str, Scalar | Annotated[list[str | bool | Number | float], Meta(max_length=LIST_MAX)]],
    Meta(max_length=REQUEST_KEYS_MAX // 2),
]
Texts: TypeAlias = Annotated[list[str], Meta(max_length=REQUEST_VALUES_MAX)]
Key: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]


class PlacementAsked(Struct, rename="camel", gc=False):
    div_name: Annotated[str, Meta(min_length=1, max_length=64)]
    site_id: CatalogId | None = None
    ad_types: Ids | None = None
    zone_ids: Ids | None = None
    count: Annotated[int, Meta(ge=1, le=COUNT_MAX)] | None = None
    properties: Properties | None = None
    event_ids: (
        Annotated[list[Annotated[int, Meta(ge=1, le=65535)]], Meta(max_length=EVENTS_MAX)] | None
    ) = None
    floor_price: Annotated[float, Meta(ge=0, le=FLOOR_UNITS_MAX)] | None = None
    # Restrictions that we can't honour yet: only null will do.
    campaign_id: None = None
    flight_id: None = None
    ad_id: None = None
    floor_cpc: None = None
    ad_query: None = None


class UserAsked(Struct, gc=False):
    key: Key | None = None
    segments: Annotated[list[CatalogId | str], Meta(max_length=REQUEST_VALUES_MAX)] | None = None


class ConsentAsked(Struct, gc=False):
    """What the caller knows of its user's consent; what can't be understood is none.

    `gdpr`: true, the user agrees; anything else, it doesn't. `gpc`: the browser's Global Privacy
    Control. `coppa`: the user is a child.
    """

    gdpr: Any = None
    gpc: Any = None
    coppa: Any = None


class Asked(Struct, rename="camel", gc=False):
    placements: Annotated[list[PlacementAsked], Meta(min_length=1, max_length=PLACEMENTS_MAX)]
    user: UserAsked | None = None
    keywords: Texts | None = None
    url: Annotated[str, Meta(max_length=4096)] | None = None
    ip: Annotated[str, Meta(max_length=64)] | None = None
    blocked_creatives: Annotated[list[CatalogId], Meta(max_length=BLOCKED_MAX)] | None = None
    include_pricing_data: bool | None = None
    notrack: bool | None = None
    consent: ConsentAsked | None = None


class Unreadable(ValueError):
    """The request can't be read; `reason` is `json` or `shape`, the message is for the caller."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_decode = msgspec.json.Decoder(Asked).decode


def parse(body: bytes) -> Asked:
    """The request in `body`, or Unreadable with a path to the fault; of duplicate keys the last."""
    try:
        asked = _decode(body)
    except msgspec.ValidationError as error:
        raise Unreadable("shape", str(error)) from None
    except (ValueError, RecursionError) as error:
        # UnicodeDecodeError and RecursionError are not msgspec's own errors.
        raise Unreadable("json", f"not JSON: {error}") from None
    fault = names_fault(asked.placements)
    if fault is not None:
        raise Unreadable("shape", f"{fault} - at `$.placements`")
    return asked
