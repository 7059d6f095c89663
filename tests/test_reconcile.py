"""What Redis has is what the log says; whatever differs is named by hour, item and measure."""

import json
import os
import random
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
import redis

from server import cli
from server.errors import LedgerError
from server.events.records import Kind
from server.ledger import cli as ledger_cli
from server.ledger import wal
from server.ledger.checkpoints import kept
from server.ledger.folder import DiskFolder
from server.ledger.reconcile import EXIT_DIFFERS, TIME, Difference, Reconciled, begin, reconcile
from server.store import Keyspace
from server.store.buckets import EVER, HOUR, SPANS, Bucket, Totals, hour, quarter, window
from server.store.counts import CountsStore
from tests.shards import HOUR_S, NOON_S, Shard, beacon, decision

pytestmark = pytest.mark.process

NOON = NOON_S // HOUR_S
KEY = Keyspace().count_bucket(0, hour(NOON))
NOW_S = NOON_S + 7 * HOUR_S
KEPT_S = SPANS[HOUR].kept_s


@pytest.fixture
def shard(redis_url, tmp_path):
    return Shard(tmp_path / "shard", redis_url)


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def fill(shard: Shard, hours: int = 3, seed: int = 5) -> None:
    dice = random.Random(seed)
    for number in range(hours):
        at_s = NOON_S + number * HOUR_S
        shown = [beacon(at_s=at_s, line_item_id=40 + dice.randrange(3)) for _ in range(100)]
        clicked = [
            beacon(
                Kind.CLICK,
                at_s=at_s,
                id=each.id,
                line_item_id=each.line_item_id,
                network=f"192.0.{number}.0",
            )
            for number, each in enumerate(shown[::7])
        ]
        shard.write([*clicked, decision((10, 40, 50), weight=10, at_s=at_s)])  # before what is seen
        shard.write(shown)
        shard.write([shown[0]])
        shard.count()


def compared(shard: Shard, now_s: int = NOW_S) -> Reconciled:
    # Folders of its own, as another process has: two threads can't list one descriptor at once.
    log, state = DiskFolder(shard.log.path), DiskFolder(shard.state.path)
    return reconcile(begin(log, state, shard.wal_id), shard.store, shard.wal_id, now_s)


def test_equal_counts_are_equal(shard):
    fill(shard)
    result = compared(shard)
    assert result.differences == []
    assert (result.from_lsn, result.lsn) == (0, shard.applier.lsn)
    counts = {
        bucket: fields for bucket, _, fields in shard.store.read_buckets(shard.store.buckets())
    }
    assert {bucket.kind for bucket in counts} == {"hour", "quarter", "window", "ever"}
    assert result.buckets == len(counts)
    assert result.fields == sum(map(len, counts.values()))


def test_an_off_by_one_is_named(shard, client):
    fill(shard)
    client.hincrby(KEY, b"41.50.10.impressions", 1)
    (difference,) = compared(shard).differences
    assert difference[:5] == (hour(NOON), 41, 50, 10, "impressions")
    assert difference.redis == difference.log + 1


def test_a_cursor_that_is_deleted_mends_the_counts(shard, client):
    fill(shard)
    shard.checkpoint()
    fill(shard, hours=1, seed=6)
    client.hincrby(KEY, b"41.50.10.impressions", 1)
    client.hdel(KEY, b"40.50.10.clicks")
    client.delete(Keyspace().count_cursor(0))
    shard.write([beacon()])
    shard.count()
    assert shard.applier.rebuilds == 2  # one at the very beginning
    assert compared(shard).differences == []


def test_a_lost_field_and_a_field_too_many_are_named(shard, client):
    fill(shard)
    lost = int(client.hget(KEY, b"40.50.10.clicks"))
    client.hdel(KEY, b"40.50.10.clicks")
    client.hset(KEY, b"99.50.10.impressions", 0)
    assert compared(shard).differences == [
        Difference(hour(NOON), 40, 50, 10, "clicks", lost, None),
        Difference(hour(NOON), 99, 50, 10, "impressions", None, 0),
    ]


