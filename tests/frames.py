"""Frames to test with: of one stream, by number, or one for each beacon."""

from server.events.frames import Frame, pack
from server.events.records import RECORD_BEACON
from server.ledger.wal import encode

STREAM = "n1.w1-00000000000000a7"


def frames(*numbers: int, record: bytes = b"beacon") -> bytes:
    return b"".join(pack(Frame(0xA7, number, RECORD_BEACON, record)) for number in numbers)


def framed(*beacons: object) -> bytes:
    return b"".join(
        pack(Frame(0xA7, number, RECORD_BEACON, encode(each)))
        for number, each in enumerate(beacons, 1)
    )
