"""What a world is made of: nodes with a spool, and shards with a log, checkpoints and Redis."""

from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

from server.errors import StoreError
from server.events.frames import Frame, Frames, pack
from server.events.records import RECORD_BEACON
from server.ledger import checkpoints, wal
from server.ledger.applier import Applier
from server.ledger.intake import Intake
from server.ledger.receiver import Receiver
from server.ledger.sender import Sender, Shards, done_segments, segments_of
from tests.sim.disk import SimFolder
from tests.sim.redis_twin import RedisTwin

START_S = 1_793_500_000
SEGMENT_BYTES = 800  # of a spool
WAL_SEGMENT_BYTES = 3_000


class Node:
    """A machine with a server's spool and a forwarder."""

    def __init__(self, name: str, random: Random, shards: Shards, count: int) -> None:
        self.name = name
        self.random = random
        self.disk = SimFolder(random)
        self.shards = shards
        self.shard_count = count
        self.epoch = START_S
        self.written: dict[str, dict[int, bytes]] = {}  # by stream: what was promised to be kept
        self.spoiled: dict[str, tuple[str, int]] = {}  # by segment: the frame that the disk changed
        self.start_server()
        self.start_forwarder()

    def start_server(self) -> None:
        self.epoch += 1
        self.sequence = self.segment = 0
        self.stream = f"{self.name}-{self.epoch:016x}"
        self.file = ""

    def start_forwarder(self) -> None:
        self.senders = [
            Sender(self.disk, partial(self._belongs, shard)) for shard in range(self.shard_count)
        ]

    def _belongs(self, shard: int, record: bytes) -> bool:
        return self.shards.of(record) == shard

    def write(self, kind: int, record: bytes) -> None:
        frame = pack(Frame(self.epoch, self.sequence + 1, kind, record))
        if not self.file or self.disk.size(self.file) + len(frame) > SEGMENT_BYTES:
            self.segment += 1
            self.file = f"{self.stream}-{self.segment:08d}.spool"
        self.disk.append(self.file, frame)
        self.sequence += 1
        self.written.setdefault(self.stream, {})[self.sequence] = record

    def kill_server(self) -> None:
        """Leave the frame in hand torn, as a kill may."""
        if self.file and self.random.random() < 0.5:
            frame = pack(Frame(self.epoch, self.sequence + 1, RECORD_BEACON, b"never finished"))
            self.disk.append(self.file, frame[: self.random.randrange(1, len(frame))])
        self.start_server()

    def spoil(self) -> None:
        """Flip a bit of the spool; once a segment, so that all others can be found."""
        names = [name for name in self.disk.names() if name not in self.spoiled]
        if not names:
            return
        name = self.random.choice(names)
        offset = self.random.randrange(self.disk.size(name))
        frames = Frames(self.disk.read(name))
        number = next((frame.sequence for frame in frames if frames.end > offset), 0)
        self.disk.flip(name, offset)
        self.spoiled[name] = name.rpartition("-")[0], number

    def spooled(self) -> dict[str, list[str]]:
        return segments_of(self.disk.names())

    def sweep(self) -> None:
        for name in [*done_segments(self.spooled(), self.senders)]:
            self.disk.remove(name)


class Shard:
    """An aggregator: its disks, its two processes when they run, its part of Redis."""

    def __init__(self, number: int, random: Random) -> None:
        self.number = number
        self.random = random
        self.log, self.state = SimFolder(random), SimFolder(random)
        self.redis = RedisTwin(random)
        self.wal_id = f"log{number}"
        self.intake: Intake | None = None
        self.applier: Applier | None = None
        self.saving: Any = None

    def start(self, now_ms: int) -> None:
        recovered = wal.recover(self.log, WAL_SEGMENT_BYTES)
        self.receiver = Receiver(recovered.opened)
        for record in recovered.records:
            self.receiver.restore(wal.decode(record.body))
        self.intake = Intake(recovered.wal, self.receiver, self.wal_id, now_ms)

    def kill(self, power: bool = False) -> None:
        """The counter ends with the process that started it."""
        self.intake = None
        self.kill_counter()
        if power:
            self.log.lose_power()
            self.state.lose_power()

    def kill_counter(self) -> None:
        self.applier = self.saving = None

    def count(self) -> None:
        """Do one step of `adcore count`."""
        if self.intake is None:
            return
        if self.applier is None:
            self.applier = Applier(self.log, self.state, self.redis, wal.log_id(self.log))
        with suppress(StoreError):
            self.applier.advance(wal.durable_mark(self.log))

    def save(self) -> None:
        """Begin a checkpoint, or write and end one that was begun."""
        applier = self.applier
        if applier is None:
            return
        if self.saving is not None:
            self._end_saving(applier)
        elif applier.is_settled:
            saving = applier.begin_saving()
            try:
                # The child was forked: what it writes is the state of now, whenever it is done.
                checkpoint = checkpoints.write(self.state, self.wal_id, *saving)
            except OSError:
                # What failed may be the sweeping after it: as `adcore count` does, look.
                checkpoint = checkpoints.newest(self.state, self.wal_id, saving.lsn)
                if checkpoint is not None and checkpoint.lsn != saving.lsn:
                    checkpoint = None
            self.saving = (saving, checkpoint)

    def _end_saving(self, applier: Applier) -> None:
        saving, checkpoint = self.saving
        applier.end_saving(saving, checkpoint)
        self.saving = None
