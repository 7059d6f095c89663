"""What a conversion says beside its token, and how long an ad may be its cause.

The advertiser's page or server writes the query, so it is read strictly: what is there must be
right, what is empty is not there, since a tag manager leaves a macro that it can't fill empty.
"""

import hashlib
import re
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from adcore.catalog import CLICK_LOOKBACK_S_MAX, VIEW_LOOKBACK_S_MAX
from server.events.records import CLICK_WINDOW_S, IMPRESSION_WINDOW_S

VALUE_MICROS_MAX: Final = 10**15  # as the catalog's prices: no order is larger
ORDER_CHARS_MAX: Final = 128
ORDER_BYTES: Final = 8  # of a million orders two have the same head once in 37 million times
EVENT_MAX: Final = 65_535  # as the ids of events

# No sign, exponent or grouping; JavaScript writes 19.990000000000002 and means 19.99.
_VALUE = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,18}))?")
_EVENT = re.compile(r"[1-9][0-9]{0,4}")
_NAMES = ("value", "order", "event")


class Lookbacks(NamedTuple):
    """How long after a click, or a view, a conversion is the line item's; 0: never."""

    click_s: int = CLICK_LOOKBACK_S_MAX
    view_s: int = VIEW_LOOKBACK_S_MAX

    @property
    def window_s(self) -> int:
        """The age of the oldest token that may still count: its click or view came late itself."""
        return max(self.click_s + CLICK_WINDOW_S, self.view_s + IMPRESSION_WINDOW_S)


class Said(NamedTuple):
    """The named parameters; what is not given is 0 or empty."""

    value_micros: int
    order: bytes
    event: int


def said(query: str) -> Said | None:
    """Read a query; None when a parameter is repeated or out of bounds."""
    texts = dict.fromkeys(_NAMES, "")
    pairs = [part.partition("=") for part in query.split("&")]
    found = [(name, text) for name, _, text in pairs if name in texts]
    texts.update(found)
    value_micros, order, event = (
        _micros(texts["value"]), _digest(texts["order"]), _event(texts["event"])
    )  # fmt: skip
    if len(found) > len(dict(found)) or value_micros is None or order is None or event is None:
        return None
    return Said(value_micros, order, event)


def _micros(text: str) -> int | None:
    """Convert decimal units of the currency, rounded down to a micro."""
    if not text:
        return 0
    match = _VALUE.fullmatch(text)
    if match is None:
        return None
    micros = int(match[1]) * 1_000_000 + int((match[2] or "")[:6].ljust(6, "0"))
    return micros if micros <= VALUE_MICROS_MAX else None


def _digest(text: str) -> bytes | None:
    """Digest a reference: the same however it was percent-encoded, and in no file in clear."""
    reference = unquote_plus(text, errors="surrogateescape")
    if len(reference) > ORDER_CHARS_MAX:
        return None
    if not reference:
        return b""
    return hashlib.sha256(reference.encode("utf-8", "surrogatepass")).digest()[:ORDER_BYTES]


def _event(text: str) -> int | None:
    if not text:
        return 0
    number = int(text) if _EVENT.fullmatch(text) else EVENT_MAX + 1
    return number if number <= EVENT_MAX else None
