"""The applier against a real Redis: wherever the counts are taken back to, they come out exact."""

from itertools import pairwise

import pytest
import redis

from server.errors import LedgerError, StoreError
from server.events.records import Kind
from server.ledger import applier as applying
from server.ledger import checkpoints, wal
from server.ledger.applier import Applier, Cursor
from server.store import Keyspace
from tests.shards import Shard, beacon
from tests.sim.oracle import counted


@pytest.fixture
def shard(tmp_path, redis_url):
    return Shard(tmp_path, redis_url, segment_bytes_max=300)


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def grow(shard, records=3):
    for _ in range(records):
        served = beacon()
        shard.write([served, served])
        shard.write([beacon(Kind.CLICK, id=served.id)])


def begin_again(shard):
    """As after a kill: nothing is known but what lies on the disk and in Redis."""
    shard.applier = Applier(shard.log, shard.state, shard.store, shard.wal_id)


def found(shard):
    return {hour: counts for hour, _, counts in shard.store.read(shard.store.hours())}


def expected(shard):
    bodies = [
        wal.decode(record.body) for record in wal.read(shard.log, 0, wal.durable_mark(shard.log))
    ]
    return counted((body.written_ms, getattr(body, "frames", b"")) for body in bodies)


def save_redis(client):
    return {key: client.dump(key) for key in client.scan_iter()}


def take_back(client, saved):
    """Have Redis hold what it held before, as after a failover to a replica that was behind."""
    client.flushall()
    for key, dumped in saved.items():
        client.restore(key, 0, dumped)


def assert_exact(shard):
    shard.count()
    assert found(shard) == expected(shard) != {}
    assert shard.store.cursor() == str(Cursor(shard.wal_id, wal.durable_mark(shard.log)))


def test_it_counts_what_the_log_holds_and_then_nothing_more(shard):
    grow(shard)
    assert_exact(shard)
    assert not shard.applier.advance(wal.durable_mark(shard.log))
    assert shard.applier.is_settled
    begin_again(shard)
    assert_exact(shard)


def test_small_steps_count_the_same(shard, monkeypatch):
    monkeypatch.setattr(applying, "STEP_BYTES", 1)
    grow(shard)
    assert_exact(shard)


def test_a_checkpoint_that_is_swept_away_beneath_it_is_done_without(shard):
    grow(shard)
    shard.count()
    shard.checkpoint()
    for name in shard.state.names():
        shard.state.remove(name)
    grow(shard)
    shard.count()
    with pytest.raises(LedgerError):
        shard.checkpoint()
    shard.applier.start_again()
    assert_exact(shard)
    shard.checkpoint()
    grow(shard)
    assert_exact(shard)


@pytest.mark.parametrize("saves", [False, True], ids=["no checkpoint", "a checkpoint"])
@pytest.mark.parametrize("restarts", [False, True], ids=["it runs", "it starts"])
def test_redis_goes_back(shard, client, saves, restarts):
    grow(shard)
    if saves:
        shard.checkpoint()
    grow(shard)
    shard.count()
    saved = save_redis(client)
    grow(shard)
    shard.count()
    take_back(client, saved)
    grow(shard)
    if restarts:
        begin_again(shard)
    assert_exact(shard)
    assert shard.applier.rewinds == 1


@pytest.mark.parametrize("saves", [False, True], ids=["no checkpoint", "a checkpoint"])
def test_redis_is_wiped(shard, client, saves):
    grow(shard)
    if saves:
        shard.checkpoint()
    grow(shard)
    shard.count()
    client.flushall()
    grow(shard)
    assert_exact(shard)
    assert shard.applier.rebuilds >= 1


def test_redis_is_wiped_while_it_is_filled_again(shard, client, monkeypatch):
    monkeypatch.setattr(applying, "FIELDS_MAX", 1)
    grow(shard)
    shard.checkpoint()
    client.flushall()
    grow(shard)
    for _ in range(3):
        shard.applier.advance(wal.durable_mark(shard.log))
    assert Cursor.parse(shard.store.cursor()).part > 0
    client.flushall()
    assert_exact(shard)


def test_a_start_in_the_middle_of_a_rebuild_begins_it_again(shard, client, monkeypatch):
    monkeypatch.setattr(applying, "FIELDS_MAX", 1)
    grow(shard)
    shard.checkpoint()
    client.flushall()
    begin_again(shard)
    for _ in range(3):
        shard.applier.advance(wal.durable_mark(shard.log))
    assert Cursor.parse(shard.store.cursor()).part > 0
    begin_again(shard)
    assert_exact(shard)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_step_of_unknown_outcome_is_counted_once(shard, monkeypatch, when):
    grow(shard, 1)
    shard.count()
    grow(shard, 1)
    apply = shard.store.apply

    def time_out(*arguments):
        if when == "after":
            apply(*arguments)
        raise StoreError("timed out")

    monkeypatch.setattr(shard.store, "apply", time_out)
    with pytest.raises(StoreError):
        shard.count()
    monkeypatch.undo()
    grow(shard, 1)
    assert_exact(shard)


def test_a_cursor_of_another_log_is_refused(shard, client):
    grow(shard)
    client.set(Keyspace().count_cursor(0), "another:0:0")
    with pytest.raises(LedgerError, match="give a new log a new shard"):
        shard.count()


def test_a_cursor_beyond_the_log_is_refused(shard, client):
    grow(shard)
    client.set(Keyspace().count_cursor(0), str(Cursor(shard.wal_id, 10**9)))
    with pytest.raises(LedgerError, match="it has lost what was acked"):
        shard.count()


def test_a_cursor_between_two_records_is_refused(shard, client):
    grow(shard)
    client.set(Keyspace().count_cursor(0), str(Cursor(shard.wal_id, 1)))
    with pytest.raises(LedgerError, match="where no record ends"):
        shard.count()


@pytest.mark.parametrize("text", ["nonsense", "a:b:c", "log0:1", "log0:-1:0", "log0:1:0:0"])
def test_a_cursor_that_is_none_is_refused(shard, client, text):
    client.set(Keyspace().count_cursor(0), text)
    with pytest.raises(LedgerError, match="none of ours"):
        shard.count()


def test_without_a_checkpoint_the_logs_beginning_is_missed(shard, client):
    grow(shard)
    shard.checkpoint()
    for lsn in wal.segments(shard.log)[:-1]:
        shard.log.remove(wal.segment_name(lsn))
    for name in shard.state.names():
        shard.state.remove(name)
    client.flushall()
    begin_again(shard)
    with pytest.raises(LedgerError, match="no checkpoint is left"):
        shard.count()


def test_a_checkpoint_stands_in_for_the_logs_beginning(shard, client):
    grow(shard)
    checkpoint = shard.checkpoint()
    counts = found(shard)
    firsts = wal.segments(shard.log)
    for lsn, following in pairwise(firsts):
        if following <= checkpoint.lsn:
            shard.log.remove(wal.segment_name(lsn))
    assert wal.segments(shard.log)[0] > 0
    client.flushall()
    begin_again(shard)
    shard.count()
    assert found(shard) == counts
    assert checkpoints.newest(shard.state, shard.wal_id) == checkpoint
