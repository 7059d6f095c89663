"""Keeps the counts in Redis what the log says, whatever happens to Redis.

    counted ──apply──► counted further                     the cursor was where we left it
       │
       └──another cursor──► rewound to it, from a checkpoint before it
                        └──► rebuilt: cleared, filled with a checkpoint's totals, counted on

A cursor is `{wal id}:{lsn}:{part}`. The part is 0, but for a rebuild under way: its totals may be
too many for one script. The LSN is then its checkpoint's, so that Redis, taken back into a rebuild
from another checkpoint, is not filled up with what follows in this one.

With the cursor goes the log's time at that place; with a part, none: what a rebuild has not filled
in yet would look as if it had never been spent.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple, Protocol

from server.errors import LedgerError
from server.ledger import checkpoints, wal
from server.ledger.checkpoints import Checkpoint
from server.ledger.counter import Counter
from server.ledger.folder import Folder
from server.store import buckets
from server.store.buckets import Totals
from server.store.counts import TORN

STEP_BYTES: Final = 8 << 20  # of log a step: some 30,000 events, 80 ms to count
TOUCHED_MAX: Final = 4_000  # combinations a step, with two or three fields each
FIELDS_MAX: Final = 10_000  # a script: Redis answers nobody else for some 5 ms meanwhile


class Cursor(NamedTuple):
    wal_id: str
    lsn: int
    part: int = 0

    def __str__(self) -> str:
        return f"{self.wal_id}:{self.lsn}:{self.part}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """LedgerError if it is none of ours."""
        match text.split(":"):
            case [wal_id, lsn, part] if lsn.isdecimal() and part.isdecimal():
                return cls(wal_id, int(lsn), int(part))
        raise LedgerError(f"Redis has the cursor {text!r}, which is none of ours")


class Counts(Protocol):
    """What is asked of `server.store.counts.CountsStore`."""

    def cursor(self) -> str: ...
    def apply(
        self, expected: str, following: str, deltas: Totals, time_s: int | None
    ) -> str | None: ...
    def clear(self, expected: str, following: str) -> str | None: ...


class Saving(NamedTuple):
    """What a checkpoint is made of: the rest of `checkpoints.write`'s arguments, in order."""

    lsn: int
    base: Checkpoint | None
    counter: Counter
    since: Totals


class _Step(NamedTuple):
    expected: str
    following: str
    deltas: Totals
    time_s: int | None  # the log's, where the counts stand for it afterwards


