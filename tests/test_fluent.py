"""The forward protocol: what the spec shows, what clients send, and what nobody should."""

import gzip
import itertools
import struct
import tracemalloc
import zlib

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import ProtocolError
from server.ledger.fluent import (
    ENTRIES_MAX,
    FAULTS,
    MESSAGE_BYTES_MAX,
    UNPACKED_BYTES_MAX,
    Chunk,
    Decoder,
    Helo,
    Ping,
    Pong,
    encode_chunk_ack,
    encode_reply,
    encode_request,
    parse_reply,
    parse_request,
)
from server.ledger.receiver import Ack, Batch, Watermark
from server.ledger.sender import Query

STREAM = "node_1.w1-00000000000000a7"
CHUNK = "p8n9gmxTQVC8/nh2wlKKeQ=="
EVENT_TIME = b"\xd7\x00" + struct.pack(">II", 1_441_588_984, 5)
EVENT_TIME_EXT8 = b"\xc7\x08\x00" + EVENT_TIME[2:]


def pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def requests(data: bytes) -> list[object]:
    return list(Decoder(parse_request).feed(data))


def refused(data: bytes, parse=parse_request) -> str:
    with pytest.raises(ProtocolError) as caught:
        list(Decoder(parse).feed(data))
    assert caught.value.reason in FAULTS
    return caught.value.reason


def entries(*pairs: tuple[int, dict[str, str]]) -> list[bytes]:
    return [pack(list(pair)) for pair in pairs]


FOO, BAR = (1_441_588_984, {"message": "foo"}), (1_441_588_985, {"message": "bar"})
PACKED = pack(list(FOO)) + pack(list(BAR))
BATCH = Batch(STREAM, 3, 9, bytes(range(256)) * 256)

STOCK = {
    "message": pack(["tag.name", *FOO]),
    "message with an option": pack(["tag.name", *FOO, {"chunk": CHUNK}]),
    "message at an EventTime": b"\x93\xa8tag.name" + EVENT_TIME + b"\x81\xa7message\xa3foo",
    "message at a float": pack(["tag.name", 1.5, {"a": 1}]),
    "forward": pack(["tag.name", [FOO, BAR], {"chunk": CHUNK, "size": 2}]),
    "forward without an option": pack(["tag.name", [FOO, BAR]]),
    "forward with none": pack(["tag.name", [FOO, BAR], None]),
    "packed": pack(["tag.name", PACKED, {"chunk": CHUNK, "size": 2, "fluent_signal": 0}]),
    "packed as text": b"\x92\xa8tag.name" + b"\xd9" + bytes([len(PACKED)]) + PACKED,
    "gzip": pack(["tag.name", gzip.compress(PACKED), {"compressed": "gzip", "chunk": CHUNK}]),
    "two gzips": pack(
        [
            "tag.name",
            gzip.compress(PACKED[:20]) + gzip.compress(PACKED[20:]),
            {"compressed": "gzip"},
        ]
    ),
    "packed as text, said": pack(["tag.name", PACKED, {"compressed": "text"}]),
    "empty": pack(["tag.name", b"", {"chunk": CHUNK}]),
}
OURS = [Query(STREAM), BATCH, Batch(STREAM, 0, 2**63 - 1, b"")]


# -- the spec, byte by byte


def test_a_message_as_the_spec_shows_it():
    raw = b"\x94\xa8tag.name\xce\x55\xec\xe6\xf8\x81\xa7message\xa3bar\x81\xa6option\xa8optional"
    assert requests(raw) == [Chunk("tag.name", "", [b"\x92" + raw[10:28]])]


def test_forward_mode_as_the_spec_shows_it():
    one, two = b"\x92\xce\x55\xec\xe6\xf8\x81\xa7message\xa3foo", b"\x92\xce\x55\xec\xe6\xf9\x80"
    raw = b"\x93\xa8tag.name\x92" + one + two + b"\x81\xa5chunk\xb8" + CHUNK.encode()
    assert requests(raw) == [Chunk("tag.name", CHUNK, [one, two])]


