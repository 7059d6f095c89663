"""Fluentd's Forward Protocol v1: what forwarders, and stock shippers, say to an aggregator.

A connection is a stream of msgpack values, each a message. A request is an array that begins with a
tag; the type of its second element tells the mode:

    int, EventTime     Message            [tag, time, record, option?]
    array              Forward            [tag, [entry, ...], option?]
    bin, str           PackedForward      [tag, entries one behind the other, option?]
                       Compressed...      the same in gzip, with {"compressed": "gzip"}
    entry              [time, record], or Fluent Bit's [[time, metadata], record]

Our own batches are PackedForward messages too, with tags that no shipper uses. A reply is a map.
HELO, PING and PONG are what `handshake` exchanges.

A message is split off whole before anything looks into it, so that a length in it is never believed
before its bytes are there, and nobody can make us hold more than a message may have.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

import msgpack
import msgspec
from crc32c import crc32c
from msgspec import Meta, Raw, Struct

from server.errors import ProtocolError
from server.ledger.receiver import STREAM, Ack, Batch, Watermark
from server.ledger.sender import Query

MESSAGE_BYTES_MAX: Final = 3 << 20  # a full chunk of Fluent Bit has 2 MB, a batch of ours 200 KB
# Frames are smaller than the records they are made of, so what fits here fits a record of the log.
UNPACKED_BYTES_MAX: Final = 3 << 20
ENTRIES_MAX: Final = 65_536  # three times what the smallest records of a full chunk come to
TAG_CHARS_MAX: Final = 256
CHUNK_CHARS_MAX: Final = 128  # Fluentd's has 24, Fluent Bit's 32; the receiver remembers thousands

FRAMES_TAG: Final = "adcore.frames"
WATERMARK_TAG: Final = "adcore.watermark"

FAULTS: Final = (
    "garbage",  # no msgpack
    "too_large",
    "shape",  # msgpack, but no message
    "crc",
    "compression",
    "handshake",  # out of turn
    "key",
)
"""Every reason of a ProtocolError."""

I64_MAX: Final = (1 << 63) - 1

_NIL = b"\xc0"
_GUNZIP_BYTES = 8 << 10  # a step: what follows a member is copied with each of them
_GZIP = 31  # zlib's word for: with gzip's header and trailer


class Chunk(NamedTuple):
    """Entries of a stock shipper, each `[time, record]` in msgpack, whatever the mode was.

    What comes behind a fault in packed entries is one last entry, which nobody can read: a chunk
    that is broken at its origin would be sent again for ever if it were refused.
    """

    tag: str
    chunk: str  # to be acked; empty when its sender asks for no ack
    entries: list[bytes]


class Helo(NamedTuple):
    nonce: bytes
    wants_user: bool


class Ping(NamedTuple):
    name: bytes
    salt: bytes
    digest: bytes


class Pong(NamedTuple):
    accepted: bool
    reason: str
    name: bytes
    digest: bytes


Request = Query | Batch | Chunk | Ping
Reply = Ack | Watermark | Helo | Pong
Message = TypeVar("Message")


# -- the stream ------------------------------------------------------------------------------------


class Decoder(Generic[Message]):
    """Splits one direction of a connection into messages, read by `parse_request` or `parse_reply`.

    After a ProtocolError it is of no more use. Iterate to the end before feeding again.
    """

    def __init__(
        self, parse: Callable[[bytes], Message], bytes_max: int = MESSAGE_BYTES_MAX
    ) -> None:
        self.bytes_max = bytes_max  # of a message
        self._parse = parse
        # It never builds a value, it says where one ends: what it would build, lists as long as
        # they claim to be, knows no bound. Its buffer's bound would count a read that holds many
        # messages as one.
        self._splitter = msgpack.Unpacker(max_buffer_size=0)
        self._held = bytearray()
        self._held_from = 0  # in the stream

    def feed(self, data: bytes) -> Iterator[Message]:
        self._splitter.feed(data)
        self._held += data
        while message := self._next():
            if message != _NIL:  # a heartbeat
                yield self._parse(message)
        if len(self._held) > self.bytes_max:
            raise ProtocolError("too_large", f"more than {self.bytes_max} bytes in one message")

    def _next(self) -> bytes | None:
        if not _skip(self._splitter):
            return None
        end = self._splitter.tell()
        size = end - self._held_from
        if size > self.bytes_max:
            raise ProtocolError("too_large", f"{size} bytes in one message")
        with memoryview(self._held) as held:
            message = bytes(held[:size])
        del self._held[:size]
        self._held_from = end
        return message


def _skip(splitter: Any) -> bool:
    """Step over a value; whether it was there as a whole."""
    try:
        splitter.skip()
    except msgpack.OutOfData:
        return False
    except ValueError as fault:  # a byte that begins nothing, or nesting beyond 1,000
        raise ProtocolError("garbage", f"no msgpack: {fault!r}") from None
    return True


# -- requests --------------------------------------------------------------------------------------


class _Option(Struct):
    chunk: Annotated[str, Meta(max_length=CHUNK_CHARS_MAX)] = ""
    compressed: str = ""


_Stream = Annotated[str, Meta(pattern=rf"\A{STREAM}\Z")]


class _Frames(Struct):
    stream: _Stream
    previous: Annotated[int, Meta(ge=0, le=I64_MAX)]
    last: Annotated[int, Meta(ge=1, le=I64_MAX)]
    crc: Annotated[int, Meta(ge=0, lt=1 << 32)]


class _Asked(Struct):
    stream: _Stream


_encode = msgspec.msgpack.Encoder().encode
_parts = msgspec.msgpack.Decoder(Annotated[list[Raw], Meta(min_length=2, max_length=6)])
_entries = msgspec.msgpack.Decoder(Annotated[list[Raw], Meta(max_length=ENTRIES_MAX)])
_tag = msgspec.msgpack.Decoder(Annotated[str, Meta(max_length=TAG_CHARS_MAX)])
_text = msgspec.msgpack.Decoder(str)
_bytes = msgspec.msgpack.Decoder(bytes)
_bool = msgspec.msgpack.Decoder(bool)
_option = msgspec.msgpack.Decoder(_Option | None)
_frames = msgspec.msgpack.Decoder(_Frames)
_asked = msgspec.msgpack.Decoder(_Asked)
T = TypeVar("T")


def encode_request(request: Query | Batch) -> bytes:
    if isinstance(request, Query):
        return _encode([WATERMARK_TAG, b"", {"stream": request.stream}])
    option = {
        "chunk": _chunk_of(request.stream, request.last),
        "stream": request.stream,
        "previous": request.previous,
        "last": request.last,
        "crc": crc32c(request.frames),
    }
    return _encode([FRAMES_TAG, request.frames, option])


def parse_request(message: bytes) -> Request:
    parts = _read(_parts, message)
    tag = _read(_tag, parts[0])
    if tag == "PING" and len(parts) == 6:
        return Ping(*map(payload, parts[1:4]))
    if tag not in (FRAMES_TAG, WATERMARK_TAG):
        return _chunk(tag, parts)
    if len(parts) != 3:
        raise ProtocolError("shape", f"{tag} with {len(parts)} parts")
    frames = _read(_bytes, parts[1])
    if tag == WATERMARK_TAG:
        return Query(_read(_asked, parts[2]).stream)
    said = _read(_frames, parts[2])
    if crc32c(frames) != said.crc:
        raise ProtocolError("crc", f"a batch of {said.stream} changed on its way")
    return Batch(said.stream, said.previous, said.last, frames)


def _chunk(tag: str, parts: list[Raw]) -> Chunk:
    kind = _KINDS[memoryview(parts[1])[0]]
    is_message = kind == "time"
    if not 0 <= len(parts) - (3 if is_message else 2) <= 1:
        raise ProtocolError("shape", f"{len(parts)} parts in a message of mode {kind}")
    option = (_read(_option, parts[-1]) if len(parts) > 2 + is_message else None) or _Option()
    if is_message:
        entries = [b"\x92" + bytes(parts[1]) + bytes(parts[2])]
    elif kind == "array":
        entries = [bytes(entry) for entry in _read(_entries, parts[1])]
    elif option.compressed == "gzip":
        entries = list(_split(_gunzip(payload(parts[1]))))
    elif option.compressed in ("", "text"):
        entries = list(_split(payload(parts[1])))
    else:
        raise ProtocolError("compression", "only gzip is understood")
    return Chunk(tag, option.chunk, entries)


def _split(packed: bytes) -> Iterator[bytes]:
    splitter = msgpack.Unpacker(max_buffer_size=0)
    splitter.feed(packed)
    start = count = 0
    while start < len(packed):
        try:
            end = splitter.tell() if _skip(splitter) else len(packed)
        except ProtocolError:
            end = len(packed)
        count += 1
        if count > ENTRIES_MAX:
            raise ProtocolError("too_large", f"more than {ENTRIES_MAX} entries in one message")
        yield packed[start:end]
        start = end


def _gunzip(packed: bytes) -> bytes:
    """Unpack one gzip member behind the other; the limit holds before memory is taken."""
    pieces: list[bytes] = []
    start = size = 0
    while start < len(packed):
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            step = packed[start : start + _GUNZIP_BYTES]
            try:
                piece = member.decompress(step, UNPACKED_BYTES_MAX + 1 - size)
            except zlib.error as fault:
                raise ProtocolError("compression", str(fault)) from None
            if not step and not piece:
                raise ProtocolError("compression", "gzip is cut")
            start += len(step) - len(member.unused_data) - len(member.unconsumed_tail)
            size += len(piece)
            if size > UNPACKED_BYTES_MAX:
                raise ProtocolError("too_large", f"more than {UNPACKED_BYTES_MAX} bytes unpacked")
            pieces.append(piece)
    return b"".join(pieces)


# -- replies ---------------------------------------------------------------------------------------


class _Told(Struct):
    stream: str = ""
    last: Annotated[int, Meta(ge=0, le=I64_MAX)] = 0
    ack: str | None = None
    watermark: str | None = None


class _Greeting(Struct):
    nonce: Raw
    auth: Raw = Raw(b"\xa0")


_told = msgspec.msgpack.Decoder(_Told)
_greeting = msgspec.msgpack.Decoder(_Greeting)


def encode_reply(reply: Ack | Watermark) -> bytes:
    if isinstance(reply, Watermark):
        return _encode({"watermark": reply.stream, "last": reply.last})
    chunk = _chunk_of(reply.stream, reply.last)
    return _encode({"ack": chunk, "stream": reply.stream, "last": reply.last})


def encode_chunk_ack(chunk: str) -> bytes:
    return _encode({"ack": chunk})


def parse_reply(message: bytes) -> Reply:
    if _KINDS[message[0]] == "array":
        return _greeted(_read(_parts, message))
    told = _read(_told, message)
    if told.watermark is not None and told.ack is None:
        return Watermark(told.watermark, told.last)
    if told.watermark is not None or told.ack != _chunk_of(told.stream, told.last):
        raise ProtocolError("shape", "neither an ack nor a watermark")
    return Ack(told.stream, told.last)


def _greeted(parts: list[Raw]) -> Helo | Pong:
    kind = _read(_tag, parts[0])
    if kind == "HELO" and len(parts) == 2:
        greeting = _read(_greeting, parts[1])
        return Helo(payload(greeting.nonce), payload(greeting.auth) != b"")
    if kind == "PONG" and len(parts) == 5:
        accepted, reason = _read(_bool, parts[1]), payload(parts[2])
        name, digest = payload(parts[3]), payload(parts[4])
        return Pong(accepted, reason.decode("ascii", "backslashreplace"), name, digest)
    raise ProtocolError("shape", "neither HELO nor PONG")


def _chunk_of(stream: str, last: int) -> str:
    return f"{stream}:{last}"


# -- values ----------------------------------------------------------------------------------------


def _read(decoder: msgspec.msgpack.Decoder[T], value: bytes | Raw) -> T:
    try:
        return decoder.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as fault:
        raise ProtocolError("shape", str(fault)) from None


def payload(value: Raw) -> bytes:
    """Give the bytes of a bin or a str: older shippers write bytes that are no text as str."""
    with memoryview(value) as view:
        head = _PAYLOAD_AT.get(view[0])
        if head is None:
            raise ProtocolError("shape", "neither bin nor str")
        return bytes(view[head:])


BIN: Final = {0xC4: 2, 0xC5: 3, 0xC6: 5}
"""Where the bytes of a bin begin, by the value's first byte."""
_PAYLOAD_AT = {**BIN, 0xD9: 2, 0xDA: 3, 0xDB: 5, **dict.fromkeys(range(0xA0, 0xC0), 1)}


def _kind(first: int) -> str:
    if first in _PAYLOAD_AT:
        return "packed"
    if 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
        return "array"
    # Whole numbers, an EventTime, and the float that fluent-logger sends when it is given one.
    is_number = first <= 0x7F or first >= 0xE0 or 0xCA <= first <= 0xD3
    return "time" if is_number or first in (0xC7, 0xD7) else "other"


_KINDS = [*map(_kind, range(256))]
