"""Each guard of the ledger, by name: taken out, the simulator or a scenario fails.

What is compiled can't be changed while it runs. There the oracle loses the rule instead: the
simulator compares the two for equality, so a counter without a rule that the oracle has shows as
surely as a counter with one that the oracle lacks.
"""

import asyncio
from pathlib import Path
from random import Random

import pytest

from server import config
from server.delivery.tokens import Keyring, Served, destination_digest, placement_digest
from server.errors import LedgerError, ProtocolError, TokenError
from server.events.records import Kind
from server.families import INTAKER
from server.ledger import checkpoints, counter, memory, wal
from server.ledger.aggregate import Aggregator
from server.ledger.applier import Applier
from server.ledger.counter import Counter
from server.ledger.fluent import encode_request, parse_request
from server.ledger.folder import DiskFolder
from server.ledger.handshake import ClientEnd, ServerEnd
from server.ledger.intake import Intake
from server.ledger.receiver import Ack, Batch, Receiver, Watermark
from server.ledger.sender import BEYOND_ALL, Query, Sender, _Stream, done_segments
from server.metrics import Metrics
from server.store import Keyspace, connect, counts
from server.store.buckets import EVER, Bucket, Spent, hour, window
from server.store.counts import CountsStore
from tests.frames import STREAM, framed, frames
from tests.guards import simulate, without, without_frame_crc, without_in_script
from tests.shards import beacon
from tests.sim.disk import SimFolder
from tests.sim.oracle import Oracle
from tests.sim.redis_twin import RedisTwin
from tests.sim.world import World

pytestmark = pytest.mark.plain

ONE = {hour(1): {b"1.1.1.clicks": 1}}


def closed_leases_bill(patch: pytest.MonkeyPatch) -> None:
    """Neither the counter nor its oracle knows better: only what was settled tells."""
    patch.setattr(counter, "closed_window", lambda now_s: -1)
    without(Oracle.is_open, (" < begin_s + LEASE_OPEN_S", ""))(patch)


SIMULATED = {
    # -- what is sent once is taken once, and nothing is left out
    "sequence numbers": without(
        Receiver.take,
        ("batch.last <= here.last", "False"),
        ("batch.previous != here.last", "False"),
        ("walk(batch.frames, batch.previous) != batch.last", "False"),
    ),
    "the gap check": without(Receiver.take, ("batch.previous != here.last", "False")),
    "a spool frame's CRC": without_frame_crc,
    "an unread end is not done": without(
        _Stream.next_batch, ("BEYOND_ALL if ended else segments[-1]", "BEYOND_ALL")
    ),
    "what flies is not done": without(_Stream.done_before, ("if self._flying:", "if False:")),
    # -- what was acked is on the disk
    "an ack after the sync": without(Intake.write, ("self._wal.sync()", "pass")),
    "a Query's answer after the sync": without(
        World._take,
        (
            "shard.intake.put(body, partial(self.network.append, answer))",
            "shard.intake.put(body, partial(self.network.append, answer)) "
            "if isinstance(message, Batch) else self.network.append(answer)",
        ),
    ),
    "Opened says what lies before it": without(
        Intake.write,
        ("self._wal.append(group.bodies)\n", "\n"),
        ("self._wal.sync()", "self._wal.append(group.bodies); self._wal.sync()"),
    ),
    "a log record's CRC": without(
        wal._whole, ("crc32c(body, crc32c(head[_CRC_FROM:], crc32c(head[:4]))) != crc", "False")
    ),
    "what was certain must be there": without(wal._refuse_lost, ("end < certain", "False")),
    # -- what is counted is counted once
    "a checkpoint's CRC": without(
        checkpoints._read, ('crc32c(content).to_bytes(_CRC_BYTES, "big") != crc', "False")
    ),
    "no rewind to beyond the cursor": without(checkpoints.newest, ("lsn <= until", "True")),
    "no end_saving of a replaced counter": without(
        Applier.end_saving, ("saving.counter is not self._counter", "False")
    ),
    # -- what is spent is known, and when it is
    "no time before a rebuild is whole": without(
        Applier._rebuild, ("self._counter.now_s if is_last else None", "self._counter.now_s")
    ),
    "a rewind's time goes with its cursor": without(
        RedisTwin.go_back, ("self.at, self.time_s, self.counts", "self.at, _, self.counts")
    ),
    "what is spent is known for ever": without(
        Bucket.is_over, ("span is not None and", "span is None or")
    ),
    "a window that has not ended is kept": without(
        Bucket.is_over, ("+ span.kept_s < now_s", "< now_s")
    ),
    "an impression is of its lease's window": without(
        Oracle.owe, ("beacon.kind == 1 and beacon.lease != 0", "False")
    ),
    "a click is of the window in which it came": without(Oracle.owe, ("beacon.kind == 1 and", "")),
    # -- what is valid
    "a closed lease bills nothing": lambda patch: patch.setattr(
        counter, "closed_window", lambda now_s: -1
    ),
    "a closed window is final": closed_leases_bill,
    "nor does one that has not begun": without(
        Oracle.is_open, ("begin_s - HELD_S <= self.now_s < ", "self.now_s < ")
    ),
    "the impression's window": lambda patch: patch.setitem(
        counter._WINDOWS_S, Kind.IMPRESSION, 10**9
    ),
    "the click's window": lambda patch: patch.setitem(counter._WINDOWS_S, Kind.CLICK, 10**9),
    "the clock's skew": lambda patch: patch.setattr(counter, "SKEW_S", 10**9),
    "an impression counts once": without(
        Oracle.why_not, ('return "duplicate" if known else ""', 'return ""')
    ),
    "a click counts once": without(
        Oracle.why_not, ('("click", beacon.id) in self.taken', "False")
    ),
    "a click waits for its impression": without(
        Oracle.why_not, ("not known and not (beacon.kind == 4 and clicked)", "False")
    ),
    "nothing waits for ever": lambda patch: patch.setattr(counter, "HELD_S", 10**9),
    "the second half of a double click": lambda patch: patch.setattr(memory, "DOUBLE_CLICK_S", -1),
    "a crowd's clicks": without(Oracle._click, ("len(beside) > CLICKS_A_MINUTE_MAX", "False")),
    "a bound on what waits": without(Oracle.why_not, ("len(self.held) < HELD_MAX", "True")),
}  # fmt: skip


