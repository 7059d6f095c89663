"""Frequency caps as the loader writes them: of each line item what it is held to, and counts for.

A scope is what sightings are counted over: a line item, its campaign or its advertiser. Whoever has
a cap on the campaign is held to what all of the campaign's line items showed, so those without a
cap of their own count for it too.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from adcore.catalog import Catalog, FrequencyCap, LineItem

Pair = tuple[int, int]
"""At most so many impressions in any so many seconds."""

_LETTERS: Final = {"line_item": "l", "campaign": "c", "advertiser": "a"}


class Scope(Struct, frozen=True, array_like=True, gc=False):
    """`field` holds the last `keep` moments, none of which matters once it is `keep_s` old."""

    field: bytes  # of the user's hash: `l42`, `c7`, `a3`
    keep: int
    keep_s: int
    caps: tuple[Pair, ...]  # the line item's own; none where it only counts for others


class LineCaps(Struct, frozen=True, array_like=True, gc=False):
    strict: bool
    allow: bool  # what is done when the user's counts are not known in time
    scopes: tuple[Scope, ...]


encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(LineCaps).decode


def line_caps(catalog: Catalog) -> dict[int, LineCaps]:
    """Give, by line item id, those that have a cap or count for one."""
    advertisers = {campaign.id: campaign.advertiser_id for campaign in catalog.campaigns}
    kept: dict[bytes, Pair] = {}
    for line_item in catalog.line_items:
        for cap in line_item.frequency_caps:
            field = _field(line_item, cap.scope, advertisers)
            keep, keep_s = kept.get(field, (0, 0))
            kept[field] = max(keep, cap.impressions), max(keep_s, cap.window_s)
    if not kept:
        return {}
    found = ((line, _scopes(line, advertisers, kept)) for line in catalog.line_items)
    return {
        line.id: LineCaps(
            any(cap.strict for cap in line.frequency_caps), line.on_unknown == "allow", scopes
        )
        for line, scopes in found
        if scopes
    }


def _field(line_item: LineItem, scope: str, advertisers: dict[int, int]) -> bytes:
    number = {
        "line_item": line_item.id,
        "campaign": line_item.campaign_id,
        "advertiser": advertisers[line_item.campaign_id],
    }[scope]
    return b"%b%d" % (_LETTERS[scope].encode(), number)


def _scopes(
    line_item: LineItem, advertisers: dict[int, int], kept: dict[bytes, Pair]
) -> tuple[Scope, ...]:
    fields = {scope: _field(line_item, scope, advertisers) for scope in _LETTERS}
    return tuple(
        Scope(field, *kept[field], _pairs(line_item.frequency_caps, scope))
        for scope, field in fields.items()
        if field in kept
    )


def _pairs(caps: Iterable[FrequencyCap], scope: str) -> tuple[Pair, ...]:
    return tuple(sorted({(cap.impressions, cap.window_s) for cap in caps if cap.scope == scope}))


def cap_id(field: bytes, impressions: int, window_s: int) -> int:
    """Number one cap: a user who has used it up may see none of the line items that have it."""
    text = b"%b %d %d" % (field, impressions, window_s)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def members(caps: dict[int, LineCaps]) -> dict[int, list[int]]:
    """By cap, the line items that have it; line items' own caps have no others."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for line_item_id, of_line in caps.items():
        for scope in of_line.scopes:
            if scope.field[:1] != b"l":
                for pair in scope.caps:
                    found[cap_id(scope.field, *pair)].append(line_item_id)
    return found
