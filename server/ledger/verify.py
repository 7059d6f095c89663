"""Whether a checkpoint is what the log says, before anything in front of it may go.

A second count, which shares nothing with the applier's but the code, follows the log from its
beginning and keeps checkpoints of its own. At the oldest one that the applier keeps, both must have
the same state, ids and totals.
"""

from hashlib import sha256

import msgspec
from msgspec import Struct

from server.errors import LedgerError
from server.ledger import checkpoints, wal
from server.ledger.checkpoints import Checkpoint
from server.ledger.counter import Counter
from server.ledger.folder import Folder, Readable
from server.ledger.reconcile import Recount, name_of
from server.store.buckets import Bucket, hour


class _Content(Struct, frozen=True):
    """A checkpoint by its digests: it may be swept away while we count."""

    state: bytes
    ids: dict[Bucket, bytes]  # of hours
    totals: dict[Bucket, bytes]


def verify(log: Readable, state: Folder, own: Folder, wal_id: str) -> int:
    """Give the LSN of the oldest checkpoint kept in `state`, once it is known to be right.

    `own` holds the second count, which goes on to that place. 0 when there is no checkpoint.
    LedgerError when the two differ, or when there is nothing to count from.
    """
    oldest = _oldest(state, wal_id)
    if oldest is None:
        return 0
    lsn, expected = oldest
    ours = checkpoints.newest(own, wal_id)
    if ours is not None and ours.lsn > lsn:
        return lsn
    # One that is there already is compared again: whoever wrote it may have been killed before.
    if ours is None or ours.lsn < lsn:
        ours = _counted(log, own, wal_id, ours, lsn)
    if difference := _difference(expected, _content(own, ours)):
        raise LedgerError(f"the checkpoint at LSN {lsn} is not what the log says: its {difference}")
    return lsn


def _counted(
    log: Readable, own: Folder, wal_id: str, base: Checkpoint | None, lsn: int
) -> Checkpoint:
    """Count on from `base` to `lsn`, and write that down."""
    if base is None and wal.segments(log)[0] > 0:
        raise LedgerError("the log has lost its beginning, and there is no second count of it")
    counter = checkpoints.restore(own, base) if base else Counter()
    recount = Recount(log, base.lsn if base else 0, counter, {})
    recount.advance(lsn)
    counter.begin_saving()
    return checkpoints.write(own, wal_id, lsn, base, counter, recount.totals)


def _oldest(state: Folder, wal_id: str) -> tuple[int, _Content] | None:
    for checkpoint in checkpoints.kept(state, wal_id):
        try:
            return checkpoint.lsn, _content(state, checkpoint)
        except LedgerError:
            continue  # swept away meanwhile, or broken: the next one does as well
    return None


def _content(folder: Folder, checkpoint: Checkpoint) -> _Content:
    return _Content(
        checkpoint.state,
        {
            hour(number): sha256(dumped).digest()
            for number, dumped in checkpoints.ids(folder, checkpoint)
        },
        {
            bucket: sha256(msgspec.msgpack.encode(sorted(sums.items()))).digest()
            for bucket, sums in checkpoints.totals(folder, checkpoint)
        },
    )


def _difference(theirs: _Content, ours: _Content) -> str:
    """Name the first part that differs, or nothing."""
    for name in ("ids", "totals"):
        found, wanted = getattr(theirs, name), getattr(ours, name)
        for bucket in sorted(found.keys() | wanted.keys()):
            if found.get(bucket) != wanted.get(bucket):
                return f"{name} of {name_of(bucket)}"
    return "" if theirs.state == ours.state else "state"