@pytest.mark.parametrize("head", [b"\xc4\x14", b"\xb4", b"\xd9\x14", b"\xc5\0\x14", b"\xda\0\x14"])
def test_packed_mode_takes_bin_and_str(head):
    entry = b"\x92" + EVENT_TIME + b"\x81\xa6record\xa0"
    raw = b"\x93\xa8tag.name" + head + entry + b"\x81\xa5chunk\xa1x"
    assert len(entry) == 20
    assert requests(raw) == [Chunk("tag.name", "x", [entry])]


@pytest.mark.parametrize("time", [EVENT_TIME, EVENT_TIME_EXT8])
def test_both_forms_of_an_event_time_are_a_time(time):
    assert requests(b"\x93\xa1t" + time + b"\x80") == [Chunk("t", "", [b"\x92" + time + b"\x80"])]


def test_fluent_bits_entry_with_metadata_is_kept_as_it_is():
    entry = b"\x92\x92" + EVENT_TIME + b"\x80\x81\xa1a\x01"
    assert requests(pack(["t", entry, {}])) == [Chunk("t", "", [entry])]


def test_the_ack_as_the_spec_shows_it():
    assert encode_chunk_ack(CHUNK) == b"\x81\xa3ack\xb8p8n9gmxTQVC8/nh2wlKKeQ=="


def test_a_heartbeat_is_nothing():
    assert requests(b"\xc0\xc0" + STOCK["message"] + b"\xc0") == requests(STOCK["message"])


@pytest.mark.parametrize("name", STOCK)
def test_every_mode_gives_its_entries(name):
    raw = STOCK[name]
    (chunk,) = requests(raw)
    assert chunk.tag == "tag.name"
    assert chunk.chunk == (CHUNK if CHUNK.encode() in raw else "")
    if name.startswith("message"):
        assert len(chunk.entries) == 1
    else:
        assert chunk.entries == ([] if name == "empty" else entries(FOO, BAR))


# -- our own


@pytest.mark.parametrize("request_", OURS)
def test_what_we_ask_is_read_back(request_):
    assert requests(encode_request(request_)) == [request_]


@pytest.mark.parametrize("reply", [Ack(STREAM, 9), Watermark(STREAM, 0), Ack(STREAM, 2**63 - 1)])
def test_what_we_answer_is_read_back(reply):
    assert list(Decoder(parse_reply).feed(encode_reply(reply))) == [reply]


def test_our_messages_are_the_protocols_own():
    tag, frames, option = msgpack.unpackb(encode_request(BATCH))
    assert (tag, frames) == ("adcore.frames", BATCH.frames)
    assert option["chunk"] == f"{STREAM}:9"
    assert msgpack.unpackb(encode_reply(Ack(STREAM, 9)))["ack"] == option["chunk"]


@settings(max_examples=20)
@given(st.integers(0, 8 * len(BATCH.frames) - 1))
def test_a_bit_that_flips_in_a_batch_is_seen(bit):
    raw = bytearray(encode_request(BATCH))
    start = raw.index(BATCH.frames)
    raw[start + bit // 8] ^= 1 << bit % 8
    assert refused(bytes(raw)) == "crc"


@pytest.mark.parametrize(
    "change",
    [
        {"stream": "../../etc-00000000000000a7"},
        {"stream": STREAM + "\n"},
        {"previous": -1},
        {"last": 0},
        {"last": 1 << 63},
        {"crc": 1 << 32},
        {"crc": None},
    ],
)
def test_a_batch_that_says_what_it_cannot_mean_is_refused(change):
    tag, frames, option = msgpack.unpackb(encode_request(BATCH))
    assert refused(pack([tag, frames, option | change])) == "shape"


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"ack": "x"},
        {"ack": f"{STREAM}:8", "stream": STREAM, "last": 9},
        {"ack": f"{STREAM}:9", "stream": STREAM, "last": 9, "watermark": STREAM},
        {"watermark": 1},
        5,
        [],
        ["PONG"],
    ],
)
def test_a_reply_that_is_none_is_refused(reply):
    assert refused(pack(reply), parse_reply) == "shape"


