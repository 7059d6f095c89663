"""Redis has what the log says: counted on, counted again, or built anew, with real Redis."""

from random import Random

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import LedgerError, StoreError
from server.events.records import Kind
from server.ledger import applier as applying
from server.ledger import checkpoints, wal
from server.ledger.applier import Applier, Cursor, _parts
from server.store import Keyspace, connect
from server.store.buckets import EVER, Bucket, Spent, hour, quarter, window
from server.store.counts import CountsStore, summed
from tests.shards import HOUR_S, NOON_S, Shard, beacon
from tests.sim.redis_twin import RedisTwin

pytestmark = pytest.mark.process

NOON = NOON_S // HOUR_S
KEYS = Keyspace()
HOUR_KEY = KEYS.count_bucket(0, hour(NOON))


@pytest.fixture
def shard(redis_url, tmp_path):
    return Shard(tmp_path / "shard", redis_url)


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def impressions(shard: Shard) -> int:
    hours = shard.store.read(shard.store.hours())
    return sum(fields[b"40.50.10.impressions"] for _, _, fields in hours)


def counts_of(shard: Shard) -> list[tuple[Bucket, dict[bytes, int]]]:
    return [(each, counts) for each, _, counts in shard.store.read_buckets(shard.store.buckets())]


def restart(shard: Shard) -> None:
    shard.applier = Applier(shard.log, shard.state, shard.store, shard.wal_id)


def test_nothing_is_done_while_nothing_is_written(shard):
    shard.count()
    assert shard.applier.is_settled
    assert not shard.applier.advance(wal.durable_mark(shard.log))


def test_counts_go_on(shard, client):
    for expected in (2, 4):
        shard.write([beacon(), beacon()])
        shard.count()
        assert impressions(shard) == expected
    assert shard.store.cursor() == f"log0:{wal.durable_mark(shard.log)}:0"
    assert client.smembers(KEYS.count_shards) == {b"0"}
    assert 62 * 86_400 < client.ttl(HOUR_KEY) <= 62 * 86_400 + 600


def test_no_more_than_what_is_certain_is_counted(shard):
    shard.write([beacon()])
    until = wal.durable_mark(shard.log)
    shard.write([beacon()])
    while shard.applier.advance(until):
        pass
    assert impressions(shard) == 1
    assert shard.applier.lsn == until


def test_a_restart_counts_nothing_twice(shard):
    shown = beacon()
    shard.write([shown])
    shard.count()
    restart(shard)
    shard.write([shown, beacon()])
    shard.count()
    assert impressions(shard) == 2
    assert (shard.applier.rewinds, shard.applier.rebuilds) == (1, 0)


@pytest.mark.parametrize("saved", [False, True])
def test_redis_taken_back_is_counted_on_from_there(shard, client, saved):
    shard.write([beacon()])
    shard.count()
    keys = (*client.keys("*{count:0}*"),)
    old = [(key, client.dump(key)) for key in keys]
    shard.write([beacon()])
    if saved:
        shard.checkpoint()  # beyond the cursor that Redis is about to have
    shard.count()
    client.flushall()
    for key, dumped in old:
        client.restore(key, 0, dumped)
    assert shard.store.place()[1] == NOON_S + 2  # time is what it was, with all else
    shard.write([beacon()], NOON_S + 9)
    shard.count()
    assert impressions(shard) == 3
    assert shard.store.ever() == (NOON_S + 9, {40: Spent(3, revenue_nanos=24_000_000)})
    assert shard.applier.rewinds == 1


@pytest.mark.parametrize("saved", [False, True])
def test_a_wiped_redis_is_built_again(shard, client, saved):
    shard.write([beacon(), beacon(at_s=NOON_S + HOUR_S)])
    if saved:
        shard.checkpoint()
    shard.write([beacon()])
    shard.count()
    client.flushall()
    shard.write([beacon()])
    shard.count()
    assert impressions(shard) == 4
    assert shard.store.hours() == [NOON, NOON + 1]


def test_a_rebuild_goes_in_parts_and_may_be_cut_anywhere(shard, client, monkeypatch):
    monkeypatch.setattr(applying, "FIELDS_MAX", 3)
    shard.write([beacon(line_item_id=line) for line in range(1, 6)])
    shard.checkpoint()
    whole = dict(client.hgetall(HOUR_KEY))
    everything = dict(counts_of(shard))
    parts = 0
    for cut in range(40):
        client.flushall()
        restart(shard)
        for _ in range(cut):
            shard.applier.advance(wal.durable_mark(shard.log))
        cursor, time_s = shard.store.place()
        part = Cursor.parse(cursor or "log0:0:0").part
        parts = max(parts, part)
        # Who would settle a lease by half of this would grant twice what it had spent.
        assert (time_s is None) == (cut < 2 or part > 0)
        restart(shard)
        shard.count()
        assert client.hgetall(HOUR_KEY) == whole
        assert dict(counts_of(shard)) == everything
        assert shard.store.place() == (f"log0:{shard.applier.lsn}:0", NOON_S + 2)
    assert parts >= 12


