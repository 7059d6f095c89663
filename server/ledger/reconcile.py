"""Whether the counts in Redis are what the log says, bit for bit.

    each bucket in Redis, with its cursor ─┐
                                           ├─► at that cursor, field by field ─► differences
    the log, counted afresh ───────────────┘

A bucket is read together with its cursor, and compared when the recount has come to just that place
in the log: so nothing has to stand still meanwhile. The recount trusts nothing that the applier
wrote, unless the log no longer goes back to its beginning: then it starts from the oldest
checkpoint that is left, which was verified before anything in front of it was removed.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from server.errors import LedgerError
from server.ledger import checkpoints, wal
from server.ledger.applier import TOUCHED_MAX, Cursor
from server.ledger.counter import Counter
from server.ledger.folder import Folder, Readable
from server.store import buckets
from server.store.buckets import HOUR, SPANS, Bucket, Totals
from server.store.counts import TORN

EXIT_DIFFERS: Final = 3  # of the command: apart from what could not be compared
DIFFERENCES_MAX: Final = 10_000  # named; the rest is only counted: nobody reads more
TIME: Final = Bucket("time")  # no bucket: the log's time that Redis has beside its cursor


class Counts(Protocol):
    """What is asked of `server.store.counts.CountsStore`."""

    def place(self) -> tuple[str, int | None]: ...
    def buckets(self) -> list[Bucket]: ...
    def read_buckets(
        self, buckets: Iterable[Bucket]
    ) -> Iterable[tuple[Bucket, str, dict[bytes, int]]]: ...


class Difference(NamedTuple):
    bucket: Bucket
    line_item_id: int
    creative_id: int  # 0 but in an hour, as is the site
    site_id: int
    measure: str
    log: int | None  # None: it has no such field; a field of 0 is written by nobody
    redis: int | None


class Reconciled(Struct, kw_only=True):
    wal_id: str
    from_lsn: int  # where the recount began
    lsn: int  # and how far it went
    buckets: int = 0
    fields: int = 0
    expired: int = 0  # buckets that Redis has forgotten, as it should
    differences: list[Difference] = []
    unnamed: int = 0  # differences beyond DIFFERENCES_MAX


class Recount:
    """A count of the log from one place on, beside the one that Redis has."""

    def __init__(self, log: Readable, lsn: int, counter: Counter, totals: Totals) -> None:
        self.lsn = self.from_lsn = lsn
        self.counter = counter
        self.totals = totals
        self._log = log

    def advance(self, lsn: int) -> None:
        """Count up to `lsn`, where a record must end."""
        if lsn < self.lsn:
            raise LedgerError(f"Redis went back to LSN {lsn} meanwhile: try again")
        if lsn > (durable := wal.durable_mark(self._log)):
            raise LedgerError(f"Redis has counted up to LSN {lsn}, the log ends at {durable}")
        try:
            for record in wal.read(self._log, self.lsn, lsn):
                self.counter.take(wal.decode(record.body))
                self.lsn = record.end
                if self.counter.touched >= TOUCHED_MAX:
                    self._drain()
        except FileNotFoundError:
            raise LedgerError("a segment was archived meanwhile: try again") from None
        if self.lsn != lsn:
            raise LedgerError(f"Redis has counted up to LSN {lsn}, where no record ends")
        self._drain()

    def is_forgotten(self, bucket: Bucket) -> bool:
        """Whether it is too old to be told from the log: a checkpoint may have dropped it."""
        return bucket.is_over(self.counter.known_until_s)

    def _drain(self) -> None:
        buckets.add(self.totals, self.counter.drain())
        buckets.forget(self.totals, self.counter.known_until_s)


def begin(log: Readable, state: Folder, wal_id: str) -> Recount:
    """Begin at the log's beginning or, when that is gone, at the oldest checkpoint."""
    first = wal.segments(log)[0]
    if first == 0:
        return Recount(log, 0, Counter(), {})
    for checkpoint in checkpoints.kept(state, wal_id):
        if checkpoint.lsn < first:
            continue
        try:
            totals = dict(checkpoints.totals(state, checkpoint))
            return Recount(log, checkpoint.lsn, checkpoints.restore(state, checkpoint), totals)
        except LedgerError:
            continue  # swept away meanwhile, or broken: the next one does as well
    raise LedgerError(f"the log begins at LSN {first}, and no checkpoint is left to begin with")


