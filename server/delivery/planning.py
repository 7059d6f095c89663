"""The plan file: rates and probabilities of line items, as control has them, for workers to map.

    magic, version, made_at_s, count, which columns follow the rates: u64 each
    ids, rates in ppm, probabilities in ppm (-1: as booked), multipliers in ppm: count int64 each

The agent writes `plan-VERSION-MADE_AT.bin` and moves the link `plan` to it. A plan is advice:
without one, or with one so old that nobody seems to make them any more, leases alone decide.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import Final

from server.errors import SnapshotError

PLAN_AGE_MAX_S: Final = 120  # 24 plans were not made, or did not arrive
LINK: Final = "plan"

_MAGIC: Final = int.from_bytes(b"adplan\x00\x02", "little")
_PROBABILITIES: Final = 1
_MULTIPLIERS: Final = 2
_HEAD: Final = struct.Struct("<5Q")
_NUMBER_BYTES: Final = 8


class PlanFile:
    """A mapped plan. The mapping lives as long as anything cut from it."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            head: tuple[int, ...] = _HEAD.unpack_from(view)
        except (OSError, ValueError, struct.error) as error:
            raise SnapshotError("missing", f"{path.name}: {error}") from None
        magic, self.version, self.made_at_s, count, more = head
        columns = view[_HEAD.size :]
        if magic != _MAGIC or len(columns) != _NUMBER_BYTES * count * (2 + more.bit_count()):
            raise SnapshotError("decode", f"{path.name} is no plan of this version")
        numbers = columns.cast("q")
        self.ids = numbers[:count]
        self.rates_ppm = numbers[count : 2 * count]
        # Only what is other than booked is there: with either of them a select looks further.
        place = 2 * count
        self.probabilities_ppm = numbers[place : place + count] if more & _PROBABILITIES else None
        place += count if more & _PROBABILITIES else 0
        self.multipliers_ppm = numbers[place:] if more & _MULTIPLIERS else None

    def serves(self, now_s: int) -> bool:
        """Tell whether it is young enough to go by."""
        return now_s <= self.made_at_s + PLAN_AGE_MAX_S


def write(
    run_dir: Path,
    version: int,
    made_at_s: int,
    ids: bytes,
    rates: bytes,
    probabilities: bytes,
    multipliers: bytes = b"",
) -> None:
    """Make a plan current; the columns are int64 in this machine's byte order."""
    columns, more = [ids, rates], 0
    if probabilities.strip(b"\xff"):  # else all are -1: nobody's score is other than was booked
        columns.append(probabilities)
        more |= _PROBABILITIES
    if multipliers:
        columns.append(multipliers)
        more |= _MULTIPLIERS
    if len({len(column) for column in columns}) != 1 or len(ids) % _NUMBER_BYTES:
        raise SnapshotError("decode", f"plan {version}: columns of different sizes")
    count = len(ids) // _NUMBER_BYTES
    # A Redis that was wiped counts from 1 again: the number alone does not tell a plan.
    path = run_dir / f"plan-{version}-{made_at_s}.bin"
    temporary = path.with_suffix(".tmp")
    head = _HEAD.pack(_MAGIC, version, made_at_s, count, more)
    temporary.write_bytes(b"".join((head, *columns)))
    temporary.rename(path)
    link = run_dir / f"{LINK}.tmp"
    link.unlink(missing_ok=True)
    os.symlink(path.name, link)
    link.rename(run_dir / LINK)
    # A mapped file lives on without its name; the one before may be about to be opened.
    plans = sorted(run_dir.glob("plan-*.bin"), key=lambda plan: plan.stat().st_mtime_ns)
    for old in plans[:-2]:
        old.unlink(missing_ok=True)


def current(run_dir: Path) -> str:
    """The name of the current plan's file; empty when there was none yet."""
    try:
        return os.readlink(run_dir / LINK)
    except OSError:
        return ""
