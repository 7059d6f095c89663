"""A shard of the ledger with its real log, checkpoints and Redis, without its processes."""

from collections.abc import Iterable
from itertools import count
from pathlib import Path

import msgspec

from server.events.frames import Frame, pack
from server.events.records import RECORD_BEACON, RECORD_DECISION, Answered, Beacon, Decision, Kind
from server.ledger import checkpoints, wal
from server.ledger.applier import Applier
from server.ledger.folder import DiskFolder
from server.store import Keyspace, connect
from server.store.counts import CountsStore

NOON_S = 1_793_448_000  # 2026-10-31 12:00 UTC
HOUR_S = 3600

_numbers = count(1)


def beacon(kind: Kind = Kind.IMPRESSION, *, at_s: int = NOON_S, **fields: object) -> Beacon:
    """An impression of line item 40 by default, with an id of its own."""
    given = {
        "kind": int(kind),
        "outcome": 0,
        "received_s": at_s + 2,
        "issued_s": at_s,
        "id": next(_numbers).to_bytes(16, "big"),
        "line_item_id": 40,
        "creative_id": 50,
        "site_id": 10,
        "placement": bytes(8),
        "lease": 0,
        "price_micros": 8_000_000,
        "event": 0,
        "flags": 0,
        "network": "192.0.2.0",
        "user_agent": "Mozilla/5.0",
    }
    return Beacon(**given | fields)


def decision(*answers: tuple[int, int, int], weight: int = 1, at_s: int = NOON_S) -> Decision:
    """A log of (site, line item, creative) for each placement."""
    identity = next(_numbers).to_bytes(16, "big")
    return Decision(0, 0, at_s, at_s, identity, weight, 1, [Answered(*each) for each in answers])


class Shard:
    """One shard in a folder, as `adcore aggregate` leaves it."""

    def __init__(
        self, folder: Path, redis_url: str, number: int = 0, segment_bytes_max: int = 1 << 16
    ) -> None:
        self.folder = folder
        self.log = DiskFolder(folder / "wal")
        self.state = DiskFolder(folder / "state")
        self.store = CountsStore(connect(redis_url), Keyspace(), number)
        self.store.announce()
        self.wal_id = f"log{number}"
        self._wal = wal.recover(self.log, segment_bytes_max).wal
        if self._wal.is_new:
            self._open_segment(NOON_S * 1000)
        self.applier = Applier(self.log, self.state, self.store, self.wal_id)

    def write(self, records: Iterable[Beacon | Decision], written_s: int | None = None) -> None:
        """Append one record of the log with these, and sync it."""
        records = list(records)
        frames = b"".join(
            pack(Frame(1, number, _kind_of(record), msgspec.msgpack.encode(record)))
            for number, record in enumerate(records, 1)
        )
        if written_s is None:
            written_s = max(record.received_s for record in records)
        if self._wal.wants_segment:
            self._open_segment(written_s * 1000)
        self._wal.append([wal.encode(wal.Received(written_s * 1000, "", frames))])
        self._wal.sync()

    def count(self) -> None:
        """Apply all to Redis."""
        while self.applier.advance(wal.durable_mark(self.log)):
            pass

    def checkpoint(self) -> checkpoints.Checkpoint:
        """Count, and write a checkpoint of that."""
        self.count()
        saving = self.applier.begin_saving()
        checkpoint = checkpoints.write(self.state, self.wal_id, *saving)
        self.applier.end_saving(saving, checkpoint)
        return checkpoint

    def _open_segment(self, written_ms: int) -> None:
        self._wal.open_segment(wal.Opened(self.wal_id, written_ms, {}, []))


def _kind_of(record: Beacon | Decision) -> int:
    return RECORD_BEACON if isinstance(record, Beacon) else RECORD_DECISION
