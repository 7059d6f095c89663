"""Both ends of a connection, and the shared key by which they know each other.

    server                                         client
      │ HELO {nonce} ───────────────────────────────► │
      │ ◄─────── PING name, salt, digest(client name) │
      │ PONG yes, name, digest(server name) ────────► │
      │ ◄───────────────────────────────────── batches│

    digest(name) = SHA-512(salt + name + nonce + shared key), in hex

With a shared key the server takes nothing before the PING is right, and the client sends nothing
before the PONG is; without one, both begin at once. The key tells who began to speak: what is said
later is protected by TLS alone.
"""

import hashlib
import hmac
from collections.abc import Iterator
from typing import Final

import msgspec

from server.errors import ProtocolError
from server.ledger.fluent import (
    MESSAGE_BYTES_MAX,
    Chunk,
    Decoder,
    Helo,
    Ping,
    Pong,
    Reply,
    Request,
    parse_reply,
    parse_request,
)
from server.ledger.receiver import Ack, Batch, Watermark
from server.ledger.sender import Query

NONCE_BYTES: Final = 16  # of `nonce` and `salt`, which must be random and used once
# A PING has 200 bytes, with long names 600; so has everything that a server says. Who has not shown
# the key yet makes us hold and read no more than this.
GREETING_BYTES_MAX: Final = 4096

_encode = msgspec.msgpack.Encoder().encode


class ServerEnd:
    """An aggregator's end of a connection.

    Send what `outgoing` gives at the start and after each `feed`, also after one that raised: a
    client is told why before it is hung up on.
    """

    def __init__(self, shared_key: bytes, name: str, nonce: bytes) -> None:
        self._decoder: Decoder[Request] = Decoder(parse_request)
        self._shared_key = shared_key
        self._name = name
        self._nonce = nonce
        self._outgoing = b""
        self.is_open = not shared_key
        if shared_key:
            assert len(nonce) == NONCE_BYTES
            self._decoder.bytes_max = GREETING_BYTES_MAX
            self._outgoing = _encode(["HELO", {"nonce": nonce, "auth": "", "keepalive": True}])

    def outgoing(self) -> bytes:
        out, self._outgoing = self._outgoing, b""
        return out

    def feed(self, data: bytes) -> Iterator[Query | Batch | Chunk]:
        for request in self._decoder.feed(data):
            if isinstance(request, Ping):
                self._answer(request)
            elif self.is_open:
                yield request
            else:
                raise ProtocolError("handshake", "events before the shared key")

    def _answer(self, ping: Ping) -> None:
        if self.is_open:
            raise ProtocolError("handshake", "a PING that nobody waits for")
        expected = _digest(ping.salt, ping.name, self._nonce, self._shared_key)
        if not hmac.compare_digest(expected, ping.digest):
            self._outgoing += _encode(["PONG", False, "shared_key mismatch", "", ""])
            raise ProtocolError("key", "the client has another shared key")
        digest = _digest(ping.salt, self._name.encode(), self._nonce, self._shared_key)
        self._outgoing += _encode(["PONG", True, "", self._name, digest.decode()])
        self._decoder.bytes_max = MESSAGE_BYTES_MAX
        self.is_open = True


class ClientEnd:
    """A forwarder's end of a connection. Nothing of its own may be sent before `is_open`.

    `name` must not be the server's.
    """

    def __init__(self, shared_key: bytes, name: str, salt: bytes) -> None:
        self._decoder: Decoder[Reply] = Decoder(parse_reply, GREETING_BYTES_MAX)
        self._shared_key = shared_key
        self._name = name
        self._salt = salt
        self._nonce = b""
        self._outgoing = b""
        self.is_open = not shared_key
        assert not shared_key or len(salt) == NONCE_BYTES

    def outgoing(self) -> bytes:
        out, self._outgoing = self._outgoing, b""
        return out

    def feed(self, data: bytes) -> Iterator[Ack | Watermark]:
        for reply in self._decoder.feed(data):
            if isinstance(reply, Helo):
                self._introduce(reply)
            elif isinstance(reply, Pong):
                self._believe(reply)
            elif self.is_open:
                yield reply
            else:
                raise ProtocolError("handshake", "a reply before the shared key")

    def _introduce(self, helo: Helo) -> None:
        if not self._shared_key:
            raise ProtocolError("key", "the server asks for a shared key, and we have none")
        if self._nonce:
            raise ProtocolError("handshake", "a second HELO")
        if not helo.nonce or helo.wants_user:
            raise ProtocolError("handshake", "a HELO without a nonce, or one that wants a user")
        self._nonce = helo.nonce
        digest = _digest(self._salt, self._name.encode(), self._nonce, self._shared_key)
        self._outgoing += _encode(["PING", self._name, self._salt, digest.decode(), "", ""])

    def _believe(self, pong: Pong) -> None:
        if self.is_open or not self._nonce:
            raise ProtocolError("handshake", "a PONG that nobody waits for")
        if not pong.accepted:
            raise ProtocolError("key", f"refused: {pong.reason[:100]}")
        # Our own digest sent back would be right, did it come under our own name.
        expected = _digest(self._salt, pong.name, self._nonce, self._shared_key)
        if pong.name == self._name.encode() or not hmac.compare_digest(expected, pong.digest):
            raise ProtocolError("key", "the server has another shared key")
        self.is_open = True


def _digest(salt: bytes, name: bytes, nonce: bytes, shared_key: bytes) -> bytes:
    return hashlib.sha512(salt + name + nonce + shared_key).hexdigest().encode()
