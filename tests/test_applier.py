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
from server.store.counts import CountsStore
from tests.shards import HOUR_S, NOON_S, Shard, beacon
from tests.sim.redis_twin import RedisTwin

pytestmark = pytest.mark.process

NOON = NOON_S // HOUR_S
KEYS = Keyspace()


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
    assert 0 < client.ttl(KEYS.count_hour(0, NOON)) <= 62 * 86_400


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
    old = client.dump(KEYS.count_hour(0, NOON)), client.get(KEYS.count_cursor(0))
    shard.write([beacon()])
    if saved:
        shard.checkpoint()  # beyond the cursor that Redis is about to have
    shard.count()
    client.restore(KEYS.count_hour(0, NOON), 0, old[0], replace=True)
    client.set(KEYS.count_cursor(0), old[1])
    shard.write([beacon()])
    shard.count()
    assert impressions(shard) == 3
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
    whole = dict(client.hgetall(KEYS.count_hour(0, NOON)))
    parts = 0
    for cut in range(20):
        client.flushall()
        restart(shard)
        for _ in range(cut):
            shard.applier.advance(wal.durable_mark(shard.log))
        parts = max(parts, Cursor.parse(shard.store.cursor() or "log0:0:0").part)
        restart(shard)
        shard.count()
        assert client.hgetall(KEYS.count_hour(0, NOON)) == whole
        assert shard.store.cursor() == f"log0:{shard.applier.lsn}:0"
    assert parts >= 2


def test_the_counts_are_cleared_before_they_are_built_again(shard, client):
    shard.write([beacon()])
    shard.count()
    client.hincrby(KEYS.count_hour(0, NOON), b"40.50.10.impressions", 7)
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
        for _ in range(2):  # it clears, and fills in one hour of three
            shard.applier.advance(wal.durable_mark(shard.log))
        middles.append((client.get(KEYS.count_cursor(0)), client.dump(KEYS.count_hour(0, NOON))))
    assert [hour for hour, _, fields in shard.store.read(shard.store.hours()) if fields] == [NOON]
    cursor, counts = middles[0]
    client.set(KEYS.count_cursor(0), cursor)
    client.restore(KEYS.count_hour(0, NOON), 0, counts, replace=True)
    shard.count()
    assert impressions(shard) == 6


class Deaf(CountsStore):
    """Every other answer does not arrive."""

    heard = False

    def apply(self, expected, following, deltas):
        answer = super().apply(expected, following, deltas)
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
    st.integers(1, 2), st.dictionaries(st.sampled_from([b"x", b"y"]), st.integers(-2, 2))
)


@settings(max_examples=40)
@given(st.lists(st.tuples(CURSORS, CURSORS.filter(bool), DELTAS | st.none()), max_size=12))
def test_the_simulators_redis_does_what_redis_does(redis_server, steps):
    twin = RedisTwin(Random(1))
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    store = CountsStore(connect(redis_server.url), KEYS, 0)
    for expected, following, deltas in steps:
        if deltas is None:
            answers = [each.clear(expected, following) for each in (store, twin)]
        else:
            answers = [each.apply(expected, following, deltas) for each in (store, twin)]
        assert answers[0] == answers[1]
        assert store.cursor() == twin.cursor()
    found = {hour: fields for hour, _, fields in store.read(store.hours()) if fields}
    assert found == {hour: fields for hour, fields in twin.hours.items() if fields}
