"""Records of stock shippers: what they become, what is counted, and the clients that send them."""

import asyncio
import gzip
import struct

import msgspec
import pytest
from fluent.asyncsender import FluentSender as AsyncSender
from fluent.sender import EventTime, FluentSender
from hypothesis import given
from hypothesis import strategies as st

from server.errors import ProtocolError
from server.events.frames import Frames
from server.events.records import (
    RECORD_BEACON,
    RECORD_DECISION,
    Answered,
    Beacon,
    Decision,
    Kind,
    Outcome,
)
from server.events.walking import walk
from server.ledger import stock
from server.ledger.fluent import Chunk, encode_chunk_ack
from server.ledger.stock import PRICE_MICROS_MAX, UNKNOWN_TAG, UNREADABLE, Converted, convert
from tests.forward_server import listening

NOW_S = 1_793_500_000
ID = bytes(range(16))
CLICK = {
    "kind": "click",
    "outcome": "accepted",
    "issued_s": NOW_S - 5,
    "id": ID.hex(),
    "line_item_id": 70_001,
    "creative_id": 80_001,
    "site_id": 9,
    "price_micros": 2_500_000,
    "flags": 2,
}
EXPECTED = Beacon(
    Kind.CLICK,
    Outcome.ACCEPTED,
    NOW_S,
    NOW_S - 5,
    ID,
    70_001,
    80_001,
    9,
    b"",
    0,
    2_500_000,
    0,
    2,
    "",
    "",
)
LOG = {
    "issued_s": NOW_S,
    "id": ID,
    "weight": 100,
    "generation": 7,
    "answers": [
        {"site_id": 9, "line_item_id": 70_001, "creative_id": 80_001},
        {"site_id": 9, "line_item_id": 0, "creative_id": 0},
    ],
}


LARGE = [dict.fromkeys(LOG["answers"][0], 2**63 - 1)]


def pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def converted(*records: object, tag: str = "adcore.beacon", time: object = NOW_S) -> Converted:
    return convert(Chunk(tag, "", [pack([time, record]) for record in records]))


def beacons(frames: bytes) -> list[Beacon]:
    found = list(Frames(frames))
    assert [frame.sequence for frame in found] == list(range(1, len(found) + 1))
    assert {frame.kind for frame in found} <= {RECORD_BEACON}
    return [msgspec.msgpack.decode(frame.record, type=Beacon) for frame in found]


# -- what a record becomes


def test_a_record_becomes_a_beacon():
    found = converted(CLICK)
    assert found == Converted(found.frames, 1, 0, "")
    assert beacons(found.frames) == [EXPECTED]
    assert walk(found.frames, 0) == 1


def test_every_field_of_a_beacon_can_be_given():
    full = Beacon(
        kind=4,
        outcome=4,
        received_s=NOW_S - 1,
        issued_s=NOW_S - 9,
        id=ID,
        line_item_id=2**63 - 1,
        creative_id=1,
        site_id=1,
        placement=b"12345678",
        lease=2**63 - 1,
        price_micros=PRICE_MICROS_MAX,
        event=2**32 - 1,
        flags=255,
        network="198.51.100.0",
        user_agent="curl/8",
        value_micros=10**12,
        order=b"an order",
        click_lookback_s=86_400,
        view_lookback_s=3600,
    )
    (found,) = beacons(converted({f: getattr(full, f) for f in Beacon.__struct_fields__}).frames)
    assert found == full