@pytest.mark.parametrize("listed", [True, False])
def test_a_lost_hour_is_named_field_by_field(shard, client, listed):
    fill(shard)
    fields = client.hgetall(KEY)
    client.delete(KEY)
    if not listed:
        client.zrem(Keyspace().count_buckets(0), str(hour(NOON)))
    differences = compared(shard).differences
    assert len(differences) == len(fields)
    assert {(each.bucket, each.redis) for each in differences} == {(hour(NOON), None)}
    # Two months later Redis has let go of it, as it should.
    assert compared(shard, (NOON + 1) * HOUR_S + KEPT_S).differences == differences
    late = compared(shard, (NOON + 1) * HOUR_S + KEPT_S + 1)
    before = compared(shard)
    assert late.differences == []
    assert (late.expired, late.buckets) == (before.expired + 1, before.buckets - 1)
    # What it still has at that age must be right.
    client.hincrby(Keyspace().count_bucket(0, hour(NOON + 1)), b"41.50.10.impressions", 1)
    much_later = compared(shard, (NOON + 9) * HOUR_S + KEPT_S).differences
    assert [(each.bucket, each.measure) for each in much_later] == [(hour(NOON + 1), "impressions")]


def test_all_hours_lost_but_not_the_cursor_is_found(shard, client):
    fill(shard)
    keys = [Keyspace().count_bucket(0, bucket) for bucket in shard.store.buckets()]
    client.delete(Keyspace().count_buckets(0), *keys)
    found = {each.bucket for each in compared(shard, NOON_S + 2 * HOUR_S).differences}
    assert {each.number for each in found if each.kind == HOUR} == {NOON, NOON + 1, NOON + 2}
    assert {each.kind for each in found} == {"hour", "quarter", "window", "ever"}