class Applier:
    """Counts one log. `advance` does one step; a StoreError from it says: again, later."""

    def __init__(self, log: Folder, state: Folder, counts: Counts, wal_id: str) -> None:
        self.lsn = -1  # counted up to here; -1 until Redis has said where it is
        self.rewinds = self.rebuilds = 0
        self.base: Checkpoint | None = None
        self.since: Totals = {}  # counted since `base`
        self._log = log
        self._state = state
        self._counts = counts
        self._wal_id = wal_id
        self._counter = Counter()
        self._steps: list[_Step] = []  # counted, and not known to be in Redis

    @property
    def counter(self) -> Counter:
        return self._counter

    @property
    def is_settled(self) -> bool:
        """Whether Redis has all that was counted: only then does a checkpoint stand for it."""
        return self.lsn >= 0 and not self._steps

    def advance(self, durable: int) -> bool:
        """Count and apply one step of the log up to `durable`; False when there was nothing."""
        if self.lsn < 0:
            self._meet(self._counts.cursor(), durable)
            return True
        if not self._steps:
            if self.lsn >= durable:
                return False
            self._count(durable)
        step = self._steps[0]
        found = self._counts.apply(*step)
        if found in (None, step.following):  # or a first try got through, whose answer did not
            del self._steps[0]
        else:
            self._meet(found, durable)
        return True

    def check(self, durable: int) -> None:
        """See whether Redis still is where we left it, when nothing else asks it."""
        if self.is_settled:
            found = self._counts.cursor()
            if found != str(Cursor(self._wal_id, self.lsn)):
                self._meet(found, durable)

    def start_again(self) -> None:
        """Begin where Redis is, from whatever checkpoint there is by now."""
        self.lsn = -1
        self._steps = []

    # -- checkpoints

    def begin_saving(self) -> Saving:
        """Give what a checkpoint at this moment is made of; only when settled."""
        self._counter.begin_saving()
        saving = Saving(self.lsn, self.base, self._counter, self.since)
        self.since = {}
        return saving

    def end_saving(self, saving: Saving, checkpoint: Checkpoint | None) -> None:
        """Build on the checkpoint that was written, or, without one, go on as before."""
        if saving.counter is not self._counter:
            return  # counting began again elsewhere meanwhile
        self._counter.end_saving(checkpoint is not None)
        if checkpoint is not None:
            self.base = checkpoint
            return
        buckets.add(self.since, saving.since)

    # -- counting

    def _count(self, durable: int) -> None:
        start = self.lsn
        for record in wal.read(self._log, start, durable):
            self._counter.take(wal.decode(record.body))
            self.lsn = record.end
            if self.lsn - start >= STEP_BYTES or self._counter.touched >= TOUCHED_MAX:
                break
        following = Cursor(self._wal_id, self.lsn)
        expected = str(Cursor(self._wal_id, start))
        deltas = self._drain()
        self._steps = [_Step(expected, str(following), deltas, self._counter.now_s)]

    def _drain(self) -> Totals:
        deltas = self._counter.drain()
        buckets.add(self.since, deltas)
        buckets.forget(self.since, self._counter.known_until_s)
        return deltas

    # -- meeting a cursor that is not where we left it

    def _meet(self, text: str, durable: int) -> None:
        found = Cursor.parse(text) if text not in ("", TORN) else None
        if found is not None and found.wal_id != self._wal_id:
            raise LedgerError(
                f"Redis has counts of the log {found.wal_id}, this is {self._wal_id}: "
                "give a new log a new shard"
            )
        if found is not None and found.lsn > durable:
            raise LedgerError(
                f"Redis has counted up to LSN {found.lsn}, and the log ends at {durable}: "
                "it has lost what was acked"
            )
        if found is None or found.part or not self._rewind(found.lsn):
            self._rebuild(text)

    def _rewind(self, lsn: int) -> bool:
        """Count again up to `lsn`, silently; False when no checkpoint and no log reach so far."""
        checkpoint = checkpoints.newest(self._state, self._wal_id, lsn)
        if checkpoint is None and wal.segments(self._log)[0] > 0:
            return False
        try:
            self._start_from(checkpoint)
        except LedgerError:
            return False  # one of its files is broken
        for record in wal.read(self._log, self.lsn, lsn):
            self._counter.take(wal.decode(record.body))
            self.lsn = record.end
            if self._counter.touched >= TOUCHED_MAX:
                self._drain()  # a long way back has many windows, and the old ones are forgotten
        if self.lsn != lsn:
            raise LedgerError(f"Redis has counted up to LSN {lsn}, where no record ends")
        self._drain()
        self.rewinds += 1
        return True

    def _rebuild(self, found: str) -> None:
        """Clear the counts, and plan to fill them with the newest checkpoint's totals."""
        checkpoint = checkpoints.newest(self._state, self._wal_id)
        if checkpoint is None and wal.segments(self._log)[0] > 0:
            raise LedgerError("Redis has lost the counts, and no checkpoint is left to begin with")
        self._start_from(checkpoint)
        at = Cursor(self._wal_id, 0)
        if self._counts.clear(found, str(at)) not in (None, str(at)):
            self.lsn = -1  # another cursor by now: look again
            return
        self.rebuilds += 1
        if checkpoint is None:
            return
        sums = checkpoints.totals(self._state, checkpoint)
        parts = [*_parts(dict(sums))] or [{}]
        for number, part in enumerate(parts, 1):
            is_last = number == len(parts)
            following = Cursor(self._wal_id, self.lsn, 0 if is_last else number)
            time_s = self._counter.now_s if is_last else None
            self._steps.append(_Step(str(at), str(following), part, time_s))
            at = following

    def _start_from(self, checkpoint: Checkpoint | None) -> None:
        self._counter = checkpoints.restore(self._state, checkpoint) if checkpoint else Counter()
        self.base = checkpoint
        self.lsn = checkpoint.lsn if checkpoint else 0
        self.since = {}
        self._steps = []


def _parts(deltas: Totals) -> Iterator[Totals]:
    """Cut into pieces of at most FIELDS_MAX fields."""
    part: Totals = {}
    room = FIELDS_MAX
    for bucket, fields in deltas.items():
        pairs = iter(fields.items())
        while piece := dict(islice(pairs, room)):
            part[bucket] = piece
            room -= len(piece)
            if room == 0:
                yield part
                part, room = {}, FIELDS_MAX
    if part:
        yield part
