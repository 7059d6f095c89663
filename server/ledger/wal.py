"""The write-ahead log: what has been acked is here, and everything else follows from it.

`{lsn:016x}.wal` holds records one behind the other; its name is the LSN, the byte position in the
whole log, of its first one. Big-endian:

    0        4        8               16                24
    +--------+--------+----------------+----------------+----------------+
    | length |  CRC   |      LSN       |    durable     |      body      |
    |  u32   |  u32   |      u64       |      u64       |  length - 16 B |
    +--------+--------+----------------+----------------+----------------+

- length counts the bytes after the CRC; CRC is CRC-32C over the length and those bytes.
- LSN is where the record begins, so that no record is ever taken for one of another place.
- durable is the LSN up to which all was on the disk when this was written.
- body is one of the Structs below, in msgpack.

What a crash tears off the end was never acked, and is cut away. A fault before the last place known
to be durable is no torn end but a broken disk: then we refuse to start.
"""

import struct
from collections.abc import Iterator
from itertools import zip_longest
from typing import Final, NamedTuple

import msgspec
from crc32c import crc32c
from msgspec import Struct

from server.errors import LedgerError
from server.ledger.folder import Folder, Readable

SEGMENT_BYTES_MAX: Final = 64 << 20  # some 300,000 events: what a counter reads again in a second
BODY_BYTES_MAX: Final = 4 << 20  # a batch has 1 MiB at most, an Opened 60 B for each producer
READ_BYTES: Final = 4 << 20

_HEAD = struct.Struct(">IIQQ")
_AFTER_CRC = 16
_CRC_FROM = 8
_MARK = struct.Struct(">QI")
_SUFFIX = ".wal"
_MARK_NAME = "durable"

Watermarks = dict[str, tuple[int, int]]
"""By stream: the number of the last frame taken, and when that was."""


class Opened(Struct, tag=1, array_like=True, frozen=True, gc=False):
    """A segment's first record: what the receiver knew, so that no older segment is needed."""

    wal_id: str
    written_ms: int
    watermarks: Watermarks
    chunks: list[str]


class Shipped(Struct, tag=2, array_like=True, frozen=True, gc=False):
    """A batch from one of our forwarders."""

    written_ms: int
    stream: str
    last: int  # the number of the last frame
    frames: bytes


class Received(Struct, tag=3, array_like=True, frozen=True, gc=False):
    """A chunk from a stock shipper, its records turned into frames numbered from 1."""

    written_ms: int
    chunk: str  # empty when its sender asks for no ack
    frames: bytes


class Ticked(Struct, tag=4, array_like=True, frozen=True, gc=False):
    """Nothing but the time, so that what waits for it need not wait for traffic."""

    written_ms: int


Body = Opened | Shipped | Received | Ticked
encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Body).decode


class Record(NamedTuple):
    lsn: int
    end: int  # the LSN of what comes next
    durable: int
    body: bytes


# -- writing ---------------------------------------------------------------------------------------


class Wal:
    """The one writer of a log. `end` is what is written, `durable` what is certain.

    An OSError leaves it useless: the process must end, and `recover` finds out what is true.
    """

    def __init__(
        self, folder: Folder, end: int, segment: int | None, segment_bytes_max: int
    ) -> None:
        self.end = self.durable = end
        self._folder = folder
        self._segment = segment  # the LSN that names it; None before the first one
        self._segment_bytes_max = segment_bytes_max
        self._new_name = False

    @property
    def is_new(self) -> bool:
        """Whether the log has no segment yet: it needs one before anything is appended."""
        return self._segment is None

    @property
    def wants_segment(self) -> bool:
        """Whether the newest segment is full."""
        return self._segment is None or self.end - self._segment >= self._segment_bytes_max

    def open_segment(self, opened: Opened) -> None:
        if self._segment is not None:
            self.sync()  # only one segment is ever unsynced
        self._segment = self.end
        self._new_name = True
        self.append([encode(opened)])

    def append(self, bodies: list[bytes]) -> None:
        """Write them, in one go."""
        assert self._segment is not None
        pieces = []
        lsn = self.end
        for body in bodies:
            pieces.append(_record(lsn, self.durable, body))
            lsn += len(pieces[-1])
        self._folder.append(segment_name(self._segment), b"".join(pieces))
        self.end = lsn

    def sync(self) -> None:
        """Return when all that is written is on the disk."""
        assert self._segment is not None
        end = self.end
        self._folder.sync(segment_name(self._segment))
        if self._new_name:
            self._folder.mark(_MARK_NAME, _mark(self.durable))  # so that its name is certain too
            self._folder.sync_names()
            self._new_name = False
        self.durable = end
        self._folder.mark(_MARK_NAME, _mark(end))


def _record(lsn: int, durable: int, body: bytes) -> bytes:
    length = len(body) + _AFTER_CRC
    head = _HEAD.pack(length, 0, lsn, durable)
    crc = crc32c(body, crc32c(head[_CRC_FROM:], crc32c(head[:4])))
    return _HEAD.pack(length, crc, lsn, durable) + body


def _mark(lsn: int) -> bytes:
    return _MARK.pack(lsn, crc32c(lsn.to_bytes(8, "big")))


# -- reading ---------------------------------------------------------------------------------------


def segments(folder: Readable) -> list[int]:
    """The LSNs that segments begin at, in order."""
    return [
        int(name.removesuffix(_SUFFIX), 16) for name in folder.names() if name.endswith(_SUFFIX)
    ]


