"""What stock shippers bring, turned into our frames.

A record is a map with the names of `Beacon`'s or `Decision`'s fields. Kind and outcome may be names
("click", "accepted"), ids hex; unknown names are passed over. What decides money has no default.
The tag says which of the two a record is: `adcore.beacon`, `adcore.decision`, or either with
anything behind a further dot.

A shipper that keeps sending what can't be read is counted and acked: its chunk holds good records
too, and a refused one would be sent for ever.
"""

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.msgpack import Ext

from adcore.limits import PLACEMENTS_MAX, WINNERS_MAX
from server.errors import ProtocolError
from server.events.frames import RECORD_BYTES_MAX, Frame, pack
from server.events.privacy import cut_ip, cut_user_agent
from server.events.records import (
    PREVIEW,
    RECORD_BEACON,
    RECORD_DECISION,
    Answered,
    Beacon,
    Decision,
    Kind,
    Outcome,
)
from server.ledger.fluent import BIN, I64_MAX, Chunk, payload
from server.ledger.wal import BODY_BYTES_MAX

UNKNOWN_TAG: Final = "unknown_tag"
UNREADABLE: Final = "unreadable"
REFUSALS: Final = (UNKNOWN_TAG, UNREADABLE)

FRAMES_BYTES_MAX: Final = (
    BODY_BYTES_MAX - 4096
)  # a record of the log holds them and the chunk's name
ID_BYTES: Final = 16
PLACEMENT_BYTES: Final = 8
ORDER_BYTES_MAX: Final = 32  # a digest's head, or all of it
# Nothing costs more than 10,000 of whatever the currency is, for one or for a thousand; the nanos
# of a million of them still fit a sum.
PRICE_MICROS_MAX: Final = 10_000_000_000
VALUE_MICROS_MAX: Final = 1_000_000_000_000  # a conversion may be a house
SECONDS_MIN: Final = 1_577_836_800  # 2020: what is before is a clock never set
SECONDS_MAX: Final = 4_102_444_800  # 2100
LOOKBACK_S_MAX: Final = 366 * 86_400
NAME_CHARS_MAX: Final = 64
WEIGHT_MAX: Final = 1_000_000  # a sample of one in a million
EVENT_TIME: Final = 0  # Fluentd's type of an ext: u32 seconds, u32 nanoseconds
EVENT_TIME_BYTES: Final = 8

_Id = Annotated[int, Meta(ge=1, le=I64_MAX)]
_IdOrNone = Annotated[int, Meta(ge=0, le=I64_MAX)]
_U32 = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Seconds = Annotated[int, Meta(ge=SECONDS_MIN, le=SECONDS_MAX)]
_Lookback = Annotated[int, Meta(ge=0, le=LOOKBACK_S_MAX)]
_Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
_Time = int | float | Ext
_ABSENT = Raw(b"\xa0")


class _Beacon(Struct, kw_only=True, gc=False):
    kind: int | str
    outcome: int | str
    received_s: _Seconds | None = None  # the entry's time
    issued_s: _Seconds
    id: Raw
    line_item_id: _Id
    creative_id: _Id
    site_id: _IdOrNone = 0
    placement: Raw = _ABSENT
    lease: Annotated[int, Meta(ge=0, le=I64_MAX)] = 0
    price_micros: Annotated[int, Meta(ge=0, le=PRICE_MICROS_MAX)]
    event: _U32 = 0
    flags: Annotated[int, Meta(ge=0, lt=1 << 8)]  # say what the price is for
    network: _Name = ""
    user_agent: str = ""
    value_micros: Annotated[int, Meta(ge=0, le=VALUE_MICROS_MAX)] = 0
    order: Raw = _ABSENT
    click_lookback_s: _Lookback = 0
    view_lookback_s: _Lookback = 0


class _Answered(Struct, gc=False):
    site_id: _IdOrNone
    line_item_id: _IdOrNone
    creative_id: _IdOrNone


class _Decision(Struct, kw_only=True, gc=False):
    received_s: _Seconds | None = None
    issued_s: _Seconds
    id: Raw
    weight: Annotated[int, Meta(ge=1, le=WEIGHT_MAX)]
    generation: _IdOrNone
    answers: Annotated[list[_Answered], Meta(max_length=PLACEMENTS_MAX * WINNERS_MAX)]