# -- handshakes


def test_greetings_as_the_spec_shows_them():
    helo = b"\x92\xa4HELO\x83\xa5nonce\xa7xxxxxxx\xa4auth\xa8yyyyyyyy\xa9keepalive\xc3"
    pong = b"\x95\xa4PONG\xc3\xa0\xa6server\xa8deadbeef"
    assert list(Decoder(parse_reply).feed(helo + pong)) == [
        Helo(b"xxxxxxx", True),
        Pong(True, "", b"server", b"deadbeef"),
    ]
    # As Fluent Bit writes it: a salt that is no text, in a str.
    ping = b"\x96\xa4PING\xa6client\xa4\xff\xfe\xfd\xfc\xa8deadbeef\xa0\xa0"
    assert requests(ping) == [Ping(b"client", b"\xff\xfe\xfd\xfc", b"deadbeef")]


# -- any stream


@given(st.lists(st.integers(0, 4000), max_size=30))
def test_where_the_stream_is_split_does_not_matter(cuts):
    batch = Batch(STREAM, 3, 9, bytes(2000))
    stream = b"\xc0".join([*STOCK.values(), encode_request(batch), encode_request(Query(STREAM))])
    decoder = Decoder(parse_request)
    marks = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    found = [
        message
        for start, end in itertools.pairwise(marks)
        for message in decoder.feed(stream[start:end])
    ]
    assert found == requests(stream)
    assert found[-2:] == [batch, Query(STREAM)]
    assert not decoder._held


def test_byte_for_byte_is_the_same_too():
    decoder = Decoder(parse_request)
    stream = b"".join(STOCK.values())
    found = [message for byte in stream for message in decoder.feed(bytes([byte]))]
    assert found == requests(stream)


ALL = [*STOCK.values(), encode_request(Batch(STREAM, 3, 9, b"frames")), encode_request(OURS[0])]


@given(st.sampled_from(ALL), st.data())
def test_what_is_cut_or_changed_is_refused_or_understood(raw, data):
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    del changed[data.draw(st.integers(0, len(raw))) :]
    for parse in (parse_request, parse_reply):
        try:
            list(Decoder(parse).feed(bytes(changed)))
        except ProtocolError as fault:
            assert fault.reason in FAULTS


@given(st.binary(max_size=300))
def test_noise_is_refused_or_understood(noise):
    for parse in (parse_request, parse_reply):
        try:
            list(Decoder(parse).feed(noise))
        except ProtocolError as fault:
            assert fault.reason in FAULTS


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\xc1", "garbage"),
        (b"\x91" * 2000, "garbage"),
        (b"GET / HTTP/1.1\r\n\r\n", "shape"),
        (b'{"a": 1}', "shape"),
        (pack({"a": 1}), "shape"),
        (pack(["t"]), "shape"),
        (pack([1, 2, {}]), "shape"),
        (pack(["t", 1]), "shape"),
        (pack(["t", None, {}]), "shape"),
        (pack(["t", {}, {}]), "shape"),
        (pack(["t", 1, {}, {}, {}]), "shape"),
        (pack(["t", [], {}, {}]), "shape"),
        (pack(["t" * 257, 1, {}]), "shape"),
        (pack(["t", [], {"chunk": "x" * 129}]), "shape"),
        (pack(["t", [], {"chunk": 5}]), "shape"),
        (b"\x92\xa1\xff\x90", "shape"),
        (pack(["t", b"", {"compressed": "zstd"}]), "compression"),
        (pack(["t", b"no gzip", {"compressed": "gzip"}]), "compression"),
        (pack(["t", gzip.compress(PACKED)[:-1], {"compressed": "gzip"}]), "compression"),
        (pack(["t", gzip.compress(PACKED) + b"x", {"compressed": "gzip"}]), "compression"),
        (pack(["t", zlib.compress(PACKED), {"compressed": "gzip"}]), "compression"),
        (pack(["adcore.frames", 5, {"stream": STREAM}]), "shape"),
        (pack(["adcore.frames", b""]), "shape"),
        (pack(["adcore.watermark", b"", {}]), "shape"),
        (pack(["t", [[0]] * (ENTRIES_MAX + 1)]), "shape"),
        (pack(["t", b"\x00" * (ENTRIES_MAX + 1)]), "too_large"),
    ],
)
def test_a_message_that_is_none_is_refused(raw, reason):
    assert refused(raw) == reason


