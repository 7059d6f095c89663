"""Counts stay exact when Redis's own log is torn inside a transaction, and loaded twice."""

import time
from pathlib import Path

import pytest
import redis

from server.families import COUNTER
from server.ledger import count
from server.ledger.applier import Applier
from server.ledger.count import Counting
from server.ledger.folder import DiskFolder
from server.ledger.intake import Intake
from server.ledger.receiver import Receiver
from server.ledger.wal import Shipped, durable_mark, encode, log_id, recover
from server.metrics import Metrics
from server.store import Keyspace, connect
from server.store.buckets import hour
from server.store.counts import TORN, CountsStore, shards
from tests.drill.cluster import RedisPair
from tests.drill.producer import record_of
from tests.drill.truth import IMPRESSION, Row

pytestmark = pytest.mark.plain

NOW_S = 1_793_500_000
LINES = 40
FIELD = b"%d.1.1.impressions"


@pytest.fixture
def pair(tmp_path_factory):
    pair = RedisPair(tmp_path_factory.mktemp("r"))
    yield pair
    pair.end()


def frames_of(first: int) -> bytes:
    from server.events.frames import Frame, pack

    rows = [
        Row(number.to_bytes(16, "big"), IMPRESSION, 0, 0, 0, line, 1, 1, NOW_S - 60, 5)
        for line, number in enumerate(range(first, first + LINES))
    ]
    return b"".join(pack(Frame(1, first + at, 1, record_of(row)[0])) for at, row in enumerate(rows))


class Log:
    """A log that grows by one impression of each line item at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = DiskFolder(folder / "wal")
        self.state = DiskFolder(folder / "state")
        wal = recover(self.folder).wal
        self._intake = Intake(wal, Receiver(None), "ab" * 16, NOW_S * 1000)
        self.rounds = 0

    def grow(self) -> None:
        first = 1 + self.rounds * LINES
        body = Shipped(NOW_S * 1000, "w1-0000000000000001", first + LINES - 1, frames_of(first))
        self._intake.put(encode(body), lambda: None)
        self._intake.write(self._intake.swap(NOW_S * 1000))
        self.rounds += 1

    def applier(self, store: CountsStore) -> Applier:
        return Applier(self.folder, self.state, store, log_id(self.folder))

    def count(self, applier: Applier) -> None:
        while applier.advance(durable_mark(self.folder)):
            pass

    def is_exact(self, store: CountsStore) -> bool:
        ((_, _, fields),) = store.read(store.hours())
        return all(fields[FIELD % line] == self.rounds for line in range(LINES))


def restart(pair: RedisPair) -> CountsStore:
    pair.restart()
    return CountsStore(connect(pair.url), Keyspace(), 0)


@pytest.mark.parametrize("tail_bytes", [200, 1500])
def test_half_a_transaction_is_found_out_and_mended(tmp_path, pair, tail_bytes):
    log = Log(tmp_path)
    store = CountsStore(connect(pair.url), Keyspace(), 0)
    applier = log.applier(store)
    for _ in range(3):
        log.grow()
        log.count(applier)
    time.sleep(1.1)  # Redis's log is on the disk
    pair.kill()
    pair.truncate(tail_bytes)
    store = restart(pair)
    log.grow()
    log.count(applier)
    assert log.is_exact(store)
    time.sleep(1.1)
    pair.kill()
    store = restart(pair)  # which runs the half that the first start had left in the file
    assert store.cursor() == TORN
    assert not log.is_exact(store)
    log.grow()
    log.count(applier)
    assert log.is_exact(store)
    assert applier.rebuilds == 2
    assert store.cursor() != TORN


def test_who_starts_on_torn_counts_makes_them_again(tmp_path, pair):
    log = Log(tmp_path)
    store = CountsStore(connect(pair.url), Keyspace(), 0)
    log.grow()
    log.count(log.applier(store))
    client: redis.Redis = connect(pair.url)
    client.hincrby(Keyspace().count_transactions(0), "begun", 1)
    client.hincrby(Keyspace().count_bucket(0, hour((NOW_S - 60) // 3600)), FIELD % 1, 7)
    applier = log.applier(store)
    log.count(applier)
    assert log.is_exact(store)
    assert applier.rebuilds == 1


def test_readers_hear_of_a_shard_again_when_redis_lost_all(tmp_path, pair, monkeypatch):
    log = Log(tmp_path)
    log.grow()
    client = connect(pair.url)
    store = CountsStore(client, Keyspace(), 3)
    counting = Counting(tmp_path, store, Metrics(tmp_path, COUNTER))
    for _ in range(5):
        counting.step()
    assert shards(client, Keyspace()) == [3]
    client.flushall()
    monkeypatch.setattr(count, "CHECK_S", 0)  # nothing more comes, and it is found out all the same
    for _ in range(5):
        counting.step()
    assert shards(client, Keyspace()) == [3]
    assert log.is_exact(store)
