"""A token says what was served, and nothing but the token as it was signed is believed.

Every guard of `verify` has a test here that fails without it.
"""

import hashlib
import hmac
from binascii import a2b_base64, b2a_base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.delivery.tokens import (
    TOKEN_CHARS,
    Keyring,
    Served,
    Token,
    destination_digest,
    placement_digest,
)
from server.errors import ConfigError, TokenError
from server.events.records import PREVIEW, Kind

A = bytes(range(32))
B = bytes(range(32, 64))
C = bytes(range(64, 96))
SERVED = Served(1_793_500_000, b"0123456789abcdef", 7, 8, 9, 2_500_000, placement_digest("top"))
DESTINATION = destination_digest("https://example.com/shoes")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

u64 = st.integers(0, 2**64 - 1)
served_ads = st.builds(
    Served,
    issued_s=st.integers(0, 2**32 - 1),
    id=st.binary(min_size=16, max_size=16),
    line_item_id=u64,
    creative_id=u64,
    site_id=u64,
    price_micros=u64,
    placement=st.binary(min_size=8, max_size=8),
    lease=u64,
    flags=st.integers(0, 255),
)


# A conversion has no token of its own: it brings a click's or an impression's.
SIGNED = [Kind.IMPRESSION, Kind.CLICK, Kind.EVENT]


def token_of(keyring: Keyring, kind: Kind) -> str:
    return signed(keyring, kind, SERVED, DESTINATION, 70)


def signed(keyring: Keyring, kind: Kind, served: Served, destination: bytes, event: int) -> str:
    click, impression = keyring.sign_shown(served, destination)
    of_kind = {Kind.CLICK: click, Kind.IMPRESSION: impression}
    return (of_kind.get(kind) or keyring.sign_event(served, event)).decode()


def raw_of(text: str) -> bytes:
    return a2b_base64(text.replace("-", "+").replace("_", "/"))


def text_of(raw: bytes) -> str:
    return b2a_base64(raw, newline=False).decode().replace("+", "-").replace("/", "_")


def mac_of(secret: bytes, message: bytes) -> bytes:
    """What the docstring says a MAC is, from the library's own HMAC."""
    if message[2] == Kind.EVENT:
        return hmac.digest(secret, message, "sha256")[:16]
    whole = hmac.digest(secret, message[:2] + b"\0" + message[3:], "sha256")
    return whole[16:] if message[2] == Kind.CLICK else whole[:16]


def resigned(secret: bytes, message: bytes) -> str:
    return text_of(message + mac_of(secret, message))


def refused(keyring: Keyring, text: str, kind: Kind) -> str:
    with pytest.raises(TokenError) as caught:
        keyring.verify(text, kind)
    return str(caught.value)


@given(
    served_ads,
    st.sampled_from(SIGNED),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=32, max_size=200),
)
def test_what_is_signed_is_what_is_read(served, kind, destination, event, secret):
    keyring = Keyring(secret)
    text = signed(keyring, kind, served, destination, event)
    expected = Token(
        kind,
        event if kind is Kind.EVENT else 0,
        served,
        bytes(16) if kind is Kind.EVENT else destination,
    )
    assert keyring.verify(text, kind) == expected
    assert len(text) == TOKEN_CHARS
    assert set(text) <= set(ALPHABET)
    message, mac = raw_of(text)[:-16], raw_of(text)[-16:]
    assert mac == mac_of(secret, message)


def test_the_layout_is_the_one_of_the_table():
    served = SERVED._replace(lease=3, flags=PREVIEW)
    keyring = Keyring(A)
    event = raw_of(keyring.sign_event(served, 5).decode())
    assert (event[2], event[3:7], event[76:92]) == (3, b"\0\0\0\5", bytes(16))
    impression = raw_of(keyring.sign_shown(served, DESTINATION)[1].decode())
    assert (impression[2], impression[3:7], impression[76:92]) == (1, bytes(4), DESTINATION)
    raw = raw_of(keyring.sign_shown(served, DESTINATION)[0].decode())
    assert event[7:76] == impression[7:76] == raw[7:76]
    fields = (  # offset, width, value: the docstring's table
        (0, 1, 1),
        (2, 1, 2),
        (3, 4, 0),
        (7, 4, 1_793_500_000),
        (11, 16, int.from_bytes(b"0123456789abcdef", "big")),
        (27, 8, 7),
        (35, 8, 8),
        (43, 8, 9),
        (51, 8, 2_500_000),
        (59, 8, int.from_bytes(hashlib.sha256(b"top").digest()[:8], "big")),
        (67, 8, 3),
        (75, 1, 1),
        (76, 16, int.from_bytes(hashlib.sha256(b"https://example.com/shoes").digest()[:16], "big")),
    )
    for offset, width, value in fields:
        assert int.from_bytes(raw[offset : offset + width], "big") == value, offset
    assert len(raw) == 108


@pytest.mark.parametrize("kind", SIGNED)
def test_every_flipped_bit_is_refused(kind):
    keyring = Keyring(A, B, C)
    raw = raw_of(token_of(keyring, kind))
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refused(keyring, text_of(bytes(flipped)), kind) == "signature"