def test_a_record_becomes_a_decision():
    (frame,) = Frames(converted(LOG, tag="adcore.decision").frames)
    assert frame.kind == RECORD_DECISION
    assert msgspec.msgpack.decode(frame.record, type=Decision) == Decision(
        0, 0, NOW_S, NOW_S, ID, 100, 7, [Answered(9, 70_001, 80_001), Answered(9, 0, 0)]
    )


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"kind": "impression"}, "kind", 1),
        ({"kind": 1}, "kind", 1),
        ({"outcome": 3}, "outcome", Outcome.PREFETCH),
        ({"outcome": "expired"}, "outcome", Outcome.EXPIRED),
        ({"flags": 1}, "outcome", Outcome.PREVIEW),
        ({"flags": 1, "outcome": "head"}, "outcome", Outcome.HEAD),
        ({"id": ID}, "id", ID),
        ({"id": ID.hex().upper()}, "id", ID),
        ({"placement": "00ff00ff00ff00ff"}, "placement", b"\0\xff" * 4),
        ({"order": "c0ffee"}, "order", b"\xc0\xff\xee"),
        ({"received_s": NOW_S - 7}, "received_s", NOW_S - 7),
        ({"network": "198.51.100.77"}, "network", "198.51.100.0"),
        ({"network": "2001:db8:aaaa:bbbb::1"}, "network", "2001:db8:aaaa::"),
        ({"user_agent": "a\r\n\x1b[31mé"}, "user_agent", "a\\r\\n\\x1b[31m\\xe9"),
        ({"user_agent": "x" * 600}, "user_agent", "x" * 512),
        ({"whatever": [{"else": None}]}, "site_id", 9),
    ],
)
def test_a_field_is_read_in_each_of_its_forms(given, field, value):
    (found,) = beacons(converted({**CLICK, **given}).frames)
    assert getattr(found, field) == value


@pytest.mark.parametrize(
    "time", [NOW_S, NOW_S + 0.9, EventTime(NOW_S, 5), [NOW_S, {}], [EventTime(NOW_S, 0), {"a": 1}]]
)
def test_a_time_is_read_in_each_of_its_forms(time):
    entry = b"\x92" + packed_time(time) + pack(CLICK)
    assert beacons(convert(Chunk("adcore.beacon", "", [entry])).frames) == [EXPECTED]


def packed_time(time: object) -> bytes:
    if isinstance(time, EventTime):
        return b"\xd7\x00" + time.data
    if isinstance(time, list):
        return b"\x92" + packed_time(time[0]) + pack(time[1])
    return pack(time)


# -- what is counted


BROKEN = [
    *(
        {name: value for name, value in CLICK.items() if name != missing}
        for missing in CLICK
        if missing != "site_id"  # which a request need not say
    ),
    *(
        CLICK | change
        for change in (
            {"kind": "view"},
            {"kind": 0},
            {"kind": 5},
            {"outcome": "bad_token"},
            {"outcome": 16},
            {"id": ID[:15]},
            {"id": ID.hex()[:-1]},
            {"id": "x" * 32},
            {"id": " " * 32},
            {"id": ""},
            {"id": 5},
            {"placement": "00"},
            {"placement": b"123456789"},
            {"order": bytes(33)},
            {"line_item_id": 0},
            {"site_id": -1},
            {"line_item_id": 1 << 63},
            {"line_item_id": -1},
            {"line_item_id": 1.5},
            {"line_item_id": "70001"},
            {"price_micros": -1},
            {"price_micros": PRICE_MICROS_MAX + 1},
            {"value_micros": 10**12 + 1},
            {"issued_s": 0},
            {"issued_s": 1 << 40},
            {"issued_s": float(NOW_S)},
            {"received_s": -5},
            {"flags": 256},
            {"event": 1 << 32},
            {"network": "example.com"},
            {"network": "x" * 65},
            {"click_lookback_s": 1 << 40},
        )
    ),
    5,
    None,
    "text",
    [],
    [CLICK],
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_record_is_counted_and_its_neighbours_are_kept(broken):
    found = converted(CLICK, broken, CLICK)
    assert found[1:] == (2, 1, UNREADABLE)
    assert beacons(found.frames) == [EXPECTED, EXPECTED]


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\xc1",
        pack(5),
        pack([NOW_S]),
        pack([NOW_S, CLICK, 5]),
        pack([None, CLICK]),
        pack([0, CLICK]),
        pack([float("nan"), CLICK]),
        pack([float("inf"), CLICK]),
        b"\x92\xd7\x01" + struct.pack(">II", NOW_S, 0) + pack(CLICK),
        b"\x92\xd6\x00" + struct.pack(">I", NOW_S) + pack(CLICK),
        pack([NOW_S, CLICK])[:-1],
        pack([NOW_S, CLICK]) + b"\x00",
        b"\x92\x01" + b"\x91" * 100_000,
        b"\x92\x01\x81\xa1a" + b"\x91" * 100_000 + b"\x00",
        pack([NOW_S, {"a": 1}]).replace(b"\xa1a", b"\xa1\xff"),
    ],
)
def test_an_entry_that_is_none_is_counted(entry):
    found = convert(Chunk("adcore.beacon", "", [pack([NOW_S, CLICK]), entry]))
    assert found[1:] == (1, 1, UNREADABLE)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        LOG | {"weight": 0},
        LOG | {"answers": [{}]},
        LOG | {"answers": [[9, 0, 0]]},
        LOG | {"answers": LARGE * 5000},  # too large for a frame
        LOG | {"answers": LOG["answers"][1:] * 5001},
        LOG | {"generation": -1},
    ],
)
def test_a_broken_decision_is_counted(broken):
    assert converted(LOG, broken, tag="adcore.decision")[1:] == (1, 1, UNREADABLE)


