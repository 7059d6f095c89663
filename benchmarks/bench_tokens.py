"""What tracking costs: signing twice a decision, verifying once a beacon, writing its frame.

`test_bench_floor_*` time the least that the same work can be done with; the others are to be read
against them. Seeded, and results are kept by checksum: a faster signer of other tokens is no
faster.
"""

import hashlib
import hmac
import os
import random
from zlib import crc32

import pytest

from server.delivery.conversions import Lookbacks
from server.delivery.datacentres import Ranges
from server.delivery.devices import DeviceReader
from server.delivery.http import Ask, GivenHeaders
from server.delivery.robots import Robots
from server.delivery.spool import Spool
from server.delivery.tokens import Keyring, Served, destination_digest, placement_digest
from server.delivery.tracking import Tracker
from server.events.records import Kind, Outcome

SEED = 42
RANDOM = random.Random(SEED)
SECRET = RANDOM.randbytes(32)
KEYRING = Keyring(SECRET, previous=RANDOM.randbytes(32), next_=RANDOM.randbytes(32))
NOW_S = 1_793_500_000
URL = "https://example.com/shoes"
DESTINATION = destination_digest(URL)
SERVED = Served(NOW_S, RANDOM.randbytes(16), 70_001, 80_001, 9, 2_500_000, placement_digest("top"))
CLICK, IMPRESSION = (token.decode() for token in KEYRING.sign_shown(SERVED, DESTINATION))
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/150.0.0.0 Safari/537.36"
)


def test_bench_floor_hmac(benchmark):
    benchmark(hmac.digest, SECRET, bytes(92), "sha256")


def test_bench_floor_sha256(benchmark):
    benchmark(lambda: hashlib.sha256(bytes(92)).digest())


def test_bench_sign_impression_and_click(benchmark):
    benchmark.extra_info["checksum"] = crc32(
        b"".join(benchmark(KEYRING.sign_shown, SERVED, DESTINATION))
    )


def test_bench_verify(benchmark):
    token = benchmark(KEYRING.verify, CLICK, Kind.CLICK)
    benchmark.extra_info["checksum"] = crc32(repr(token).encode())


def test_bench_floor_write(benchmark, tmp_path):
    fd = os.open(tmp_path / "floor", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    benchmark(os.write, fd, bytes(300))
    os.close(fd)


@pytest.mark.parametrize(("kind", "token"), [(Kind.IMPRESSION, IMPRESSION), (Kind.CLICK, CLICK)])
def test_bench_beacon(benchmark, tmp_path, kind, token):
    """From the request to the answer, a frame written."""
    outcomes = [0] * 32

    def count(kind: Kind, outcome: Outcome) -> None:
        outcomes[outcome] += 1

    spool = Spool(tmp_path / "spool", "w1", now_s=NOW_S, bytes_max=1 << 30)
    tracker = Tracker(
        KEYRING,
        spool,
        {SERVED.creative_id: URL}.get,
        lambda _: Lookbacks(),
        count,
        Robots(),
        Ranges(),
    )
    answer = tracker.impression if kind is Kind.IMPRESSION else tracker.click
    ask = Ask("GET", "/", f"e={token}", GivenHeaders([("user-agent", CHROME)]), "198.51.100.7")
    benchmark(answer, ask, "198.51.100.7", NOW_S)
    assert outcomes[Outcome.ACCEPTED] == sum(outcomes) > 0
    spool.close()


@pytest.fixture(scope="module")
def reader() -> DeviceReader:
    return DeviceReader()


def test_bench_device_cached(benchmark, reader):
    benchmark.extra_info["checksum"] = str(benchmark(reader.read, CHROME, "?0", '"Windows"'))


@pytest.mark.parametrize("user_agent", [CHROME, "Macintosh " * 51], ids=["browser", "worst"])
def test_bench_device_cold(benchmark, reader, user_agent):
    benchmark(reader._read, user_agent, None, None)