def test_the_counts_are_cleared_before_they_are_built_again(shard, client):
    shard.write([beacon()])
    shard.count()
    client.hincrby(HOUR_KEY, b"40.50.10.impressions", 7)
    client.delete(KEYS.count_cursor(0))
    shard.write([beacon()])
    shard.count()
    assert impressions(shard) == 2


@pytest.mark.parametrize("cursor", ["other:0:0", "log0:99999999:0", "log0", "log0:x:0", "a:b:c:d"])
def test_a_cursor_that_is_not_of_this_log_stops_us(shard, client, cursor):
    client.set(KEYS.count_cursor(0), cursor)
    shard.write([beacon()])
    with pytest.raises(LedgerError):
        shard.count()
    assert client.get(KEYS.count_cursor(0)) == cursor.encode()


def test_a_lost_beginning_needs_a_checkpoint(shard, client):
    shard.write([beacon()])
    shard._open_segment(NOON_S * 1000)
    shard.checkpoint()
    shard.log.remove(wal.segment_name(0))
    client.flushall()
    restart(shard)
    shard.count()
    assert impressions(shard) == 1
    client.flushall()
    for name in shard.state.names():
        shard.state.remove(name)
    restart(shard)
    with pytest.raises(LedgerError, match="no checkpoint"):
        shard.count()


def test_a_rebuild_does_not_go_on_in_another_ones_middle(shard, client, monkeypatch):
    """The simulator's seed 5000329, of 1,500 steps."""
    monkeypatch.setattr(applying, "FIELDS_MAX", 2)
    middles = []
    for _ in range(2):
        shard.write([beacon(at_s=NOON_S + hour * HOUR_S) for hour in range(3)])
        shard.checkpoint()
        client.flushall()
        restart(shard)
        for _ in range(3):  # it clears, and fills in all time and one hour of three
            shard.applier.advance(wal.durable_mark(shard.log))
        middles.append((client.get(KEYS.count_cursor(0)), client.dump(HOUR_KEY)))
    assert [hour for hour, _, fields in shard.store.read(shard.store.hours()) if fields] == [NOON]
    cursor, counts = middles[0]
    client.set(KEYS.count_cursor(0), cursor)
    client.restore(HOUR_KEY, 0, counts, replace=True)
    shard.count()
    assert impressions(shard) == 6


class Deaf(CountsStore):
    """Every other answer does not arrive."""

    heard = False

    def apply(self, expected, following, deltas, time_s):
        answer = super().apply(expected, following, deltas, time_s)
        self.heard = not self.heard
        if self.heard:
            raise StoreError("timed out")
        return answer


def test_an_answer_that_is_lost_counts_nothing_twice(shard, redis_url):
    shard.store = Deaf(connect(redis_url), KEYS, 0)
    restart(shard)
    for _ in range(4):
        shard.write([beacon()])
        for _ in range(5):
            try:
                shard.count()
            except StoreError:
                continue
    assert impressions(shard) == 4


def test_a_checkpoint_that_failed_is_part_of_the_next(shard, client):
    shard.write([beacon()])
    shard.count()
    shard.applier.end_saving(shard.applier.begin_saving(), None)
    shard.write([beacon()])
    shard.checkpoint()
    client.flushall()
    shard.count()
    shard.write([beacon()])
    shard.count()
    assert impressions(shard) == 3


def test_a_checkpoint_that_is_swept_away_beneath_it_is_done_without(shard):
    shard.write([beacon()])
    shard.checkpoint()
    for name in shard.state.names():
        shard.state.remove(name)
    shard.write([beacon()])
    with pytest.raises(LedgerError):
        shard.checkpoint()
    shard.applier.start_again()
    shard.checkpoint()
    shard.write([beacon()])
    shard.count()
    assert impressions(shard) == 3


def test_a_checkpoint_of_a_counter_that_was_replaced_is_not_built_on(shard, client):
    shard.write([beacon()])
    shard.count()
    saving = shard.applier.begin_saving()
    client.flushall()
    shard.write([beacon()])
    shard.count()
    shard.applier.end_saving(saving, checkpoints.write(shard.state, shard.wal_id, *saving))
    assert shard.applier.base is None
    shard.checkpoint()
    client.flushall()
    shard.write([beacon(Kind.CLICK)])
    shard.count()
    assert impressions(shard) == 2


@given(st.dictionaries(st.integers(0, 3), st.dictionaries(st.binary(max_size=2), st.integers())))
def test_parts_are_all_of_it_and_none_is_too_large(deltas):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(applying, "FIELDS_MAX", 2)
        parts = [*_parts(deltas)]
    assert all(0 < sum(map(len, part.values())) <= 2 for part in parts)
    pairs = [(hour, *pair) for part in parts for hour in part for pair in part[hour].items()]
    assert pairs == [(hour, *pair) for hour in deltas for pair in deltas[hour].items()]


CURSORS = st.sampled_from(["", "a", "b"])
DELTAS = st.dictionaries(
    st.sampled_from([hour(1), window(1), quarter(2), EVER]),
    st.dictionaries(st.sampled_from([b"x", b"y"]), st.integers(-2, 2)),
)
TIMES = st.sampled_from([None, 0, 7])


