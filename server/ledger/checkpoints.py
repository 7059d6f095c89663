"""Where counting may begin again: the counter's state and the totals at one place in the log.

A checkpoint is a small file that names others: one of ids for each hour and one of totals for each
bucket. What has not changed keeps the file that it had. All of it follows from the log; what it
saves is reading the log from its beginning.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from crc32c import crc32c
from msgspec import Struct

from server.errors import LedgerError
from server.ledger.counter import Counter
from server.ledger.folder import Folder
from server.store.buckets import Bucket, Totals, add_fields

KEPT: Final = 3  # the newest may lie ahead of a cursor that Redis took back
_SUFFIX: Final = ".checkpoint"
_CRC_BYTES: Final = 4


class Checkpoint(Struct, array_like=True, frozen=True):
    wal_id: str
    lsn: int
    state: bytes
    ids: dict[int, str]  # by hour, the file
    totals: dict[Bucket, str]


def newest(folder: Folder, wal_id: str, until: int | None = None) -> Checkpoint | None:
    """Find the newest whole checkpoint of this log, not beyond the LSN `until`."""
    lsns = reversed(_lsns(folder))
    return next(
        _whole(folder, wal_id, (lsn for lsn in lsns if until is None or lsn <= until)), None
    )


def kept(folder: Folder, wal_id: str) -> Iterator[Checkpoint]:
    """Give this log's whole checkpoints, the oldest first."""
    return _whole(folder, wal_id, _lsns(folder))


def _whole(folder: Folder, wal_id: str, lsns: Iterable[int]) -> Iterator[Checkpoint]:
    for lsn in lsns:
        try:
            checkpoint = msgspec.msgpack.decode(_read(folder, _name(lsn)), type=Checkpoint)
        except (LedgerError, msgspec.MsgspecError):
            continue  # the next one does as well
        if checkpoint.wal_id == wal_id:
            yield checkpoint


def restore(folder: Folder, checkpoint: Checkpoint) -> Counter:
    return Counter.restore(checkpoint.state, dict(ids(folder, checkpoint)))


def ids(folder: Folder, checkpoint: Checkpoint) -> Iterator[tuple[int, bytes]]:
    """Give each hour's ids as the counter dumped them."""
    for hour, name in sorted(checkpoint.ids.items()):
        yield hour, _read(folder, name)


def totals(folder: Folder, checkpoint: Checkpoint) -> Iterator[tuple[Bucket, dict[bytes, int]]]:
    """Give each bucket's totals."""
    for bucket, name in sorted(checkpoint.totals.items()):
        yield bucket, _totals(folder, name)


def write(
    folder: Folder,
    wal_id: str,
    lsn: int,
    base: Checkpoint | None,
    counter: Counter,
    since: Totals,
) -> Checkpoint:
    """Write a checkpoint at `lsn`, where `since` is what was counted after `base`.

    The counter was told `begin_saving` before, and is to be told `end_saving` after.
    """
    state, changed = counter.state()
    dumps = {
        hour: name
        for hour, name in (base.ids if base else {}).items()
        if hour in counter.known_hours() and hour not in changed
    }
    for hour, dumped in changed.items():
        dumps[hour] = _write(folder, f"ids-{hour}-{lsn:016x}", dumped)
    names = dict(base.totals) if base else {}
    for bucket in [bucket for bucket in names if bucket.is_over(counter.known_until_s)]:
        del names[bucket]
    for bucket, deltas in since.items():
        if not bucket.is_over(counter.known_until_s):
            sums = _totals(folder, names[bucket]) if bucket in names else {}
            add_fields(sums, deltas)
            place = f"totals-{bucket}-{lsn:016x}".replace(":", "-")
            names[bucket] = _write(folder, place, msgspec.msgpack.encode(sums))
    checkpoint = Checkpoint(wal_id, lsn, state, dumps, names)
    _write(folder, _name(lsn), msgspec.msgpack.encode(checkpoint))
    _sweep(folder, wal_id, lsn)
    return checkpoint


def _sweep(folder: Folder, wal_id: str, written: int) -> None:
    """Remove all but the newest checkpoints, and what none of those needs."""
    # What was written last is what the next one builds on, though Redis may have been taken back so
    # far that there are newer ones.
    kept = sorted({*_lsns(folder)[-KEPT:], written})
    needed = {_name(lsn) for lsn in kept}
    for lsn in kept:
        checkpoint = newest(folder, wal_id, lsn)
        if checkpoint is not None:
            needed.update(checkpoint.ids.values(), checkpoint.totals.values())
    old = [name for name in folder.names() if name not in needed]
    # First what names others: none may come back, after a crash, without what it needs.
    for name in sorted(old, key=lambda name: not name.endswith(_SUFFIX)):
        if not name.endswith(_SUFFIX):
            folder.sync_names()
        folder.remove(name)


def _lsns(folder: Folder) -> list[int]:
    names = (name for name in folder.names() if name.endswith(_SUFFIX))
    return [int(name.removesuffix(_SUFFIX), 16) for name in names]


def _name(lsn: int) -> str:
    return f"{lsn:016x}{_SUFFIX}"


def _totals(folder: Folder, name: str) -> dict[bytes, int]:
    return msgspec.msgpack.decode(_read(folder, name), type=dict[bytes, int])


def _write(folder: Folder, name: str, content: bytes) -> str:
    folder.replace(name, content + crc32c(content).to_bytes(_CRC_BYTES, "big"))
    return name


def _read(folder: Folder, name: str) -> bytes:
    try:
        raw = folder.read(name)
    except FileNotFoundError:
        raise LedgerError(f"{name} is missing") from None
    content, crc = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:]
    if len(crc) < _CRC_BYTES or crc32c(content).to_bytes(_CRC_BYTES, "big") != crc:
        raise LedgerError(f"{name} is broken")
    return content
