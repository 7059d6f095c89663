"""A frame: one record on the way from a server's disk to the ledger, and its number.

A spool segment, and a batch on its way to an aggregator, are nothing but frames, big-endian:

    0        4        8                16               24     25
    +--------+--------+----------------+----------------+------+--------------------+
    | length |  CRC   |     epoch      |    sequence    | kind | record             |
    |  u32   |  u32   |      u64       |      u64       |  u8  | length - 17 bytes  |
    +--------+--------+----------------+----------------+------+--------------------+

- length counts the bytes after the CRC, at least 17, so a hole of zeros is no frame.
- CRC is CRC-32C over the length's four bytes and all bytes after the CRC.
- sequence starts at 1 with each epoch and grows by 1 a frame.
- kind says what the record is: see `records`.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

RECORD_BYTES_MAX: Final = 64 << 10  # a beacon takes 300 B; a length beyond it is a fault, no frame

PREFIX: Final = struct.Struct(">II")
BODY: Final = struct.Struct(">QQB")
_LENGTH: Final = struct.Struct(">I")


class Frame(NamedTuple):
    epoch: int
    sequence: int
    kind: int
    record: bytes


def pack(frame: Frame) -> bytes:
    body = BODY.pack(frame.epoch, frame.sequence, frame.kind) + frame.record
    return PREFIX.pack(len(body), _crc(body)) + body


class Frames:
    """Iterates over the whole frames of `content`, from the offset `start`.

    Afterwards `end` is the offset behind the last whole frame, and `torn` says why reading stopped
    there, or is empty at the end of the content. A segment still being written may be torn for a
    moment.
    """

    def __init__(self, content: bytes, start: int = 0) -> None:
        self._content = content
        self.end = start
        self.torn = ""

    def __iter__(self) -> Iterator[Frame]:
        content = self._content
        while (rest := len(content) - self.end) > 0:
            if rest < PREFIX.size:
                self.torn = "cut inside a prefix"
                return
            length, crc = PREFIX.unpack_from(content, self.end)
            if not BODY.size <= length <= BODY.size + RECORD_BYTES_MAX:
                self.torn = "impossible length"
                return
            start = self.end + PREFIX.size
            body = content[start : start + length]
            if len(body) < length:
                self.torn = "cut inside a frame"
                return
            if _crc(body) != crc:
                self.torn = "wrong CRC"
                return
            self.end = start + length
            epoch, sequence, kind = BODY.unpack_from(body)
            yield Frame(epoch, sequence, kind, body[BODY.size :])


def _crc(body: bytes) -> int:
    return crc32c(body, crc32c(_LENGTH.pack(len(body))))