def reconcile(recount: Recount, counts: Counts, wal_id: str, now_s: int) -> Reconciled:
    """Compare all that the log or Redis has. LedgerError when the two can't be compared."""
    result = Reconciled(wal_id=wal_id, from_lsn=recount.from_lsn, lsn=recount.lsn)
    read: set[Bucket] = set()
    cursor, time_s = counts.place()
    recount.advance(_lsn(cursor, wal_id))
    if time_s != recount.counter.now_s:
        result.differences.append(
            Difference(TIME, 0, 0, 0, "seconds", recount.counter.now_s, time_s)
        )
    wanted = {*counts.buckets()}
    # What the log has and Redis does not list is lost there, or new since we asked.
    while wanted := (wanted | recount.totals.keys()) - read:
        found = [
            (_lsn(cursor, wal_id), bucket, fields)
            for bucket, cursor, fields in counts.read_buckets(sorted(wanted))
        ]
        for lsn, bucket, fields in sorted(found, key=lambda each: each[:2]):
            recount.advance(lsn)
            read.add(bucket)
            if recount.is_forgotten(bucket) or (not fields and bucket.is_over(now_s)):
                result.expired += 1
            else:
                _compare(result, bucket, recount.totals.get(bucket, {}), fields)
    result.lsn = recount.lsn
    return result


def _lsn(text: str, wal_id: str) -> int:
    """Read a cursor of which counts can be compared."""
    if not text:
        raise LedgerError("Redis has no counts of this shard")
    if text == TORN:
        raise LedgerError("the counts in Redis are torn, and will be rebuilt: try again")
    cursor = Cursor.parse(text)
    if cursor.wal_id != wal_id:
        raise LedgerError(f"Redis has counts of the log {cursor.wal_id}, this is {wal_id}")
    if cursor.part:
        raise LedgerError("the counts in Redis are being rebuilt: try again")
    return cursor.lsn


def _compare(
    result: Reconciled, bucket: Bucket, log: dict[bytes, int], redis: dict[bytes, int]
) -> None:
    result.buckets += 1
    result.fields += len(log)
    if log == redis:
        return
    for field in sorted(log.keys() | redis.keys()):
        if log.get(field) != redis.get(field):
            if len(result.differences) < DIFFERENCES_MAX:
                result.differences.append(_difference(bucket, field, log, redis))
            else:
                result.unnamed += 1


def _difference(
    bucket: Bucket, field: bytes, log: dict[bytes, int], redis: dict[bytes, int]
) -> Difference:
    try:
        if bucket.kind == HOUR:
            line, creative, site, measure = field.split(b".", 3)
        else:
            (line, measure), creative, site = field.split(b".", 1), b"0", b"0"
        ids = (int(line), int(creative), int(site))
    except ValueError:
        raise LedgerError(f"Redis has the count {field!r}, which is none of ours") from None
    name = measure.decode(errors="backslashreplace")
    return Difference(bucket, *ids, name, log.get(field), redis.get(field))


def name_of(bucket: Bucket) -> str:
    """Say which, to a person; an hour by its time alone."""
    if bucket.kind not in SPANS:
        return bucket.kind
    start = datetime.fromtimestamp(bucket.start_s, UTC)
    if bucket.kind == HOUR:
        return f"{start:%Y-%m-%dT%H:%MZ}"
    return f"{bucket.kind} {start:%Y-%m-%dT%H:%M:%SZ}"
