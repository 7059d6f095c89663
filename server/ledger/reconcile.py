"""Whether the counts in Redis are what the log says, bit for bit.

    each hour in Redis, with its cursor ─┐
                                         ├─► at that cursor, field by field ─► differences
    the log, counted afresh ─────────────┘

An hour is read together with its cursor, and compared when the recount has come to just that place
in the log: so nothing has to stand still meanwhile. The recount trusts nothing that the applier
wrote, unless the log no longer goes back to its beginning: then it starts from the oldest
checkpoint that is left, which was verified before anything in front of it was removed.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from server.errors import LedgerError
from server.ledger import checkpoints, wal
from server.ledger.applier import Cursor
from server.ledger.checkpoints import Totals
from server.ledger.counter import Counter
from server.ledger.folder import Folder, Readable
from server.store.counts import KEPT_S, TORN

DIFFERENCES_MAX: Final = 10_000  # named; the rest is only counted: nobody reads more
HOUR_S: Final = 3600


class Counts(Protocol):
    """What is asked of `server.store.counts.CountsStore`."""

    def cursor(self) -> str: ...
    def hours(self) -> list[int]: ...
    def read(self, hours: list[int]) -> Iterable[tuple[int, str, dict[bytes, int]]]: ...


class Difference(NamedTuple):
    hour: int
    line_item_id: int
    creative_id: int
    site_id: int
    measure: str
    log: int | None  # None: it has no such field; a field of 0 is written by nobody
    redis: int | None


class Reconciled(Struct, kw_only=True):
    wal_id: str
    from_lsn: int  # where the recount began
    lsn: int  # and how far it went
    hours: int = 0
    fields: int = 0
    expired: int = 0  # hours that Redis has forgotten, as it should
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
        except FileNotFoundError:
            raise LedgerError("a segment was archived meanwhile: try again") from None
        if self.lsn != lsn:
            raise LedgerError(f"Redis has counted up to LSN {lsn}, where no record ends")
        for hour, fields in self.counter.drain().items():
            checkpoints.add(self.totals.setdefault(hour, {}), fields)


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
    """Compare every hour that the log or Redis has. LedgerError when the two can't be compared."""
    result = Reconciled(wal_id=wal_id, from_lsn=recount.from_lsn, lsn=recount.lsn)
    read: set[int] = set()
    recount.advance(_lsn(counts.cursor(), wal_id))
    wanted = {*counts.hours()}
    # What the log has and Redis does not list is lost there, or new since we asked.
    while wanted := (wanted | recount.totals.keys()) - read:
        found = [
            (_lsn(cursor, wal_id), hour, fields)
            for hour, cursor, fields in counts.read(sorted(wanted))
        ]
        for lsn, hour, fields in sorted(found, key=lambda each: each[:2]):
            recount.advance(lsn)
            _compare(result, hour, recount.totals.get(hour, {}), fields, now_s)
            read.add(hour)
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
    result: Reconciled, hour: int, log: dict[bytes, int], redis: dict[bytes, int], now_s: int
) -> None:
    if not redis and (hour + 1) * HOUR_S + KEPT_S < now_s:
        result.expired += 1
        return
    result.hours += 1
    result.fields += len(log)
    if log == redis:
        return
    for field in sorted(log.keys() | redis.keys()):
        if log.get(field) != redis.get(field):
            if len(result.differences) < DIFFERENCES_MAX:
                result.differences.append(_difference(hour, field, log, redis))
            else:
                result.unnamed += 1


def _difference(
    hour: int, field: bytes, log: dict[bytes, int], redis: dict[bytes, int]
) -> Difference:
    try:
        line, creative, site, measure = field.split(b".", 3)
        ids = (int(line), int(creative), int(site))
    except ValueError:
        raise LedgerError(f"Redis has the count {field!r}, which is none of ours") from None
    name = measure.decode(errors="backslashreplace")
    return Difference(hour, *ids, name, log.get(field), redis.get(field))
