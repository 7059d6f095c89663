"""Whether a checkpoint is what the log says, before anything in front of it may go.

A second count, which shares nothing with the applier's but the code, follows the log from its
beginning and keeps checkpoints of its own. At the oldest one that the applier keeps, both must have
the same state, ids and totals.
"""

from datetime import UTC, datetime
from hashlib import sha256

import msgspec
from msgspec import Struct

from server.errors import LedgerError
from server.ledger import checkpoints, wal
from server.ledger.checkpoints import Checkpoint
from server.ledger.counter import Counter
from server.ledger.folder import Folder, Readable
from server.ledger.reconcile import HOUR_S, Recount


class _Content(Struct, frozen=True):
    """A checkpoint by its digests: it may be swept away while we count."""

    state: bytes
    ids: dict[int, bytes]  # by hour
    totals: dict[int, bytes]


def verify(log: Readable, state: Folder, own: Folder, wal_id: str) -> int:
    """Give the LSN up to which checkpoints are right, after counting further if there is a newer.

    `own` holds the second count. LedgerError when the two differ, or when there is nothing to
    count from.
    """
    base = checkpoints.newest(own, wal_id)
    theirs = next(checkpoints.kept(state, wal_id), None)
    done = base.lsn if base else 0
    if theirs is None or theirs.lsn <= done:
        return done
    expected = _content(state, theirs)
    if base is None and wal.segments(log)[0] > 0:
        raise LedgerError("the log has lost its beginning, and there is no second count of it")
    counter = checkpoints.restore(own, base) if base else Counter()
    recount = Recount(log, done, counter, {})
    recount.advance(theirs.lsn)
    counter.begin_saving()
    ours = checkpoints.write(own, wal_id, theirs.lsn, base, counter, recount.totals)
    if difference := _difference(expected, _content(own, ours)):
        checkpoints.remove(own, ours)
        raise LedgerError(
            f"the checkpoint at LSN {theirs.lsn} is not what the log says: its {difference}"
        )
    return ours.lsn


def _content(folder: Folder, checkpoint: Checkpoint) -> _Content:
    return _Content(
        checkpoint.state,
        {hour: sha256(dumped).digest() for hour, dumped in checkpoints.ids(folder, checkpoint)},
        {
            hour: sha256(msgspec.msgpack.encode(sorted(sums.items()))).digest()
            for hour, sums in checkpoints.totals(folder, checkpoint)
        },
    )


def _difference(theirs: _Content, ours: _Content) -> str:
    """Name the first part that differs, or nothing."""
    for name in ("ids", "totals"):
        found, wanted = getattr(theirs, name), getattr(ours, name)
        for hour in sorted(found.keys() | wanted.keys()):
            if found.get(hour) != wanted.get(hour):
                return f"{name} of {datetime.fromtimestamp(hour * HOUR_S, UTC):%Y-%m-%dT%H:%MZ}"
    return "" if theirs.state == ours.state else "state"