class _BeaconEntry(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    time: _Time | tuple[_Time, Raw]
    record: _Beacon


class _DecisionEntry(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    time: _Time | tuple[_Time, Raw]
    record: _Decision


class Converted(NamedTuple):
    frames: bytes  # numbered from 1
    taken: int
    refused: int
    reason: str  # of REFUSALS; empty when nothing was refused


def convert(chunk: Chunk) -> Converted:
    """Turn a chunk's entries into frames, and count those that can't be."""
    reader = _reader(chunk.tag)
    if reader is None:
        return Converted(b"", 0, len(chunk.entries), UNKNOWN_TAG)
    kind, read = reader
    frames: list[bytes] = []
    size = 0
    for entry in chunk.entries:
        try:
            record = read(entry)
        except _UNREADABLE:
            continue
        if len(record) > RECORD_BYTES_MAX:
            continue
        frames.append(pack(Frame(0, len(frames) + 1, kind, record)))
        size += len(frames[-1])
    if size > FRAMES_BYTES_MAX:
        raise ProtocolError("too_large", f"a chunk of {size} bytes in frames")
    refused = len(chunk.entries) - len(frames)
    return Converted(b"".join(frames), len(frames), refused, UNREADABLE if refused else "")


def _reader(tag: str) -> tuple[int, Callable[[bytes], bytes]] | None:
    for name, reader in _READERS.items():
        if tag == name or tag.startswith(name + "."):
            return reader
    return None


def _read_beacon(entry: bytes) -> bytes:
    found = _beacon_entry.decode(entry)
    record = found.record
    kind, outcome = _KINDS[record.kind], _OUTCOMES[record.outcome]
    if record.flags & PREVIEW and outcome == Outcome.ACCEPTED:
        outcome = Outcome.PREVIEW
    return _encode(
        Beacon(
            kind=kind,
            outcome=outcome,
            received_s=_seconds(record.received_s, found.time),
            issued_s=record.issued_s,
            id=_id(record.id),
            line_item_id=record.line_item_id,
            creative_id=record.creative_id,
            site_id=record.site_id,
            placement=_placement(record.placement),
            lease=record.lease,
            price_micros=record.price_micros,
            event=record.event,
            flags=record.flags,
            network=cut_ip(record.network),
            user_agent=cut_user_agent(record.user_agent),
            value_micros=record.value_micros,
            order=_order(record.order),
            click_lookback_s=record.click_lookback_s,
            view_lookback_s=record.view_lookback_s,
        )
    )


def _read_decision(entry: bytes) -> bytes:
    found = _decision_entry.decode(entry)
    record = found.record
    return _encode(
        Decision(
            kind=0,
            outcome=0,
            received_s=_seconds(record.received_s, found.time),
            issued_s=record.issued_s,
            id=_id(record.id),
            weight=record.weight,
            generation=record.generation,
            answers=[Answered(a.site_id, a.line_item_id, a.creative_id) for a in record.answers],
        )
    )


def _seconds(received_s: int | None, time: _Time | tuple[_Time, Raw]) -> int:
    """Give the record's own time, or else its entry's."""
    if received_s is not None:
        return received_s
    if isinstance(time, tuple):
        time = time[0]
    if isinstance(time, Ext):
        content = bytes(time.data)
        if time.code != EVENT_TIME or len(content) != EVENT_TIME_BYTES:
            raise ValueError("an ext that is no EventTime")
        time = int.from_bytes(content[:4], "big")
    if not SECONDS_MIN <= time <= SECONDS_MAX:
        raise ValueError("a time that can't be")
    return int(time)


def _id(value: Raw) -> bytes:
    content = _content(value)
    if len(content) != ID_BYTES:
        raise ValueError("an id of the wrong length")
    return content


def _placement(value: Raw) -> bytes:
    content = _content(value)
    if len(content) not in (0, PLACEMENT_BYTES):
        raise ValueError("a placement of the wrong length")
    return content


def _order(value: Raw) -> bytes:
    content = _content(value)
    if len(content) > ORDER_BYTES_MAX:
        raise ValueError("an order of the wrong length")
    return content


def _content(value: Raw) -> bytes:
    """Read bytes, given as a bin or in hex as a str."""
    content = payload(value)
    return content if memoryview(value)[0] in BIN else bytes.fromhex(content.decode("ascii"))


def _by_name_or_number(members: Iterable[IntEnum]) -> dict[int | str, int]:
    return {key: int(member) for member in members for key in (member.value, member.name.lower())}


_encode: Final = msgspec.msgpack.Encoder().encode
_beacon_entry: Final = msgspec.msgpack.Decoder(_BeaconEntry)
_decision_entry: Final = msgspec.msgpack.Decoder(_DecisionEntry)
_UNREADABLE: Final = (
    msgspec.MsgspecError,
    ValueError,  # no UTF-8, no hex, no address, or a number that is none
    LookupError,  # a kind or an outcome that is not ours
    RecursionError,
    ProtocolError,  # of `payload`
)
_KINDS: Final = _by_name_or_number(Kind)
_OUTCOMES: Final = _by_name_or_number(
    outcome
    for outcome in Outcome
    if outcome < Outcome.BAD_QUERY  # the others leave no frame
)
_READERS: Final = {
    "adcore.beacon": (RECORD_BEACON, _read_beacon),
    "adcore.decision": (RECORD_DECISION, _read_decision),
}