@pytest.mark.parametrize("kind", SIGNED)
def test_every_changed_character_is_refused(kind):
    keyring = Keyring(A)
    text = token_of(keyring, kind)
    for at in range(TOKEN_CHARS):
        for other in (*ALPHABET, "=", "+", "/", " ", "\n", "%", "\0", "é", "\ud800"):
            if other != text[at]:
                refused(keyring, text[:at] + other + text[at + 1 :], kind)


@given(st.sampled_from(SIGNED), st.text(alphabet=ALPHABET + "=+/ é", min_size=140, max_size=148))
def test_text_that_nobody_signed_is_refused(kind, text):
    refused(Keyring(A), text, kind)


def test_a_token_has_one_spelling():
    keyring = Keyring(A)
    # A MAC that ends so that base64 has both - and _ in it, and so another spelling to refuse.
    text = next(
        text
        for id_ in range(1000)
        if {"-", "_"}
        <= set(
            text := keyring.sign_shown(SERVED._replace(id=id_.to_bytes(16, "big")), DESTINATION)[
                1
            ].decode()
        )
    )
    for other in (
        text[:-1],
        text[1:],
        text[:-4],
        "",
        text + "=",
        text + "==",
        text + "A",
        text + "AAAA",
        text * 2,
        text + "\n",
        " " + text,
        text[:-1] + "=",
        text[:-2] + "==",
        text.replace("-", "+"),
        text.replace("_", "/"),
        text.replace("-", "%2D"),
        text[:72] + "\n" + text[72:],
    ):
        refused(keyring, other, Kind.IMPRESSION)
    assert keyring.verify(text, Kind.IMPRESSION)


@pytest.mark.parametrize("kind", SIGNED)
@pytest.mark.parametrize("taken_as", Kind)
def test_a_kind_passes_only_as_itself(kind, taken_as):
    keyring = Keyring(A)
    text = token_of(keyring, kind)
    if kind is taken_as:
        assert keyring.verify(text, kind).kind is kind
    else:
        assert refused(keyring, text, taken_as) == "kind"


def test_another_version_is_refused_even_when_signed():
    keyring = Keyring(A)
    message = raw_of(token_of(keyring, Kind.CLICK))[:-16]
    assert keyring.verify(resigned(A, message), Kind.CLICK)
    for version in (0, 2, 255):
        text = resigned(A, bytes([version]) + message[1:])
        assert refused(keyring, text, Kind.CLICK) == "version"


def test_the_signature_of_another_token_is_refused():
    keyring = Keyring(A)
    raw = raw_of(token_of(keyring, Kind.CLICK))
    other = raw_of(token_of(keyring, Kind.IMPRESSION))
    assert refused(keyring, text_of(raw[:-16] + other[-16:]), Kind.CLICK) == "signature"


# Before, while and after every server has restarted; A is dropped last.
ROTATION = [
    Keyring(A),
    Keyring(A, next_=B),
    Keyring(B, previous=A),
    Keyring(B),
]


@pytest.mark.parametrize("signer", range(4))
@pytest.mark.parametrize("verifier", range(4))
def test_neighbours_in_a_rotation_accept_each_other(signer, verifier):
    text = token_of(ROTATION[signer], Kind.CLICK)
    known = {0: (0, 1), 1: (0, 1, 2, 3), 2: (0, 1, 2, 3), 3: (2, 3)}[verifier]
    if signer in known:
        assert ROTATION[verifier].verify(text, Kind.CLICK).served == SERVED
    else:
        assert refused(ROTATION[verifier], text, Kind.CLICK) == "signature"


def test_a_stranger_with_our_key_id_is_refused():
    ours = Keyring(A)
    key_id = raw_of(token_of(ours, Kind.CLICK))[1]
    message = bytearray(raw_of(token_of(Keyring(C), Kind.CLICK))[:-16])
    message[1] = key_id
    assert refused(ours, resigned(C, bytes(message)), Kind.CLICK) == "signature"


def test_keys_with_the_same_id_are_both_accepted():
    def key_id(secret: bytes) -> int:
        return raw_of(token_of(Keyring(secret), Kind.CLICK))[1]

    twin = next(
        secret
        for n in range(100_000)
        if key_id(secret := n.to_bytes(32, "big")) == key_id(A) and secret != A
    )
    keyring = Keyring(A, previous=twin)
    for secret in (A, twin):
        assert keyring.verify(token_of(Keyring(secret), Kind.CLICK), Kind.CLICK)


@pytest.mark.parametrize("keys", [(b"",), (b"short",), (A, b"short"), (A, b"", b"short")])
def test_short_keys_are_refused(keys):
    with pytest.raises(ConfigError):
        Keyring(*keys)


def test_age_counts_from_the_decision():
    keyring = Keyring(A)
    token = keyring.verify(token_of(keyring, Kind.EVENT), Kind.EVENT)
    assert token.age_s(SERVED.issued_s + 30) == 30
    assert token.age_s(SERVED.issued_s - 5) == -5
