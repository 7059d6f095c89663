"""Beacons as Parquet, one file for each hour of a segment, for whoever asks questions of their own.

A row is a beacon as it was logged: repeats and invalid ones too, nothing judged. Files lie by the
hour in which the ad was decided, UTC, as counts do. A beacon whose hour is absurd lies in the one
in which it was logged, so that a wrong clock can't make a million files.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from operator import attrgetter
from typing import Any, Final

import msgspec

from server.errors import ConfigError
from server.events.records import (
    PREVIEW,
    RATE_MASK,
    RATE_SHIFT,
    RATES,
    RECORD_BEACON,
    RECORD_DECISION,
    Beacon,
    Kind,
    Outcome,
)
from server.events.walking import split
from server.ledger import wal
from server.store.buckets import HOUR, SPANS

HOUR_S: Final = 3600
GROUP_ROWS: Final = 65_536  # a row group: some 10 MB of Python, 1 MB of Parquet
I64_MAX: Final = 2**63 - 1
MOMENT_S_MAX: Final = 253_402_300_799  # the year 9999, the last one that can be written as a date

Row = tuple[Any, ...]

_KINDS: Final = {kind.value: kind.name.lower() for kind in Kind}
_OUTCOMES: Final = {outcome.value: outcome.name.lower() for outcome in Outcome}


class Hours:
    """Files that are being filled, by hour."""

    def __init__(self, shard: int) -> None:
        self.skipped = 0  # beacons that no row can be made of
        self._shard = shard
        self._rows: dict[int, list[Row]] = {}

    def add(self, lsn: int, written_ms: int, frames: bytes) -> None:
        for kind, record in split(frames):
            if kind == RECORD_DECISION:
                continue
            try:
                beacon = _decode(record) if kind == RECORD_BEACON else None
            except msgspec.MsgspecError:
                beacon = None
            if beacon is None or not _fits(beacon):
                self.skipped += 1
                continue
            hour = beacon.issued_s // HOUR_S
            written_s = written_ms // 1000
            if not written_s - SPANS[HOUR].kept_s <= beacon.issued_s <= written_s + HOUR_S:
                hour = written_s // HOUR_S
            self._rows.setdefault(hour, []).append(_row(beacon, self._shard, lsn, written_ms))

    def files(self, lsn: int) -> Iterator[tuple[str, bytes]]:
        """Give each file's path and content, in order."""
        for hour, rows in sorted(self._rows.items()):
            moment = datetime.fromtimestamp(hour * HOUR_S, UTC)
            folder = f"events/date={moment:%Y-%m-%d}/hour={moment:%H}"
            yield f"{folder}/shard-{self._shard}-{lsn:016x}.parquet", _parquet(rows)


def hours(records: Iterable[wal.Record], shard: int) -> Hours:
    """Sort a segment's beacons into hours."""
    found = Hours(shard)
    for record in records:
        body = wal.decode(record.body)
        if isinstance(body, wal.Shipped | wal.Received):
            found.add(record.lsn, body.written_ms, body.frames)
    return found


def _fits(beacon: Beacon) -> bool:
    """Whether Parquet has room for its numbers; msgpack goes up to 2^64, and moments to no year."""
    return (
        0 <= beacon.issued_s <= MOMENT_S_MAX
        and 0 <= beacon.received_s <= MOMENT_S_MAX
        and max(_numbers(beacon)) <= I64_MAX
    )


def _row(beacon: Beacon, shard: int, lsn: int, written_ms: int) -> Row:
    """Give the values of `_schema`'s columns, in their order."""
    return (
        shard,
        lsn,
        written_ms,
        _KINDS.get(beacon.kind, str(beacon.kind)),
        _OUTCOMES.get(beacon.outcome, str(beacon.outcome)),
        beacon.received_s,
        beacon.issued_s,
        beacon.id.hex(),
        beacon.line_item_id,
        beacon.creative_id,
        beacon.site_id,
        beacon.placement.hex(),
        beacon.lease,
        beacon.price_micros,
        RATES[(beacon.flags >> RATE_SHIFT) & RATE_MASK],
        bool(beacon.flags & PREVIEW),
        beacon.event,
        beacon.network,
        beacon.user_agent,
        beacon.value_micros,
        beacon.order.hex(),
        beacon.click_lookback_s,
        beacon.view_lookback_s,
    )


def _schema(pyarrow: Any) -> Any:
    number, text = pyarrow.int64(), pyarrow.string()
    second, millisecond = pyarrow.timestamp("s", "UTC"), pyarrow.timestamp("ms", "UTC")
    return pyarrow.schema(
        [
            ("shard", pyarrow.int32()),
            ("lsn", number),
            ("logged_at", millisecond),
            ("kind", text),
            ("outcome", text),
            ("received_at", second),
            ("issued_at", second),
            ("id", text),
            ("line_item_id", number),
            ("creative_id", number),
            ("site_id", number),
            ("placement", text),
            ("lease", number),
            ("price_micros", number),
            ("rate", text),
            ("preview", pyarrow.bool_()),
            ("event", number),
            ("network", text),
            ("user_agent", text),
            ("value_micros", number),
            ("order", text),
            ("click_lookback_s", number),
            ("view_lookback_s", number),
        ]
    )


def _parquet(rows: list[Row]) -> bytes:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise ConfigError("an archive needs pyarrow: pip install 'adcore[archive]'") from None
    schema = _schema(pyarrow)
    out = BytesIO()
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        for start in range(0, len(rows), GROUP_ROWS):
            group = zip(*rows[start : start + GROUP_ROWS], strict=True)
            arrays = [
                pyarrow.array(values, field.type)
                for values, field in zip(group, schema, strict=True)
            ]
            writer.write_table(pyarrow.table(arrays, schema=schema))
    return out.getvalue()


_numbers: Final = attrgetter(
    *(field.name for field in msgspec.structs.fields(Beacon) if field.type is int)
)
_decode: Final = msgspec.msgpack.Decoder(Beacon).decode
