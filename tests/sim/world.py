"""Producers, forwarders, aggregators and Redis, put together from one seed and driven at random."""

from collections import deque
from functools import partial
from itertools import count
from random import Random
from typing import Any

import msgspec
import pytest

from server.errors import LedgerError
from server.events.frames import Frames
from server.events.leases import closed_window
from server.events.records import RECORD_BEACON, RECORD_DECISION, Answered, Beacon, Decision
from server.ledger import applier, counter, memory, wal
from server.ledger.applier import Cursor
from server.ledger.receiver import Ack, Batch
from server.ledger.sender import Query, Shards
from server.store.buckets import WINDOW, Totals
from tests.sim import oracle
from tests.sim.disk import SimFolder
from tests.sim.machines import START_S, Node, Shard
from tests.sim.oracle import counted

STEPS = 400
LONG_EVERY, LONG_STEPS = 19, 1_500  # what needs several faults in turn is found in these
encode = msgspec.msgpack.Encoder().encode


def run(seed: int) -> "World":
    """Run one world to its end; an AssertionError says what went wrong, and after what faults."""
    world = World(seed)
    try:
        world.run(STEPS if seed % LONG_EVERY else LONG_STEPS)
    except Exception as error:
        trace = "\n".join(world.trace)
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{trace}") from error
    return world