@pytest.mark.parametrize("guard", SIMULATED)
def test_the_simulator_misses(guard, monkeypatch):
    SIMULATED[guard](monkeypatch)
    with pytest.raises(AssertionError, match="seed"):
        simulate(monkeypatch)


# -- what the simulator can't see: real Redis, changed bytes, guards that stand behind others ------


def a_step_done_twice(store: CountsStore) -> None:
    assert store.apply("", "log:9:0", ONE, 7) is None
    assert store.apply("", "log:9:0", ONE, 8) == "log:9:0"
    assert [counts for _, _, counts in store.read([1])] == [*ONE.values()]
    assert store.place() == ("log:9:0", 7)


def a_clear_too_late(store: CountsStore) -> None:
    assert store.apply("", "log:9:0", ONE, 7) is None
    assert store.clear("", "log:0:0") == "log:9:0"
    assert [counts for _, _, counts in store.read([1])] == [*ONE.values()]


def a_step_after_a_flush(store: CountsStore) -> None:
    # Nil says "done", an empty string "no cursor": the first bug that the simulator found.
    assert store.apply("log:9:0", "log:18:0", ONE, 7) == ""
    assert store.cursor() == ""


def a_clear_after_a_flush(store: CountsStore) -> None:
    assert store.clear("log:9:0", "log:0:0") == ""


def cleared_counts(store: CountsStore) -> None:
    assert store.apply("", "log:9:0", ONE, 7) is None
    assert store.clear("log:9:0", "log:0:0") is None
    assert store.place() == ("log:0:0", None)
    assert store.buckets() == []


def counts_filled_in_part(store: CountsStore) -> None:
    assert store.apply("", "log:9:0", ONE, 7) is None
    assert store.apply("log:9:0", "log:9:1", ONE, None) is None
    assert store.place() == ("log:9:1", None)


def torn_counts(store: CountsStore) -> None:
    assert store.apply("", "log:9:0", {EVER: {b"4.clicks": 1}}, 7) is None
    assert store.ever() == (7, {4: Spent(clicks=1)})
    store._client.hincrby(store._keys.count_transactions(store._shard), "begun", 1)
    assert store.ever()[0] is None


def a_window_that_may_have_expired(store: CountsStore) -> None:
    assert store.apply("", "log:9:0", {window(1): {b"4.clicks": 1}}, 7) is None
    assert store.spent_in(1, 7_220) == (7, {4: Spent(clicks=1)})
    assert store.spent_in(1, 7_221)[0] is None


CHECK = "if found ~= ARGV[1] then"
GET = "local found = redis.call('GET', {}) or ''"

