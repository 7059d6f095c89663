"""Signed tokens: what was served, at what price, carried by a client that can't change it.

A token is 108 bytes, big-endian, written as 144 characters of URL-safe base64. The size is a
multiple of three, so there is neither padding nor a spare bit: a token has exactly one spelling.

    0    version      u8     1
    1    key id       u8     which secret signed it; derived from the secret
    2    kind         u8     1 impression, 2 click, 3 event
    3    event        u32    id of a custom event, 0 in the other kinds
    7    issued_s     u32    when it was decided, UTC seconds
    11   id           16 B   of the served ad; its impression, click and events share it
    27   line item    u64
    35   creative     u64
    43   site         u64    0: the request did not say
    51   price        u64    clear price in micros, in the unit of the line item's rate
    59   placement    8 B    head of SHA-256 of the placement's name
    67   lease        u64    0: none
    75   flags        u8     bit 0: preview, never billed; bits 1 and 2: the rate's type
    76   destination  16 B   head of SHA-256 of the click's destination; zeros in an event's
    92   MAC          16 B   half of an HMAC-SHA-256 over the 92 bytes before it

Every ad that is shown needs a click's and an impression's token, so the two share one HMAC: it is
over their bytes with the kind written as 0, and the impression's MAC is its first half, the click's
its second. Neither half tells anything of the other, so one token can't be made into the other. An
event's MAC is the first half of an HMAC over its own bytes, its kind and id among them. Version and
key id are covered too, so neither can be argued down.
"""

import hashlib
import hmac
import struct
from binascii import a2b_base64
from functools import lru_cache
from typing import NamedTuple

from server.delivery.sealing import Key, text_of
from server.errors import TokenError
from server.events.records import Kind

VERSION = 1
PLACEMENTS_CACHED = 4096  # a publisher has hundreds; the name is the client's to invent

_HEAD = struct.Struct(">BBBI")
# A served ad's fields, in order; `answer.pyx` packs them too.
SERVED = struct.Struct(">I16sQQQQ8sQB")
_NO_DESTINATION = bytes(16)
_SHOWN = 0  # stands for the kind where a click's and an impression's HMAC is made
_KIND_AT = 2
MAC_BYTES = 16  # 128 bits: forging one takes 2^127 tries against a live server
_SERVED_AT = _HEAD.size
_DESTINATION_AT = _SERVED_AT + SERVED.size
_MAC_AT = _DESTINATION_AT + len(_NO_DESTINATION)
_TOKEN_BYTES = _MAC_AT + MAC_BYTES
TOKEN_CHARS = _TOKEN_BYTES // 3 * 4
_FROM_URL = bytes.maketrans(b"-_", b"+/")


# Which half of its HMAC is a kind's MAC.
_HALVES: dict[int, slice] = {
    Kind.IMPRESSION: slice(MAC_BYTES),
    Kind.CLICK: slice(MAC_BYTES, None),
    Kind.EVENT: slice(MAC_BYTES),
}


class Served(NamedTuple):
    """One served ad: the part that all its tokens share, in the order of the layout."""

    issued_s: int
    id: bytes
    line_item_id: int
    creative_id: int
    site_id: int
    price_micros: int
    placement: bytes
    lease: int = 0
    flags: int = 0


class Token(NamedTuple):
    kind: Kind
    event: int
    served: Served
    destination: bytes

    def age_s(self, now_s: int) -> int:
        """Negative when it comes from the future, by a clock ahead of ours."""
        return now_s - self.served.issued_s


@lru_cache(PLACEMENTS_CACHED)
def placement_digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8]


def destination_digest(url: str) -> bytes:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).digest()[:16]


class Keyring:
    """Signs with the current key; accepts the current, the previous and the next one.

    Rotation: give every server B as next; then everywhere make B current and A previous; drop A
    once no token of A's can still be billed. No order of restarts refuses a token.
    """

    def __init__(self, current: bytes, previous: bytes = b"", next_: bytes = b"") -> None:
        self.current = Key(current)
        # Tried in turn rather than looked up: two secrets may have the same id, a byte of a digest.
        self._accepted = (self.current, *(Key(secret) for secret in (previous, next_) if secret))

    def sign_shown(self, served: Served, destination: bytes) -> tuple[bytes, bytes]:
        """Return the click's and the impression's token: what every ad needs, from one HMAC."""
        body = SERVED.pack(*served) + destination
        mac = self.current.mac(self.head(_SHOWN) + body)
        return (
            text_of(self.head(Kind.CLICK) + body + mac[MAC_BYTES:]),
            text_of(self.head(Kind.IMPRESSION) + body + mac[:MAC_BYTES]),
        )

    def sign_event(self, served: Served, event: int) -> bytes:
        message = self.head(Kind.EVENT, event) + SERVED.pack(*served) + _NO_DESTINATION
        return text_of(message + self.current.mac(message)[:MAC_BYTES])

    def verify(self, text: str, *kinds: Kind) -> Token:
        """Return what a token of one of these kinds says, or raise TokenError.

        Its age is the caller's to judge.
        """
        if len(text) != TOKEN_CHARS:
            raise TokenError("length")
        try:
            written = text.encode("ascii")
            raw = a2b_base64(written.translate(_FROM_URL))
        except ValueError:
            raise TokenError("not base64url") from None
        # a2b_base64 passes over what is not in its alphabet, and with that over a byte too few.
        if len(raw) != _TOKEN_BYTES or text_of(raw) != written:
            raise TokenError("not canonical base64url")
        message = raw[:_MAC_AT]
        if not self._is_ours(message, raw[_MAC_AT:]):
            raise TokenError("signature")
        version, _, said_kind, event = _HEAD.unpack_from(message)
        if version != VERSION:
            raise TokenError("version")
        if said_kind not in kinds:
            raise TokenError("kind")
        served = Served(*SERVED.unpack_from(message, _SERVED_AT))
        return Token(Kind(said_kind), event, served, message[_DESTINATION_AT:])

    def head(self, kind: int, event: int = 0) -> bytes:
        """What a token of the current key begins with; a kind of 0 begins what is only hashed."""
        return _HEAD.pack(VERSION, self.current.id, kind, event)

    def _is_ours(self, message: bytes, mac: bytes) -> bool:
        kind = message[_KIND_AT]
        if kind not in _HALVES:
            return False
        if kind != Kind.EVENT:
            message = message[:_KIND_AT] + bytes((_SHOWN,)) + message[_KIND_AT + 1 :]
        for key in self._accepted:
            if key.id == message[1]:
                whole = key.mac(message)
                if hmac.compare_digest(whole[_HALVES[kind]], mac):
                    return True
        return False
