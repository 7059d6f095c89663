"""What arriving costs an aggregator before it writes: a batch of ours, a stock shipper's chunk.

`test_bench_floor_*` time the least that the same work can be done with. Seeded, and results are
kept by checksum.
"""

import random
from zlib import crc32

import msgspec
import pytest
from crc32c import crc32c

from server.events.frames import Frame, pack
from server.events.records import RECORD_BEACON, Beacon
from server.ledger.fluent import Decoder, encode_request, parse_request
from server.ledger.receiver import Batch
from server.ledger.sender import BATCH_BYTES
from server.ledger.stock import convert

SEED = 42
RANDOM = random.Random(SEED)
NOW_S = 1_793_500_000
STOCK_RECORDS = 300
READ_BYTES = 16 << 10  # of a socket at once, at the least


def beacon() -> Beacon:
    return Beacon(
        kind=1,
        outcome=0,
        received_s=NOW_S,
        issued_s=NOW_S - 3,
        id=RANDOM.randbytes(16),
        line_item_id=RANDOM.randrange(1, 1 << 40),
        creative_id=RANDOM.randrange(1, 1 << 40),
        site_id=RANDOM.randrange(1, 1 << 20),
        placement=RANDOM.randbytes(8),
        lease=RANDOM.randrange(1 << 60),
        price_micros=2_500_000,
        event=0,
        flags=0,
        network="198.51.100.0",
        user_agent="Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36",
    )


def batch() -> Batch:
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < BATCH_BYTES:
        record = msgspec.msgpack.encode(beacon())
        pieces.append(pack(Frame(7, len(pieces) + 1, RECORD_BEACON, record)))
    return Batch("node_1.w1-0000000000000007", 0, len(pieces), b"".join(pieces))


BATCH = batch()
SENT = encode_request(BATCH)
RECORDS = b"".join(
    msgspec.msgpack.encode([NOW_S, {**msgspec.structs.asdict(beacon()), "kind": "impression"}])
    for _ in range(STOCK_RECORDS)
)
CHUNK = msgspec.msgpack.encode(["adcore.beacon", RECORDS, {"chunk": "c", "size": STOCK_RECORDS}])


def test_bench_floor_crc(benchmark):
    benchmark(crc32c, BATCH.frames)


@pytest.mark.parametrize("read_bytes", [len(SENT), READ_BYTES], ids=["whole", "16KB-reads"])
def test_bench_batch(benchmark, read_bytes):
    """Split off, verified and read."""
    decoder = Decoder(parse_request)
    pieces = [SENT[start : start + read_bytes] for start in range(0, len(SENT), read_bytes)]

    def read():
        return [request for piece in pieces for request in decoder.feed(piece)]

    (found,) = benchmark(read)
    assert found == BATCH
    benchmark.extra_info["checksum"] = crc32(found.frames)
    benchmark.extra_info["events"] = BATCH.last


def test_bench_floor_stock_chunk(benchmark):
    """The same records read into maps, and nothing done with them."""
    whole = b"\xdc" + STOCK_RECORDS.to_bytes(2, "big") + RECORDS
    assert len(benchmark(msgspec.msgpack.decode, whole)) == STOCK_RECORDS


def test_bench_stock_chunk(benchmark):
    """300 records split off, read, checked, and packed into frames."""
    decoder = Decoder(parse_request)

    def read():
        return [convert(chunk) for chunk in decoder.feed(CHUNK)]

    (found,) = benchmark(read)
    assert (found.taken, found.refused) == (STOCK_RECORDS, 0)
    benchmark.extra_info["checksum"] = crc32(found.frames)