@pytest.mark.parametrize(
    ("bucket", "name"),
    [
        (window((NOON_S + 2 * HOUR_S) // 10), "window 2026-10-31T14:00:00Z"),
        (quarter(NOON_S // 900), "quarter 2026-10-31T12:00:00Z"),
        (EVER, "ever"),
    ],
)
def test_what_is_spent_is_compared_too(shard, client, bucket: Bucket, name):
    fill(shard)
    key = Keyspace().count_bucket(0, bucket)
    client.hincrby(key, b"41.impressions", 1)
    client.hdel(key, b"40.revenue_nanos")
    lost, more = compared(shard).differences
    assert lost[:5] == (bucket, 40, 0, 0, "revenue_nanos")
    assert lost.log > 0
    assert lost.redis is None
    assert more[:5] == (bucket, 41, 0, 0, "impressions")
    assert more.redis == more.log + 1
    told = [*ledger_cli._told(compared(shard), 0)]
    assert told[1].startswith(f"{name} line item 41 impressions: the log says ")


def test_a_time_that_is_not_the_logs_is_named(shard, client):
    """Who goes by it would settle a window that the log has not closed."""
    fill(shard)
    right = int(client.get(Keyspace().count_time(0)))
    client.set(Keyspace().count_time(0), right + 1)
    assert compared(shard).differences == [Difference(TIME, 0, 0, 0, "seconds", right, right + 1)]
    client.delete(Keyspace().count_time(0))
    assert compared(shard).differences == [Difference(TIME, 0, 0, 0, "seconds", right, None)]


def test_a_window_that_redis_keeps_longer_than_the_log_tells_of_it_is_no_difference(shard, client):
    """It was applied late: its time in Redis began when it was, and a checkpoint has dropped it."""
    fill(shard, hours=6)
    client.hincrby(Keyspace().count_bucket(0, window(NOON_S // 10)), b"41.impressions", 1)
    result = compared(shard)
    assert (result.differences, result.expired > 0) == ([], True)


@pytest.mark.parametrize("times", [0, 2])
def test_a_frame_that_reached_redis_never_or_twice_is_named(shard, monkeypatch, times):
    fill(shard, hours=1)
    apply = shard.store.apply

    def faulty(expected: str, following: str, deltas: Totals, time_s: int) -> str:
        wrong = {
            bucket: {field: times * delta for field, delta in fields.items()}
            for bucket, fields in deltas.items()
        }
        return apply(expected, following, wrong if times else {}, time_s)

    shard.write([beacon(line_item_id=7)])
    with monkeypatch.context() as patch:
        patch.setattr(shard.store, "apply", faulty)
        shard.count()
    paid = 8_000_000
    assert compared(shard).differences == [
        Difference(bucket, 7, *place, measure, amount, times * amount or None)
        for bucket, place in (
            (EVER, (0, 0)),
            (hour(NOON), (50, 10)),
            (quarter(NOON_S // 900), (0, 0)),
            (window(NOON_S // 10), (0, 0)),
        )
        for measure, amount in (("impressions", 1), ("revenue_nanos", paid))
    ]


def test_a_log_that_lost_a_frame_is_named_by_what_redis_has_more(shard, tmp_path):
    """The copy has the same records at the same places, but nothing in the last of them."""
    fill(shard, hours=1)
    copy = DiskFolder(tmp_path / "copy")
    for name in shard.log.names():
        copy.replace(name, shard.log.read(name))
    records = list(wal.read(copy, 0, shard.applier.lsn))
    lost = records[-1]
    kept = wal.decode(lost.body)
    content = bytearray(shard.log.read(wal.segment_name(0)))
    again = wal._record(lost.lsn, lost.durable, _emptied(kept, len(lost.body)))
    content[lost.lsn : lost.end] = again
    copy.replace(wal.segment_name(0), bytes(content))
    recount = begin(copy, shard.state, shard.wal_id)
    (difference,) = reconcile(recount, shard.store, shard.wal_id, NOW_S).differences
    assert (difference.measure, difference.log, difference.redis) == (
        "invalid.impression.duplicate", None, 1,
    )  # fmt: skip


def _emptied(body: wal.Received, length: int) -> bytes:
    """The record without its frames, as long as it was."""
    without = wal.encode(wal.Received(body.written_ms, "", b""))
    return wal.encode(wal.Received(body.written_ms, "c" * (length - len(without) - 1), b""))


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_record_that_is_gone_or_broken_in_the_log_is_named_by_its_place(shard, damage):
    fill(shard)
    name = wal.segment_name(0)
    records = list(wal.read(shard.log, 0, shard.applier.lsn))
    content = bytearray(shard.log.read(name))
    third = records[3]
    if damage == "cut":
        del content[third.lsn : third.end]
    else:
        content[third.lsn + 40] ^= 1
    shard.log.replace(name, bytes(content))
    with pytest.raises(LedgerError, match=f"broken or lost at LSN {third.lsn}"):
        compared(shard)


def test_traffic_need_not_stop(shard):
    ending = threading.Event()
    fill(shard, hours=1)

    def traffic() -> None:
        number = 0
        while not ending.is_set():
            number += 1
            at_s = NOON_S + number * 60
            shard.write([beacon(at_s=at_s, line_item_id=number % 5 + 1) for _ in range(20)])
            shard.count()

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        seen = set()
        while len(seen) < 10:
            assert thread.is_alive()
            result = compared(shard)
            assert result.differences == []
            seen.add(result.lsn)
    finally:
        ending.set()
        thread.join()


def test_an_old_log_is_recounted_from_the_oldest_checkpoint(shard, client):
    fill(shard, hours=6, seed=1)
    shard.checkpoint()
    fill(shard, hours=6, seed=2)
    second = shard.checkpoint()
    fill(shard, hours=6, seed=3)
    shard.checkpoint()
    first, *rest = wal.segments(shard.log)
    assert rest, "the test needs two segments"
    shard.log.remove(wal.segment_name(first))
    result = compared(shard)
    assert (result.differences, 0 < result.from_lsn <= second.lsn) == ([], True)
    client.hincrby(KEY, b"41.50.10.impressions", -1)
    assert [each.bucket for each in compared(shard).differences] == [hour(NOON)]


def test_a_checkpoint_whose_log_is_gone_is_no_place_to_begin(shard):
    for seed in range(1, 4):
        fill(shard, hours=6, seed=seed)
        shard.checkpoint()
    oldest, second = [each.lsn for each in kept(shard.state, shard.wal_id)][:2]
    for lsn, end in pairwise(wal.segments(shard.log)):
        if lsn <= oldest and end <= second:
            shard.log.remove(wal.segment_name(lsn))
    assert oldest < wal.segments(shard.log)[0] <= second
    result = compared(shard)
    assert (result.differences, result.from_lsn) == ([], second)
    for checkpoint in kept(shard.state, shard.wal_id):
        shard.state.remove(f"{checkpoint.lsn:016x}.checkpoint")
    with pytest.raises(LedgerError, match="no checkpoint is left"):
        compared(shard)


def test_redis_going_back_meanwhile_is_told(shard, client):
    fill(shard, hours=1)
    before = shard.store.cursor()
    shard.write([beacon()])
    shard.count()

    class GoesBack(CountsStore):
        def buckets(self) -> list[Bucket]:
            client.set(Keyspace().count_cursor(0), before)
            return super().buckets()

    store = GoesBack(client, Keyspace(), 0)
    with pytest.raises(LedgerError, match="went back to LSN"):
        reconcile(begin(shard.log, shard.state, shard.wal_id), store, shard.wal_id, NOW_S)


def _wiped(shard: Shard, client: redis.Redis) -> None:
    client.flushall()


def _rebuilding(shard: Shard, client: redis.Redis) -> None:
    client.set(Keyspace().count_cursor(0), f"{shard.wal_id}:0:1")


def _torn(shard: Shard, client: redis.Redis) -> None:
    client.hincrby(Keyspace().count_transactions(0), "begun", 1)


def _another(shard: Shard, client: redis.Redis) -> None:
    client.set(Keyspace().count_cursor(0), "other:0:0")


def _ahead(shard: Shard, client: redis.Redis) -> None:
    client.set(Keyspace().count_cursor(0), f"{shard.wal_id}:{1 << 40}:0")


def _between(shard: Shard, client: redis.Redis) -> None:
    client.set(Keyspace().count_cursor(0), f"{shard.wal_id}:{shard.applier.lsn - 1}:0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_wiped, "no counts of this shard"),
        (_torn, "are torn"),
        (_rebuilding, "being rebuilt"),
        (_another, "counts of the log other"),
        (_ahead, "the log ends at"),
        (_between, "where no record ends"),
    ],
)
def test_what_cannot_be_compared_is_no_equality(
    shard, client, change: Callable[[Shard, redis.Redis], None], said
):
    fill(shard)
    change(shard, client)
    with pytest.raises(LedgerError, match=said):
        compared(shard)


def test_the_command_names_and_counts(shard, client, redis_url, monkeypatch, capsys, tmp_path):
    for name in os.environ:
        if name.startswith("ADCORE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ADCORE_REDIS_URL", redis_url)
    assert cli.main(["reconcile"]) == 1
    assert "ADCORE_LEDGER_DIR" in capsys.readouterr().err
    monkeypatch.setenv("ADCORE_LEDGER_DIR", str(shard.folder))
    shard.write([beacon(), beacon(), beacon()])
    shard.count()
    assert cli.main(["reconcile"]) == 0
    place = f"recounted from LSN 0 to {shard.applier.lsn:,}"
    assert capsys.readouterr().out == f"shard 0: 0 differences in 8 counts of 4 buckets, {place}\n"
    client.hincrby(KEY, b"40.50.10.impressions", 1)
    assert cli.main(["reconcile"]) == EXIT_DIFFERS
    assert capsys.readouterr().out.splitlines() == [
        "2026-10-31T12:00Z line item 40 creative 50 site 10 impressions:"
        " the log says 3, Redis says 4",
        f"shard 0: 1 difference in 8 counts of 4 buckets, {place}",
    ]
    assert cli.main(["reconcile", "--json"]) == EXIT_DIFFERS
    document = json.loads(capsys.readouterr().out)
    assert document["differences"] == [[["hour", NOON], 40, 50, 10, "impressions", 3, 4]]