def log_id(folder: Readable) -> str:
    """Name the log: what its first segment that is left was opened with."""
    known = segments(folder)
    first = next(_records(folder, known[0], known[0]), None) if known else None
    opened = decode(first.body) if first else None
    if not isinstance(opened, Opened):
        raise LedgerError("the log does not begin as a segment")
    return opened.wal_id


def segment_name(lsn: int) -> str:
    return f"{lsn:016x}{_SUFFIX}"


def durable_mark(folder: Readable) -> int:
    """Up to where the writer has said that all is certain; 0 if it never did."""
    try:
        raw = folder.read(_MARK_NAME)
    except FileNotFoundError:
        return 0
    if len(raw) != _MARK.size:
        return 0
    lsn, _ = _MARK.unpack(raw)
    return lsn if raw == _mark(lsn) else 0


def read(folder: Readable, start: int, until: int) -> Iterator[Record]:
    """Give every record in [start, until); LedgerError when one of them is not there or broken."""
    at = start
    for segment, following in _pairs(segments(folder)):
        if following is not None and following <= at:
            continue
        if segment > at:
            break
        for record in _records(folder, segment, at):
            if record.lsn >= until:
                return
            yield record
            at = record.end
        if at >= until:
            return
        if following != at:
            break
    if at < until:
        raise LedgerError(f"the log is broken or lost at LSN {at}; it should reach {until}")


def _records(folder: Readable, segment: int, start: int) -> Iterator[Record]:
    """Whole records of a segment from the LSN `start`, up to the first that is not."""
    name = segment_name(segment)
    at = start
    rest = b""
    while piece := folder.read(name, at - segment + len(rest), READ_BYTES):
        rest += piece
        used = 0
        while (record := _whole(rest, used, at)) is not None:
            yield record
            used += record.end - record.lsn
            at = record.end
        rest = rest[used:]
        if len(rest) > _HEAD.size + BODY_BYTES_MAX:
            return


def _whole(content: bytes, offset: int, lsn: int) -> Record | None:
    if len(content) - offset < _HEAD.size:
        return None
    length, crc, said_lsn, durable = _HEAD.unpack_from(content, offset)
    end = offset + _CRC_FROM + length
    if said_lsn != lsn or end > len(content) or length < _AFTER_CRC:
        return None
    head = content[offset : offset + _HEAD.size]
    body = content[offset + _HEAD.size : end]
    if crc32c(body, crc32c(head[_CRC_FROM:], crc32c(head[:4]))) != crc:
        return None
    return Record(lsn, lsn + _CRC_FROM + length, durable, body)


def _pairs(firsts: list[int]) -> Iterator[tuple[int, int | None]]:
    return zip_longest(firsts, firsts[1:])


# -- starting --------------------------------------------------------------------------------------


class Recovered(NamedTuple):
    wal: Wal
    opened: Opened | None  # the newest segment's first record; None in a new log
    records: list[Record]  # what came after it
    cut_bytes: int


def recover(folder: Folder, segment_bytes_max: int = SEGMENT_BYTES_MAX) -> Recovered:
    """Open the log for writing: cut off its torn end, and make what is left certain.

    LedgerError when what was certain once is not there any more.
    """
    cut = 0
    while known := segments(folder):
        last = known[-1]
        found = list(_records(folder, last, last))
        end = found[-1].end if found else last
        torn = last + folder.size(segment_name(last)) - end
        _refuse_lost(folder, known, end)
        if found:
            break
        # A crash came between the file and its first record.
        folder.remove(segment_name(last))
        folder.sync_names()
        cut += torn
    else:
        _refuse_lost(folder, [], 0)
        return Recovered(Wal(folder, 0, None, segment_bytes_max), None, [], cut)
    if torn:
        folder.truncate(segment_name(last), end - last)
    # The page cache may hold what a killed writer never synced: it is ours to vouch for now.
    folder.sync(segment_name(last))
    folder.mark(_MARK_NAME, _mark(durable_mark(folder)))  # lost, maybe, and then to be kept
    folder.sync_names()
    folder.mark(_MARK_NAME, _mark(end))
    opened = decode(found[0].body)
    if not isinstance(opened, Opened):
        raise LedgerError(f"{segment_name(last)} does not begin as a segment")
    return Recovered(Wal(folder, end, last, segment_bytes_max), opened, found[1:], cut + torn)


def _refuse_lost(folder: Folder, known: list[int], end: int) -> None:
    """Refuse an end before what the mark, or a record further on, calls certain."""
    certain = durable_mark(folder)
    if known:
        certain = max(certain, _later_claim(folder, known[-1], end))
    if end < certain:
        raise LedgerError(
            f"the log was certain up to LSN {certain} and is whole only up to {end}: "
            "the disk lost or changed what was acked"
        )


def _later_claim(folder: Folder, segment: int, end: int) -> int:
    """Look behind a fault for whole records, and give the most that one of them calls certain."""
    content = folder.read(segment_name(segment), end - segment)
    certain = 0
    for offset in range(1, len(content) - _HEAD.size + 1):
        # A record says where it is, which a scan of other bytes hits once in 2^64.
        if content[offset + 8 : offset + 16] == (end + offset).to_bytes(8, "big"):
            record = _whole(content, offset, end + offset)
            if record is not None:
                certain = max(certain, record.durable)
    return certain
