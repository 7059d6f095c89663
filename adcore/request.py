"""What one ad request asks: the engine's input, free of any wire format.

The doors (server/delivery) check outside bytes and fill these; the engine trusts their bounds.
Text of the first-class dimensions is compared without regard to ASCII case, key-values exactly.
"""

from typing import TypeAlias

from msgspec import Struct

Scalar: TypeAlias = str | int | float | bool
KeyValues: TypeAlias = dict[str, Scalar | list[Scalar]]
"""A number is also its text: 25 matches `include: ["25"]`, and true matches "true"."""


class Placement(Struct, gc=False):
    """One slot to fill. `name` is the `placement` dimension; empty ad_types means any."""

    name: str
    site: int = 0  # 0: the request does not say
    zones: list[int] = []
    ad_types: list[int] = []
    count: int = 1
    floor_micros: int = 0  # eCPM
    key_values: KeyValues = {}  # for this slot, over and above the request's; same key: both sets


class Request(Struct, gc=False):
    """The user's context, and the placements in the order in which they are filled."""

    placements: list[Placement]
    country: str | None = None
    region: str | None = None
    metro: str | None = None
    city: str | None = None
    device: str | None = None
    os: str | None = None
    browser: str | None = None
    language: str | None = None
    domain: str | None = None
    connection: str | None = None
    keywords: list[str] = []
    categories: list[str] = []
    segments: list[str] = []
    key_values: KeyValues = {}
    blocked_creatives: list[int] = []
