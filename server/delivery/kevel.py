"""`POST /api/v2` as it is asked: Kevel's Decision API. `answer.pyx` writes what is answered.

What its public SDKs send is understood; what would restrict the choice in a way we can't honour
yet is refused with a 400, because leaving a restriction out would show an ad that the caller
ruled out. Other unknown fields are ignored.
"""

from typing import Annotated, Final, TypeAlias, cast

import msgspec
from msgspec import Meta, Struct

from adcore import Placement, Request
from adcore.limits import (
    BLOCKED_MAX,
    PLACEMENTS_MAX,
    REQUEST_KEYS_MAX,
    REQUEST_VALUES_MAX,
    WINNERS_MAX,
)
from adcore.request import KeyValues
from server.delivery.context import Context, domain

EXACT: Final = 2**53  # key-values are compared as doubles: past this, two integers may be one
FLOOR_UNITS_MAX: Final = 1_000_000  # of currency a thousand; more is a mistake in the unit
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
    count: Annotated[int, Meta(ge=1, le=WINNERS_MAX)] | None = None
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


class Asked(Struct, rename="camel", gc=False):
    placements: Annotated[list[PlacementAsked], Meta(min_length=1, max_length=PLACEMENTS_MAX)]
    user: UserAsked | None = None
    keywords: Texts | None = None
    url: Annotated[str, Meta(max_length=4096)] | None = None
    ip: Annotated[str, Meta(max_length=64)] | None = None
    blocked_creatives: Annotated[list[CatalogId], Meta(max_length=BLOCKED_MAX)] | None = None
    include_pricing_data: bool | None = None


class Unreadable(ValueError):
    """The request can't be read; `reason` is `json` or `shape`, the message is for the caller."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_decode = msgspec.json.Decoder(Asked).decode
_text = msgspec.json.Encoder().encode


def parse(body: bytes) -> Asked:
    """The request in `body`, or Unreadable with a path to the fault; of duplicate keys the last."""
    try:
        asked = _decode(body)
    except msgspec.ValidationError as error:
        raise Unreadable("shape", str(error)) from None
    except (ValueError, RecursionError) as error:
        # UnicodeDecodeError and RecursionError are not msgspec's own errors.
        raise Unreadable("json", f"not JSON: {error}") from None
    names = {placement.div_name for placement in asked.placements}
    if len(names) < len(asked.placements):
        raise Unreadable("shape", "a divName is used twice - at `$.placements`")
    for name in names:
        if not (name.isascii() and name.isprintable()):
            raise Unreadable("shape", "a divName is not printable ASCII - at `$.placements`")
    return asked


def to_request(asked: Asked, context: Context) -> Request:
    """What the engine is asked: the caller's words and what the connection tells."""
    device, place, user = context.device, context.place, asked.user
    segments: list[str] = []
    if user is not None and user.segments:
        segments = list(map(str, user.segments))
    return Request(
        [_placement(placement) for placement in asked.placements],
        place.country,
        place.region,
        place.metro,
        place.city,
        device.device,
        device.os,
        device.browser,
        context.language,
        domain(asked.url),
        keywords=asked.keywords or [],
        segments=segments,
        blocked_creatives=asked.blocked_creatives or [],
    )


def _placement(asked: PlacementAsked) -> Placement:
    floor, properties = asked.floor_price, asked.properties
    if properties and None in properties.values():
        properties = {key: value for key, value in properties.items() if value is not None}
    return Placement(
        asked.div_name,
        asked.site_id or 0,
        asked.zone_ids or [],
        asked.ad_types or [],
        asked.count or 1,
        # To the nearest micro: 1.1 is not a binary fraction, and 1.10 must pass a floor of 1.1.
        round(floor * 1_000_000) if floor else 0,
        cast(KeyValues, properties or {}),
    )