IN_REDIS = {
    "the cursor check of apply": (
        without_in_script("apply_counts.lua", CHECK, "if false then"), a_step_done_twice
    ),
    "the cursor check of clear": (
        without_in_script("clear_counts.lua", CHECK, "if false then"), a_clear_too_late
    ),
    "no cursor is an answer of apply": (
        without_in_script("apply_counts.lua", "cursor) or ''", "cursor)"), a_step_after_a_flush
    ),
    "no cursor is an answer of clear": (
        without_in_script("clear_counts.lua", "KEYS[1]) or ''", "KEYS[1])"), a_clear_after_a_flush
    ),
    "no time once the counts are cleared": (
        without_in_script("clear_counts.lua", "redis.call('DEL', KEYS[3])", ""), cleared_counts
    ),
    "no time in a part of a rebuild": (
        without_in_script("apply_counts.lua", "redis.call('DEL', time)", ""), counts_filled_in_part
    ),
    "no time for what may have expired": (
        without(CountsStore.spent, ("time_s is not None and any", "False and any")),
        a_window_that_may_have_expired,
    ),
    "no time where the counts are torn": (
        without(counts._place, ("ends[0] != ends[1]", "False")), torn_counts
    ),
}  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize("guard", IN_REDIS)
def test_redis_misses(guard, redis_url, monkeypatch):
    remove, scenario = IN_REDIS[guard]
    scenario(CountsStore(connect(redis_url), Keyspace(), 0))
    remove(monkeypatch)
    with pytest.raises(AssertionError):
        scenario(CountsStore(connect(redis_url), Keyspace(), 1))


def a_batch_that_changed_on_its_way(folder: Path) -> None:
    message = encode_request(Batch(STREAM, 0, 1, frames(1)))
    with pytest.raises(ProtocolError):
        parse_request(message.replace(b"beacon", b"beacoN"))


def a_batch_sent_again(folder: Path) -> None:
    receiver = Receiver(None)
    batch = Batch(STREAM, 0, 2, frames(1, 2))
    assert receiver.take(batch, 5)[1] is not None
    # A watermark would make its sender start over, and repeat all that flies.
    reply, body = receiver.take(batch, 6)
    assert isinstance(reply, Ack)
    assert body is None


def frames_out_of_order(folder: Path) -> None:
    for numbers in ((2, 1, 3), (1, 1, 3), (1, 2)):
        with pytest.raises(ValueError, match=r"order|hold"):
            Receiver(None).take(Batch(STREAM, 0, 3, frames(*numbers)), 5)


def a_frame_that_the_disk_changed(folder: Path) -> None:
    disk = DiskFolder(folder / "spool")
    segments = [f"{STREAM}-{number:08d}.spool" for number in (1, 2)]
    disk.append(segments[0], frames(1) + frames(2).replace(b"beacon", b"beacoN") + frames(3))
    disk.append(segments[1], frames(4))
    sender = Sender(disk, lambda _: True)
    assert [*sender.poll({STREAM: segments})] == [Query(STREAM)]
    sender.told(Watermark(STREAM, 0))
    assert [*sender.poll({STREAM: segments})] == [Batch(STREAM, 0, 4, frames(1, 3, 4))]


def asked_before_the_sync(folder: Path) -> None:
    settings = config.load({"ADCORE_REDIS_URL": "redis://nowhere"})
    aggregator = Aggregator(settings, DiskFolder(folder / "wal"), Metrics(folder, INTAKER))
    told: list[Ack | Watermark] = []
    aggregator.take(Batch(STREAM, 0, 1, frames(1)), told.append)
    aggregator.take(Query(STREAM), told.append)
    assert told == []
    aggregator._ending = True
    asyncio.run(aggregator._commit())
    assert told == [Ack(STREAM, 1), Watermark(STREAM, 1)]


def the_newest_segment(folder: Path) -> None:
    sender = Sender(SimFolder(Random(1)), lambda _: True)
    sender.done_before = lambda stream: BEYOND_ALL  # type: ignore[method-assign]
    assert [*done_segments({STREAM: ["1", "2"]}, [sender])] == ["1"]


def log(count: int = 3) -> SimFolder:
    """Two segments of one length, each with a group for each record."""
    disk = SimFolder(Random(1))
    written = wal.recover(disk).wal
    for segment in range(2):
        written.open_segment(wal.Opened("log", segment, {}, []))
        for number in range(count):
            written.append([wal.encode(wal.Ticked(number))])
            written.sync()
    return disk


def a_record_of_another_place(folder: Path) -> None:
    disk = log()
    first, last = (wal.segment_name(lsn) for lsn in wal.segments(disk))
    disk.files[last] = disk.files[first]
    with pytest.raises(LedgerError):
        [*wal.read(disk, 0, wal.durable_mark(disk))]


def a_broken_last_record(folder: Path) -> None:
    disk = log()
    disk.files[wal.segment_name(wal.segments(disk)[-1])][-1] ^= 1
    with pytest.raises(LedgerError):
        wal.recover(disk)


def a_broken_record_and_no_mark(folder: Path) -> None:
    disk = log()
    del disk.files["durable"]
    disk.files[wal.segment_name(wal.segments(disk)[-1])][-70] ^= 1
    with pytest.raises(LedgerError):
        wal.recover(disk)