def test_what_comes_before_a_fault_is_taken():
    feed = Decoder(parse_request).feed(STOCK["packed"] + b"\xc1")
    assert next(feed).tag == "tag.name"
    with pytest.raises(ProtocolError):
        next(feed)


def test_entries_behind_a_fault_are_one_that_nobody_can_read():
    for broken in (b"\xc1" + PACKED, PACKED[:-1], b"\x91" * 2000):
        (chunk,) = requests(pack(["t", PACKED + broken, {"chunk": CHUNK}]))
        assert chunk.entries[:2] == entries(FOO, BAR)
        assert b"".join(chunk.entries) == PACKED + broken


# -- bounds


@pytest.mark.parametrize("length", [1 << 30, (1 << 32) - 1])
@pytest.mark.parametrize("code", [0xC6, 0xDB, 0xDD, 0xDF, 0xC9])
def test_a_length_is_not_believed(code, length):
    decoder = Decoder(parse_request)
    assert not list(decoder.feed(b"\x93\xa1t" + struct.pack(">BI", code, length)))
    fed = 0
    try:
        while fed <= 2 * MESSAGE_BYTES_MAX:
            fed += 1 << 16
            assert not list(decoder.feed(bytes(1 << 16)))
    except ProtocolError as fault:
        # msgpack takes 2^32 for 0 here; who reads the message next does not.
        wraps = (code, length) == (0xC9, (1 << 32) - 1)
        assert fault.reason == ("shape" if wraps else "too_large")
    assert fed <= MESSAGE_BYTES_MAX + (1 << 16)


@pytest.mark.parametrize(
    ("size", "fits"), [(MESSAGE_BYTES_MAX, True), (MESSAGE_BYTES_MAX + 1, False)]
)
def test_the_largest_message(size, fits):
    head = b"\x92\xa1t\xc6"
    raw = head + struct.pack(">I", size - len(head) - 4) + b"\xc6"
    raw += struct.pack(">I", size - len(raw) - 4)
    raw += bytes(size - len(raw))
    assert len(raw) == size
    if fits:
        assert len(requests(raw)) == 1
    else:
        assert refused(raw) == "too_large"
    # A read of many messages is no large message.
    assert len(requests(STOCK["packed"] * (2 * MESSAGE_BYTES_MAX // len(STOCK["packed"])))) > 1000


def test_a_bomb_is_not_unpacked():
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(10 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    raw = pack(["t", gzip.compress(b"")[:10] + 100 * block, {"compressed": "gzip"}])
    assert 900_000 < len(raw) < MESSAGE_BYTES_MAX
    tracemalloc.start()
    assert refused(raw) == "too_large"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * UNPACKED_BYTES_MAX


def test_many_members_are_together_bounded():
    member = gzip.compress(bytes(1 << 20))
    raw = pack(["t", member * (1 + UNPACKED_BYTES_MAX // (1 << 20)), {"compressed": "gzip"}])
    assert refused(raw) == "too_large"


def test_many_small_members_take_no_long_time():
    member = gzip.compress(b"")
    raw = pack(["t", member * (MESSAGE_BYTES_MAX // len(member) - 10), {"compressed": "gzip"}])
    assert requests(raw) == [Chunk("t", "", [])]
