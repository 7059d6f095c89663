"""Both ends of a connection: who has the key is let in, and nobody else, in either direction."""

import hashlib

import msgpack
import msgspec
import pytest

from server.errors import ProtocolError
from server.ledger.fluent import encode_chunk_ack, encode_reply, encode_request
from server.ledger.handshake import GREETING_BYTES_MAX, NONCE_BYTES, ClientEnd, ServerEnd
from server.ledger.receiver import Ack, Batch, Watermark
from server.ledger.sender import Query

KEY = b"a key that both have"
NONCE, SALT = bytes(range(NONCE_BYTES)), b"\xff" * NONCE_BYTES
STREAM = "n1.w1-00000000000000a7"
BATCH = Batch(STREAM, 0, 1, b"frames")


def pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def server(key: bytes = KEY, name: str = "aggregator-0") -> ServerEnd:
    return ServerEnd(key, name, NONCE)


def client(key: bytes = KEY) -> ClientEnd:
    return ClientEnd(key, "forwarder", SALT)


def digest(salt: bytes, name: bytes, nonce: bytes, key: bytes) -> str:
    return hashlib.sha512(salt + name + nonce + key).hexdigest()


def refused(end: ServerEnd | ClientEnd, data: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        list(end.feed(data))
    return caught.value.reason


def opened() -> tuple[ServerEnd, ClientEnd]:
    ours, theirs = server(), client()
    assert list(theirs.feed(ours.outgoing())) == []
    assert list(ours.feed(theirs.outgoing())) == []
    assert ours.is_open
    assert not theirs.is_open
    assert list(theirs.feed(ours.outgoing())) == []
    assert theirs.is_open
    return ours, theirs


def test_both_ends_open_with_one_key():
    ours, theirs = opened()
    assert list(ours.feed(encode_request(Query(STREAM)) + encode_request(BATCH))) == [
        Query(STREAM),
        BATCH,
    ]
    replies = [Watermark(STREAM, 0), Ack(STREAM, 1)]
    assert list(theirs.feed(b"".join(map(encode_reply, replies)))) == replies
    assert ours.outgoing() == theirs.outgoing() == b""


def test_without_a_key_both_begin_at_once():
    ours, theirs = server(key=b""), client(key=b"")
    assert ours.is_open
    assert theirs.is_open
    assert ours.outgoing() == theirs.outgoing() == b""
    assert list(ours.feed(encode_request(BATCH))) == [BATCH]


def test_what_is_said_is_what_the_spec_shows():
    ours, theirs = server(), client()
    helo = ours.outgoing()
    assert msgpack.unpackb(helo) == ["HELO", {"nonce": NONCE, "auth": "", "keepalive": True}]
    list(theirs.feed(helo))
    ping = theirs.outgoing()
    expected = digest(SALT, b"forwarder", NONCE, KEY)
    assert msgpack.unpackb(ping) == ["PING", "forwarder", SALT, expected, "", ""]
    list(ours.feed(ping))
    expected = digest(SALT, b"aggregator-0", NONCE, KEY)
    assert msgpack.unpackb(ours.outgoing()) == ["PONG", True, "", "aggregator-0", expected]


def test_a_shipper_that_writes_its_salt_as_text_is_let_in():
    """Fluent Bit's PING: 16 bytes that are no text, in a str."""
    ours = server()
    said = digest(SALT, b"node", NONCE, KEY).encode()
    ping = b"\x96\xa4PING\xa4node\xb0" + SALT + b"\xd9\x80" + said + b"\xa0\xa0"
    record = pack(["adcore.beacon", 1, {}])
    assert [chunk.tag for chunk in ours.feed(ping + record)] == ["adcore.beacon"]


@pytest.mark.parametrize("data", [encode_request(BATCH), encode_request(Query(STREAM))])
def test_events_before_the_key_are_refused(data):
    assert refused(server(), data) == "handshake"
    assert refused(server(), pack(["adcore.beacon", 1, {}])) == "handshake"


def test_who_has_no_key_yet_is_held_and_read_for_little():
    large = encode_request(BATCH._replace(frames=bytes(GREETING_BYTES_MAX)))
    assert refused(server(), large) == "too_large"
    assert refused(server(), large[: GREETING_BYTES_MAX + 1]) == "too_large"
    ours, theirs = server(), client()
    assert refused(theirs, large) == "too_large"
    theirs = client()
    list(theirs.feed(ours.outgoing()))
    # With the key, the same may come at once.
    assert [request.last for request in ours.feed(theirs.outgoing() + large)] == [1]


@pytest.mark.parametrize("key", [b"another key", KEY[:-1], KEY + b"\0"])
def test_a_client_with_another_key_is_told_so_and_refused(key):
    ours, theirs = server(), client(key)
    list(theirs.feed(ours.outgoing()))
    assert refused(ours, theirs.outgoing() + encode_request(BATCH)) == "key"
    assert not ours.is_open
    pong = ours.outgoing()
    assert msgpack.unpackb(pong)[1:3] == [False, "shared_key mismatch"]
    assert refused(theirs, pong) == "key"


def test_a_server_with_another_key_is_not_believed():
    theirs = client()
    list(theirs.feed(server(key=b"another key").outgoing()))
    wrong = digest(SALT, b"aggregator-0", NONCE, b"another key")
    assert refused(theirs, pack(["PONG", True, "", "aggregator-0", wrong])) == "key"
    assert not theirs.is_open


def test_a_refusal_opens_nothing_whatever_its_digest():
    theirs = client()
    list(theirs.feed(server().outgoing()))
    right = digest(SALT, b"aggregator-0", NONCE, KEY)
    assert refused(theirs, pack(["PONG", False, "not you", "aggregator-0", right])) == "key"
    assert not theirs.is_open


def test_our_own_digest_is_no_proof():
    theirs = client()
    list(theirs.feed(server().outgoing()))
    own = msgpack.unpackb(theirs.outgoing())[3]
    assert refused(theirs, pack(["PONG", True, "", "forwarder", own])) == "key"


def test_a_ping_for_another_nonce_is_refused():
    said = digest(SALT, b"forwarder", bytes(NONCE_BYTES), KEY)
    assert refused(server(), pack(["PING", "forwarder", SALT, said, "", ""])) == "key"


@pytest.mark.parametrize("said", ["", "é" * 64, "0" * 127, b"\xff" * 128])
def test_a_digest_that_is_none_is_refused(said):
    assert refused(server(), pack(["PING", "forwarder", SALT, said, "", ""])) == "key"


def test_what_comes_out_of_turn_is_refused():
    ours, theirs = opened()
    ping = pack(["PING", "forwarder", SALT, digest(SALT, b"forwarder", NONCE, KEY), "", ""])
    pong = pack(["PONG", True, "", "a", digest(SALT, b"a", NONCE, KEY)])
    helo = pack(["HELO", {"nonce": NONCE}])
    assert refused(ours, ping) == "handshake"
    assert refused(server(key=b""), ping) == "handshake"
    assert refused(theirs, pong) == "handshake"
    assert refused(opened()[1], helo) == "handshake"
    assert refused(client(), helo + helo) == "handshake"
    assert refused(client(), pong) == "handshake"
    assert refused(client(), encode_reply(Ack(STREAM, 1))) == "handshake"
    assert refused(client(), pack(["HELO", {"nonce": b""}])) == "handshake"
    assert refused(client(), pack(["HELO", {"nonce": NONCE, "auth": b"salt"}])) == "handshake"
    assert refused(client(key=b""), helo) == "key"


def test_a_stock_ack_is_not_for_us():
    assert refused(opened()[1], encode_chunk_ack("x")) == "shape"