def counts_of_another_log(folder: Path) -> None:
    redis, disk = RedisTwin(Random(1)), log()
    redis.at = "another:0:0"
    with pytest.raises(LedgerError):
        Applier(disk, log(), redis, "log").advance(wal.durable_mark(disk))


def a_changed_token(folder: Path) -> None:
    keyring = Keyring(bytes(range(32)))
    served = Served(1, bytes(16), 7, 8, 9, 10, placement_digest("top"))
    _, token = (
        text.decode()
        for text in keyring.sign_shown(served, destination_digest("https://a.example"))
    )
    assert keyring.verify(token, Kind.IMPRESSION).served == served
    changed = token[:-4] + ("A" if token[-4] != "A" else "B") + token[-3:]
    with pytest.raises(TokenError):
        keyring.verify(changed, Kind.IMPRESSION)


def a_client_with_another_key(folder: Path) -> None:
    server, client = ServerEnd(b"one key", "s", bytes(16)), ClientEnd(b"one keY", "c", bytes(16))
    assert [*client.feed(server.outgoing())] == []
    with pytest.raises(ProtocolError):
        [*server.feed(client.outgoing())]


def a_server_with_another_key(folder: Path) -> None:
    server, client = ServerEnd(b"one key", "s", bytes(16)), ClientEnd(b"one key", "c", bytes(16))
    assert [*client.feed(server.outgoing())] == []
    assert [*server.feed(client.outgoing())] == []
    pong = bytearray(server.outgoing())
    pong[-1] ^= 1
    with pytest.raises(ProtocolError):
        [*client.feed(bytes(pong))]


def a_crowd_of_sixty_one(folder: Path) -> None:
    shown = [beacon(user_agent=str(number)) for number in range(61)]
    clicks = [beacon(Kind.CLICK, id=each.id, user_agent=each.user_agent) for each in shown]
    taken = Counter()
    taken.take(wal.Received(shown[0].received_s * 1000, "", framed(*shown, *clicks)))
    found = taken.drain()[hour(shown[0].issued_s // 3600)]
    assert found[b"40.50.10.clicks"] == 60
    assert found[b"40.50.10.invalid.click.rate"] == 1


def equal_digests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("hmac.compare_digest", lambda one, other: True)


SCENARIOS = {
    "a batch's CRC": (
        without(parse_request, ("crc32c(frames) != said.crc", "False")),
        a_batch_that_changed_on_its_way,
    ),
    "the repeat drop": (
        without(Receiver.take, ("batch.last <= here.last", "False")), a_batch_sent_again
    ),
    "a batch is in order": (
        without(Receiver.take, ("walk(batch.frames, batch.previous) != batch.last", "False")),
        frames_out_of_order,
    ),
    "a spool frame's CRC": (without_frame_crc, a_frame_that_the_disk_changed),
    "a Query's answer after the sync": (
        without(
            Aggregator.take,
            ("self._put(None, partial(tell, ", "tell(next(iter([("),
            ("watermark(request.stream)))", "watermark(request.stream))])))"),
        ),
        asked_before_the_sync,
    ),
    "the newest segment stays": (
        without(done_segments, (" and not (stream in newest and segment == segments[-1])", "")),
        the_newest_segment,
    ),
    "a log record says where it is": (
        without(wal._whole, ("said_lsn != lsn or ", "")), a_record_of_another_place
    ),
    "the mark of what is certain": (
        without(wal._refuse_lost, ("durable_mark(folder)", "0")), a_broken_last_record
    ),
    "the claim of a later record": (
        without(wal._refuse_lost, ("_later_claim(folder, known[-1], end)", "0")),
        a_broken_record_and_no_mark,
    ),
    "the log's id in the cursor": (
        without(Applier._meet, ("found.wal_id != self._wal_id", "False")), counts_of_another_log
    ),
    "compare_digest of a token": (equal_digests, a_changed_token),
    "compare_digest of a client": (equal_digests, a_client_with_another_key),
    "compare_digest of a server": (equal_digests, a_server_with_another_key),
    "a crowd is more than sixty": (
        lambda patch: patch.setattr(memory, "CLICKS_A_MINUTE_MAX", 10**9), a_crowd_of_sixty_one
    ),
}  # fmt: skip


@pytest.mark.parametrize("guard", SCENARIOS)
def test_a_scenario_misses(guard, tmp_path, monkeypatch):
    remove, scenario = SCENARIOS[guard]
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    scenario(tmp_path / "with")
    remove(monkeypatch)
    # Whatever then goes wrong, an exception that is missed or one too many.
    with pytest.raises((Exception, pytest.fail.Exception)):
        scenario(tmp_path / "without")
