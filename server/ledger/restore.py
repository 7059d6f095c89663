"""Brings a shard's log back from the archive, when its disk is lost.

    archive ─► read through, every record ─► segments, in order ─► Redis begins anew at LSN 0

What was acked and not archived by then is lost. Redis may have counted some of it: its cursor then
lies beyond the end of what is left, and the counter would rightly refuse to go on. So the counts
are cleared, and made again from what is there; after that they agree with the log again.
"""

from typing import Final

from msgspec import Struct

from server.errors import ArchiveError, LedgerError
from server.ledger import wal
from server.ledger.applier import Cursor
from server.ledger.archive import Remote, WholeLog
from server.ledger.folder import Folder
from server.store.counts import TORN, CountsStore

_UNKNOWN: Final = ("", TORN)  # the counter clears these by itself


class Restored(Struct):
    segments: int
    end: int  # the LSN at which the log ends now
    counted: int | None = None  # up to where Redis had counted, if that was beyond the end


def restore(log: Folder, remote: Remote, shard: int, counts: CountsStore) -> Restored:
    """Fill an empty folder with the archived log; a folder that was half filled is filled up.

    ArchiveError, with nothing changed, when the archive has no whole log of this shard, or when the
    folder or Redis holds another one.
    """
    place = f"wal/shard-{shard}"
    claim = remote.get(f"{place}/log")
    if not claim:
        raise ArchiveError(f"the archive has no log of shard {shard}")
    wal_id = claim.decode()
    for name in log.names():
        if name.endswith(".wal") and log.read(name) != remote.get(f"{place}/{name}"):
            raise ArchiveError(f"{name} is here and is not what the archive has: not overwritten")
    cursor = counts.cursor()
    found = Cursor.parse(cursor) if cursor not in _UNKNOWN else None
    if found is not None and found.wal_id != wal_id:
        raise ArchiveError(
            f"Redis has counts of the log {found.wal_id}, the archive has {wal_id}:"
            " an empty aggregator was started in its place, and its log must be kept"
        )
    whole = WholeLog(log, remote, shard)
    known = wal.segments(whole)
    if not known:
        raise ArchiveError(f"the archive has no segment of shard {shard}")
    end = known[-1] + len(whole.read(wal.segment_name(known[-1])))
    try:
        for _ in wal.read(whole, 0, end):
            pass
    except LedgerError as error:
        raise ArchiveError(f"the archive's log is not whole: {error}") from error
    here = {*log.names()}
    for name in map(wal.segment_name, known):
        if name not in here:
            log.replace(name, whole.read(name))
    restored = Restored(len(known), end)
    if found is not None and found.lsn > end:
        restored.counted = found.lsn
        if counts.clear(cursor, str(Cursor(wal_id, 0))) is not None:
            raise ArchiveError("an aggregator is counting this shard: stop it, and restore again")
    return restored