def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a world of a hundred beacons meet the limits that are made for millions."""
    monkeypatch.setattr(applier, "FIELDS_MAX", 25)  # a rebuild of several parts
    for name, small in (("CLICKS_A_MINUTE_MAX", 2), ("HELD_MAX", 8)):
        module = memory if hasattr(memory, name) else counter
        monkeypatch.setattr(module, name, small)
        monkeypatch.setattr(oracle, name, small)


def _windows(log: Totals, last: int) -> Totals:
    """Pick the windows up to a number."""
    return {
        bucket: fields
        for bucket, fields in log.items()
        if bucket.kind == WINDOW and bucket.number <= last
    }


class World:
    """`run` takes steps with faults, then heals everything and lets it settle."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.now_ms = START_S * 1000
        self.fault_weight = random.choice((2, 4, 8, 16))
        self.commit_weight = random.choice((4, 20))
        self.shard_count = random.choice((1, 1, 2, 3))
        epochs = [(0, random.randint(1, self.shard_count)), (START_S + 40, self.shard_count)]
        self.shards = [Shard(number, random) for number in range(self.shard_count)]
        self.routing = Shards(epochs)
        self.nodes = [self._node(n) for n in range(random.randint(1, 3))]
        self.names = count(len(self.nodes))
        self.network: deque[tuple[Node, int, int, Any]] = deque()
        self.connections: dict[tuple[str, int], int] = {}
        self.served: list[Beacon] = []
        self.lost_nodes: list[Node] = []
        self.acked: list[tuple[str, int, int]] = []  # stream, shard, up to where
        self.trace: deque[str] = deque(maxlen=40)
        self.detected = 0
        self.flipped = False
        self.closed: dict[int, tuple[int, Totals]] = {}  # by shard, as it was read last

    def _node(self, number: int) -> Node:
        return Node(f"n{number}", self.random, self.routing, self.shard_count)

    # -- traffic

    def produce(self) -> None:
        random = self.random
        node = random.choice(self.nodes)
        now_s = self.now_ms // 1000
        if random.random() < 0.1:
            answers = [Answered(1, line, 10 * line) for line in random.sample(range(3), 2)]
            decision = Decision(0, 0, now_s, now_s, random.randbytes(16), 10, 1, answers)
            node.write(RECORD_DECISION, encode(decision))
            return
        if random.random() < 0.02:
            node.write(RECORD_BEACON, b"\xc1nonsense")
            return
        if not self.served or random.random() < 0.4:
            line = random.randint(1, 3)
            self.served.append(
                Beacon(
                    1, 0, now_s, now_s - random.choice((0, 0, 1, 30, -90)), random.randbytes(16),
                    line, 10 * line, random.randint(0, 1), bytes(8), self._lease(now_s),
                    random.choice((0, 7, 2_500_000)), 0, random.randrange(4) << 1,
                    random.choice(("10.1.2.0", "")),
                    random.choice(("browser", "phone")),
                )
            )  # fmt: skip
        served = random.choice(self.served[-6:] if random.random() < 0.8 else self.served)
        beacon = msgspec.structs.replace(
            served,
            kind=random.choice((1, 1, 1, 2, 2, 3, 4)),
            outcome=random.choices((0, 1, 4, 9, 15), (40, 1, 1, 1, 1))[0],
            received_s=now_s + random.choice((0, 0, 0, -1, 2, 500)),
            issued_s=random.choices((served.issued_s, 1, 4_000_000_000), (40, 1, 1))[0],
            event=random.choice((40, 40, 7)),
            order=random.choice((b"", b"a")),
            value_micros=5,
            click_lookback_s=random.choice((60, 86_400)),
            view_lookback_s=random.choice((0, 3_600)),
        )
        node.write(RECORD_BEACON, encode(beacon))

    def _lease(self, now_s: int) -> int:
        """None, one of now or the window before, or one of a clock that is far off."""
        window = now_s // 10
        return self.random.choice((0, window, window, window - 1, window - 16, window + 31))

    # -- the network

    def forward(self) -> None:
        node = self.random.choice(self.nodes)
        number = self.random.randrange(self.shard_count)
        connection = self.connections.setdefault((node.name, number), 0)
        for message in node.senders[number].poll(node.spooled()):
            self.network.append((node, number, connection, message))
        if self.random.random() < 0.3:
            node.sweep()

    def cut(self, node: Node, number: int) -> None:
        """What is on its way is gone with the connection; each side begins anew."""
        self.connections[node.name, number] = self.connections.get((node.name, number), 0) + 1
        node.senders[number].lost()

    def arrive(self) -> None:
        for _ in range(self.random.randint(1, 6)):
            self.deliver()

    def deliver(self) -> None:
        if not self.network:
            return
        # Mostly in order, as TCP has it; what a later transport may do is done here now and then.
        place = 0 if self.random.random() < 0.95 else self.random.randrange(len(self.network))
        item = self.network[place]
        if self.random.random() > 0.03:
            del self.network[place]
        node, number, connection, message = item
        if self.connections[node.name, number] != connection or node not in self.nodes:
            return
        shard = self.shards[number]
        if not isinstance(message, Query | Batch):
            if isinstance(message, Ack):
                self.acked.append((message.stream, number, message.last))
            node.senders[number].told(message)
        elif shard.intake is None:
            self.cut(node, number)
        else:
            self._take(shard, node, connection, message)

    def _take(self, shard: Shard, node: Node, connection: int, message: Any) -> None:
        assert shard.intake is not None
        if isinstance(message, Query):
            reply, body = shard.receiver.watermark(message.stream), None
        else:
            reply, body = shard.receiver.take(message, self.now_ms)  # type: ignore[assignment]
        answer = (node, shard.number, connection, reply)
        shard.intake.put(body, partial(self.network.append, answer))

    def commit(self, shard: Shard) -> None:
        if shard.intake is None:
            if self.random.random() < 0.3:
                self._start(shard)
            return
        if self.random.random() < 0.1:
            shard.intake.put(wal.encode(wal.Ticked(self.now_ms)), lambda: None)
        group = shard.intake.swap(self.now_ms)
        try:
            shard.intake.write(group)
        except OSError:
            shard.kill()
            return
        for answer in group.answers:
            answer()

    # -- one step

    def step(self) -> None:
        random = self.random
        shard = random.choice(self.shards)
        self.now_ms += random.choice((0, 1, 5, 20, 100, 1_000))
        (what,) = random.choices(
            (
                self.produce, self.forward, self.arrive, partial(self.commit, shard),
                shard.count, shard.save, partial(self.fault, shard), partial(self.look, shard),
            ),
            (30, 20, 30, self.commit_weight, 15, 6, self.fault_weight, 0.3),
        )  # fmt: skip
        try:
            what()
        except LedgerError as error:
            self.heard(shard, error)

    def heard(self, shard: Shard, error: LedgerError) -> None:
        """A part of the ledger refuses to go on: right if the disk was changed, else wrong."""
        if not self.flipped:
            raise error
        self.detected += 1
        self.unflip()
        shard.kill()

    def fault(self, shard: Shard) -> None:
        random = self.random
        node = random.choice(self.nodes)
        faults = {
            "kill a server": node.kill_server,
            "kill a forwarder": partial(self._kill_forwarder, node),
            "lose a node": partial(self._lose, node),
            "cut": partial(self.cut, node, shard.number),
            "kill an intake": shard.kill,
            "an aggregator loses power": partial(self._lose_power, shard),
            "kill a counter": shard.kill_counter,
            "Redis goes back": shard.redis.go_back,
            "Redis is wiped": shard.redis.flush,
            "Redis comes and goes": partial(self._toggle, shard),
            "time passes": self._pass_time,
            "bad disk": partial(self._spoil, shard),
            "a bit flips in the log": partial(self._flip, shard),
            "a bit flips in a checkpoint": partial(self._flip_state, shard),
            "a bit flips in a spool": node.spoil,
        }
        # Each node that is lost is a new one that has done nothing yet.
        rare = {"lose a node": 1, "time passes": 2}
        (name,) = random.choices([*faults], [rare.get(name, 4) for name in faults])
        self.trace.append(f"{self.now_ms} {name} (shard {shard.number}, node {node.name})")
        faults[name]()

    def _kill_forwarder(self, node: Node) -> None:
        for number in range(self.shard_count):
            self.cut(node, number)
        node.start_forwarder()

    def _lose(self, node: Node) -> None:
        self.nodes.remove(node)
        self.lost_nodes.append(node)
        self.nodes.append(self._node(next(self.names)))

    def _lose_power(self, shard: Shard) -> None:
        # The mark may go with the power, and nothing behind the last group vouches for it: changed
        # as well, it can't be told from a torn end. Of these two faults one comes at a time.
        if self.flipped and self.changed is shard.log:
            self.unflip()
        shard.kill(power=True)

    def _start(self, shard: Shard) -> None:
        if shard.intake is None:
            try:
                shard.start(self.now_ms)
            except OSError:
                shard.kill()

    def _toggle(self, shard: Shard) -> None:
        shard.redis.is_up = not shard.redis.is_up or self.random.random() < 0.5
        shard.redis.timeout_share = self.random.choice((0, 0.2))

    def _pass_time(self) -> None:
        self.now_ms += self.random.choice((60_000, 400_000, 4_000_000, 100_000_000))

    def _spoil(self, shard: Shard) -> None:
        share = self.random.choice((0.0, 0.0, 0.05))
        shard.log.fault_share = shard.state.fault_share = share

    def _flip(self, shard: Shard) -> None:
        """Change a byte that was certain once; the whole is kept to be put back when noticed."""
        names = [name for name in shard.log.files if name.endswith(".wal")]
        if self.flipped or not names or shard.log.fault_share:
            return
        name = self.random.choice(names)
        certain = min(
            shard.log.synced.get(name, 0), wal.durable_mark(shard.log) - int(name[:16], 16)
        )
        if certain <= 0:
            return
        # Power may be lost until it is put back, but never what was certain.
        self._flip_at(shard.log, name, self.random.randrange(certain))
        shard.kill()

    def _flip_state(self, shard: Shard) -> None:
        names = shard.state.names()
        if self.flipped or not names:
            return
        name = self.random.choice(names)
        offset = self.random.randrange(shard.state.size(name))
        if name.endswith(".checkpoint"):
            shard.state.flip(name, offset)  # for ever: another one does as well, or the log
        else:
            self._flip_at(shard.state, name, offset)
        shard.kill_counter()
        if self.random.random() < 0.5:
            shard.redis.flush()  # or nobody would look

    def _flip_at(self, disk: SimFolder, name: str, offset: int) -> None:
        whole = disk.files[name][offset]
        disk.flip(name, offset)
        self.flipped, self.changed = True, disk
        self.unflip = partial(self._unflip, disk.files[name], offset, whole)

    def _unflip(self, file: bytearray, offset: int, whole: int) -> None:
        file[offset] = whole
        self.flipped = False

    # -- a run

    def run(self, steps: int) -> None:
        for shard in self.shards:
            shard.start(self.now_ms)
        for _ in range(steps):
            self.step()
        self.settle()
        self.check()

    def settle(self) -> None:
        """End all faults, and let everything arrive and be counted."""
        if self.flipped:
            self.unflip()
        for shard in self.shards:
            shard.log.fault_share = shard.state.fault_share = 0.0
            shard.redis.is_up, shard.redis.timeout_share = True, 0.0
        for round_ in range(400):
            for shard in self.shards:
                self._start(shard)
                self.commit(shard)
                shard.count()
            for node in self.nodes:
                for number in range(self.shard_count):
                    if round_ % 50 == 10:
                        self.cut(node, number)  # what was dropped is missed by a real link's timer
                    connection = self.connections.setdefault((node.name, number), 0)
                    for message in node.senders[number].poll(node.spooled()):
                        self.network.append((node, number, connection, message))
                node.sweep()
            while self.network:
                self.deliver()
            if round_ > 60 and self._is_quiet():
                return
        raise AssertionError("it does not settle")

    def _is_quiet(self) -> bool:
        return all(sender.is_idle for node in self.nodes for sender in node.senders) and all(
            shard.applier is not None
            and shard.applier.is_settled
            and shard.applier.lsn == wal.durable_mark(shard.log)
            for shard in self.shards
        )

    # -- what must hold

    def check(self) -> None:
        found: dict[tuple[str, int], tuple[int, bytes]] = {}
        for shard in self.shards:
            records = [
                wal.decode(r.body) for r in wal.read(shard.log, 0, wal.durable_mark(shard.log))
            ]
            shipped = [body for body in records if isinstance(body, wal.Shipped)]
            for body in shipped:
                for frame in Frames(body.frames):
                    key = (body.stream, frame.sequence)
                    assert key not in found, f"{key} is twice in the logs"
                    found[key] = shard.number, frame.record
            self._check_counts(shard, wal.durable_mark(shard.log))
        self._check_nothing_lost(found)

    def look(self, shard: Shard) -> None:
        """Read the counts as control does, in the middle of whatever happens."""
        if shard.redis.time_s is not None and not self.flipped:
            cursor = Cursor.parse(shard.redis.at)
            assert cursor.part == 0, f"shard {shard.number} has a time in a rebuild"
            self._check_counts(shard, cursor.lsn)

    def _check_counts(self, shard: Shard, lsn: int) -> None:
        """Redis has all that the log says, but for what a checkpoint may have dropped by then."""
        bodies = [wal.decode(record.body) for record in wal.read(shard.log, 0, lsn)]
        now_s = max((body.written_ms for body in bodies), default=0) // 1000
        redis, log = shard.redis, counted(
            (body.written_ms, body.frames if isinstance(body, wal.Shipped) else b"")
            for body in bodies
        )  # fmt: skip
        assert redis.time_s == now_s, f"shard {shard.number} has time {redis.time_s}, not {now_s}"
        for bucket in redis.counts.keys() | log.keys():
            found, said = redis.counts.get(bucket), log.get(bucket)
            if found is not None or not bucket.is_over(now_s):
                assert found == said, f"{bucket} of shard {shard.number}: {found}, not {said}"
        self._check_closed(shard.number, now_s, log)

    def _check_closed(self, number: int, now_s: int, log: Totals) -> None:
        """What was billed of a window stays as it was when it was closed: it settles leases."""
        before_s, before = self.closed.get(number, (0, {}))
        if now_s >= before_s:
            closed = _windows(log, closed_window(before_s))
            assert closed == before, f"a closed window of shard {number} has changed"
            self.closed[number] = now_s, _windows(log, closed_window(now_s))

    def _check_nothing_lost(self, found: dict[tuple[str, int], tuple[int, bytes]]) -> None:
        written = {
            (stream, sequence): (self.routing.of(record), record)
            for node in (*self.nodes, *self.lost_nodes)
            for stream, frames in node.written.items()
            for sequence, record in frames.items()
        }
        for key, taken in found.items():
            assert written[key] == taken, f"{key} has changed on its way"
        spoiled = {key for node in self.nodes for key in node.spoiled.values()}
        for node in self.nodes:
            for key in ((stream, n) for stream, frames in node.written.items() for n in frames):
                assert key in found or key in spoiled, f"{key} is lost"
        acked: dict[tuple[str, int], int] = {}
        for stream, number, last in self.acked:
            acked[stream, number] = max(last, acked.get((stream, number), 0))
        spoiled |= {key for node in self.lost_nodes for key in node.spoiled.values()}
        for key, (number, _) in written.items():
            if key[1] <= acked.get((key[0], number), 0):
                assert key in found or key in spoiled, f"{key} was acked"