@pytest.mark.parametrize(
    ("tag", "known"),
    [
        ("adcore.beacon", True),
        ("adcore.beacon.eu.west", True),
        ("adcore.decision", False),  # known, but the record is none
        ("adcore.beacons", None),
        ("adcore", None),
        ("", None),
        ("xadcore.beacon", None),
        ("nginx.access", None),
    ],
)
def test_a_tag_says_what_a_record_is(tag, known):
    found = converted(CLICK, CLICK, tag=tag)
    if known:
        assert found[1:] == (2, 0, "")
    else:
        assert found == (b"", 0, 2, UNKNOWN_TAG if known is None else UNREADABLE)


def test_frames_that_no_record_of_the_log_holds_are_refused(monkeypatch):
    monkeypatch.setattr(stock, "FRAMES_BYTES_MAX", len(converted(CLICK).frames))
    assert converted(CLICK).taken == 1
    with pytest.raises(ProtocolError, match="in frames"):
        converted(CLICK, CLICK)


@given(st.binary(max_size=20), st.integers(0, 10_000), st.integers(0, 255))
def test_no_entry_does_more_than_be_counted(noise, at, byte):
    entry = bytearray(pack([NOW_S, CLICK]))
    entry[at % len(entry)] = byte
    found = convert(Chunk("adcore.beacon", "", [bytes(entry), noise, bytes(entry)[: at % 40]]))
    assert found.taken + found.refused == 3
    assert len(beacons(found.frames)) == found.taken <= 1


# -- real clients, real sockets


@pytest.mark.parametrize("make", [FluentSender, AsyncSender])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_fluentds_python_client_is_understood(make, nanoseconds):
    time = NOW_S + 0.5 if nanoseconds else NOW_S
    with (
        listening(51) as (port, chunks),
        make("adcore", port=port, nanosecond_precision=nanoseconds) as sender,
    ):
        for number in range(50):
            assert sender.emit_with_time("beacon", time, CLICK | {"line_item_id": number + 1})
        assert sender.emit("other", {"message": "not ours"})
    assert len(chunks) == 51
    found = [converted_ for chunk in chunks for converted_ in beacons(convert(chunk).frames)]
    assert [beacon.line_item_id for beacon in found] == list(range(1, 51))
    assert {beacon.received_s for beacon in found} == {NOW_S}
    assert convert(chunks[-1]).reason == UNKNOWN_TAG


def test_what_the_python_client_held_back_comes_in_one_piece():
    """Its `bufmax` mode: messages one behind the other, once the server is there."""
    with listening(21) as (port, chunks):
        sender = FluentSender("adcore", port=1)  # nobody is there
        for _ in range(20):
            assert not sender.emit_with_time("beacon", NOW_S, CLICK)
        sender.port = port
        assert sender.emit_with_time("beacon", NOW_S, CLICK)
        sender.close()
    assert [convert(chunk).taken for chunk in chunks] == [1] * 21


@pytest.mark.parametrize("compressed", [False, True])
def test_a_packed_chunk_is_acked(compressed):
    packed = b"".join(pack([NOW_S, record]) for record in (CLICK, {"no": "beacon"}, CLICK))
    option = {"chunk": "c1", "size": 3}
    if compressed:
        packed, option = gzip.compress(packed), option | {"compressed": "gzip"}

    async def send(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(pack(["adcore.beacon.eu", packed, option]))
        ack = await asyncio.wait_for(reader.readexactly(len(encode_chunk_ack("c1"))), 10)
        writer.close()
        await writer.wait_closed()
        return ack

    with listening(1) as (port, chunks):
        assert asyncio.run(send(port)) == encode_chunk_ack("c1")
    assert [convert(chunk)[1:] for chunk in chunks] == [(2, 1, UNREADABLE)]