@settings(max_examples=40)
@given(st.lists(st.tuples(CURSORS, CURSORS.filter(bool), DELTAS | st.none(), TIMES), max_size=12))
def test_the_simulators_redis_does_what_redis_does(redis_server, steps):
    twin = RedisTwin(Random(1))
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    store = CountsStore(connect(redis_server.url), KEYS, 0)
    for expected, following, deltas, time_s in steps:
        if deltas is None:
            answers = [each.clear(expected, following) for each in (store, twin)]
        else:
            answers = [each.apply(expected, following, deltas, time_s) for each in (store, twin)]
        assert answers[0] == answers[1]
        assert store.place() == twin.place()
    found = {bucket: fields for bucket, _, fields in store.read_buckets(store.buckets()) if fields}
    assert found == {bucket: fields for bucket, fields in twin.counts.items() if fields}


# -- what is spent, as control reads it


def test_each_bucket_is_kept_as_long_as_it_is_asked_for(shard, client):
    shard.write([beacon()])
    shard.count()
    kept_s = {
        bucket.kind: client.ttl(KEYS.count_bucket(0, bucket)) for bucket in shard.store.buckets()
    }
    for kind, least_s in (("hour", 62 * 86_400), ("quarter", 50 * 3600), ("window", 7200)):
        assert least_s < kept_s.pop(kind) <= least_s + 600
    assert kept_s == {"ever": -1}


def test_a_bucket_that_is_gone_is_listed_no_more(shard, client):
    shard.write([beacon()])
    shard.count()
    index = KEYS.count_buckets(0)
    assert client.zscore(index, "ever") == float("inf")
    now_s = client.time()[0]
    client.zadd(index, {"window:1": now_s - 3, "window:2": now_s + 60})
    shard.write([beacon()])
    shard.count()
    listed = [bucket.number for bucket in shard.store.buckets() if bucket.kind == "window"]
    assert listed == [2, NOON_S // 10]
    assert shard.store.hours() == [NOON]


def test_what_is_spent_is_read_with_its_time(shard):
    assert shard.store.ever() == shard.store.spent_in(1) == (None, {})
    lease = NOON_S // 10 - 1
    shown = beacon(lease=lease, flags=1 << 1, price_micros=9)
    shard.write([shown, beacon(line_item_id=7, lease=lease, price_micros=3)])
    shard.write([beacon(Kind.CLICK, id=shown.id, flags=1 << 1, price_micros=9)], NOON_S + 5)
    shard.count()
    forty, seven = Spent(1, 1, 0, 9_000), Spent(1, revenue_nanos=3)
    assert shard.store.ever() == (NOON_S + 5, {40: forty, 7: seven})
    assert shard.store.spent_in(lease) == (NOON_S + 5, {40: Spent(1), 7: seven})
    assert shard.store.spent_in(lease + 1) == (NOON_S + 5, {40: Spent(0, 1, 0, 9_000)})
    assert shard.store.spent_in(lease + 2) == (NOON_S + 5, {})
    noon = NOON_S // 900
    time_s, quarters = shard.store.quarters(range(noon - 1, noon + 2))
    assert time_s == NOON_S + 5
    assert quarters == {
        noon - 1: {40: Spent(1), 7: seven},
        noon: {40: Spent(0, 1, 0, 9_000)},
        noon + 1: {},
    }
    assert summed(quarters.values()) == {40: forty, 7: seven}


def test_of_what_may_have_expired_nothing_is_known(shard):
    """Nothing spent and nothing there are the same to Redis, and not to who settles a lease."""
    shard.write([beacon()])
    shard.count()
    noon, quarter_ = NOON_S // 10, NOON_S // 900
    end_s = NOON_S + 10 + 7200
    assert shard.store.spent_in(noon, end_s) == (NOON_S + 2, {40: Spent(1, 0, 0, 8_000_000)})
    assert shard.store.spent_in(noon, end_s + 1)[0] is None
    end_s = NOON_S + 900 + 50 * HOUR_S
    assert shard.store.quarters([quarter_], end_s)[0] == NOON_S + 2
    assert shard.store.quarters([quarter_ + 1, quarter_], end_s + 1)[0] is None
    shard.write([], NOON_S + 7211)
    shard.count()
    assert shard.store.spent_in(noon)[0] is None
    assert shard.store.ever() == (NOON_S + 7211, {40: Spent(1, 0, 0, 8_000_000)})


def test_a_tick_moves_time_alone(shard):
    shard.write([beacon()])
    shard.count()
    before = counts_of(shard)
    shard.write([], NOON_S + 300)
    shard.count()
    assert shard.store.place()[1] == NOON_S + 300
    assert counts_of(shard) == before


def test_what_is_none_of_ours_is_no_spend(shard, client):
    shard.write([beacon()])
    shard.count()
    client.hset(KEYS.count_bucket(0, EVER), b"40.smiles", 1)
    with pytest.raises(StoreError, match="none of ours"):
        shard.store.ever()
    client.zadd(KEYS.count_buckets(0), {"minute:1": 0})
    with pytest.raises(StoreError, match="none of ours"):
        shard.store.buckets()
