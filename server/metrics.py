"""Counters, gauges and histograms, in one mapped file a process: adding one costs 80 ns.

`metrics-{process}.bin` in the run folder is an array of native uint64 slots, numbered by the table
below. Its only writer is the process that it is named after, and there one thread for each slot, so
nothing is locked; a reader sees an aligned slot either before or after a write, and sums over the
files. A worker that takes a dead one's place goes on with its file: no counter goes down while the
server lives.
"""

import mmap
import os
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from server.families import (
    BEACONS,
    CACHE_LOOKUPS,
    DIRECT_DISPATCH,
    LEASE_AT_S,
    LEASE_CALLS,
    LEASE_LINES,
    LEASE_REFUSALS,
    LEASE_UNITS,
    LEASE_UNKNOWN,
    LEASES_HELD,
    MAIN,
    OTHER,
    PLAN_MADE_AT_S,
    REDIS_FAILURES,
    REDIS_UP,
    RESTARTS,
    SERVING_GENERATION,
    SLOT_BYTES,
    SNAPSHOT_GENERATION,
    SNAPSHOT_LOADED_S,
    SNAPSHOTS_LOADED,
    SNAPSHOTS_REFUSED,
    SPOOL_AGE_S,
    SPOOL_BYTES,
    SPOOL_BYTES_MAX,
    SPOOL_FRAMES,
    START_S,
    STOPPING,
    TABLE,
    Family,
)

# -- writing ---------------------------------------------------------------------------------------


def _by_label(family: Family, *fixed: str) -> dict[str, int]:
    """Slots by the value of the last label, the ones before it fixed."""
    return {value: family.slot(*fixed, value) for value in [*family.labels.values()][-1]}


_REFUSED: Final = _by_label(SNAPSHOTS_REFUSED)
_BEACON: Final = {kind: _by_label(BEACONS, kind) for kind in BEACONS.labels["kind"]}
_CALLED: Final = _by_label(LEASE_CALLS)
_STOPPING: Final = STOPPING.slot()


class Metrics:
    """What one process writes. `slots` is the file itself: `metrics.slots[slot] += 1`.

    `of_main` are the parent's, which tells its workers by them that it is stopping. What each
    request counts is written by `delivery/tally.pyx`.
    """

    def __init__(self, run_dir: Path, process: str) -> None:
        self.slots = _map(run_dir, process)
        self.of_main = self.slots if process == MAIN else _map(run_dir, MAIN)
        # Counters go on where a process of the same name left them; a gauge is of the living.
        for family in TABLE.families:
            if family.kind == "gauge":
                self.slots[family.start] = 0
        self._before = self.slots.tolist()

    # -- a worker's

    def tracked(self, kind: str, outcome: str) -> None:
        of_kind = _BEACON[kind]
        self.slots[of_kind.get(outcome, of_kind[OTHER])] += 1

    def spooled(self, folder_bytes: int, written: int, shed: int, failed: int) -> None:
        """Take over the spool's own counts, which begin with the process."""
        self.slots[SPOOL_BYTES.start] = folder_bytes
        for result, count in (("written", written), ("shed", shed), ("failed", failed)):
            self._raise_to(SPOOL_FRAMES.slot(result), count)

    def spool_left(self, left_s: int, bytes_max: int) -> None:
        self.slots[SPOOL_AGE_S.start] = left_s
        self.slots[SPOOL_BYTES_MAX.start] = bytes_max

    def looked_up(self, cache: str, hits: int, misses: int) -> None:
        """Take over a cache's own counts, which begin with the process."""
        self._raise_to(CACHE_LOOKUPS.slot(cache, "hit"), hits)
        self._raise_to(CACHE_LOOKUPS.slot(cache, "miss"), misses)

    def serving(self, generation: int) -> None:
        self.slots[SERVING_GENERATION.start] = generation

    def direct(self, dispatches: bool) -> None:
        self.slots[DIRECT_DISPATCH.start] = dispatches

    def leases_refused(self, count: int) -> None:
        """Take over the worker's own count, which begins with the process."""
        self._raise_to(LEASE_REFUSALS.start, count)

    def planned(self, made_at_s: int) -> None:
        self.slots[PLAN_MADE_AT_S.start] = made_at_s

    # -- the agent's

    def lease_called(self, result: str) -> None:
        self.slots[_CALLED.get(result, _CALLED[OTHER])] += 1

    def leases_granted(self, units: int, unopened: int, now_s: int) -> None:
        self.slots[LEASE_UNITS.slot("granted")] += units
        self.slots[LEASE_UNKNOWN.start] += unopened
        self.slots[LEASE_AT_S.start] = now_s

    def leases_returned(self, units: int) -> None:
        self.slots[LEASE_UNITS.slot("returned")] += units

    def leases_held(self, units: int, line_items: int) -> None:
        self.slots[LEASES_HELD.start] = units
        self.slots[LEASE_LINES.start] = line_items

    # -- the loader's

    def snapshot_loaded(self, generation: int, now_s: int) -> None:
        self.slots[SNAPSHOTS_LOADED.start] += 1
        self.slots[SNAPSHOT_GENERATION.start] = generation
        self.slots[SNAPSHOT_LOADED_S.start] = now_s

    def snapshot_refused(self, reason: str) -> None:
        self.slots[_REFUSED.get(reason, _REFUSED[OTHER])] += 1

    def redis_state(self, up: bool) -> None:
        self.slots[REDIS_UP.start] = up
        self.slots[REDIS_FAILURES.start] += not up

    # -- the parent's

    def started(self, now_s: int) -> None:
        self.slots[START_S.start] = now_s

    def restarted(self, role: str, count: int = 1) -> None:
        self.slots[RESTARTS.slot(role)] += count

    def stopping(self, phase: int) -> None:
        self.slots[_STOPPING] = phase

    def observe(self, histogram: Family, value_ns: int) -> None:
        self.slots[histogram.start + bisect_left(histogram.bounds, value_ns)] += 1
        self.slots[histogram.end - 1] += value_ns

    def _raise_to(self, slot: int, count: int) -> None:
        self.slots[slot] = self._before[slot] + count


def _map(run_dir: Path, process: str) -> memoryview:
    """Map a file, made at full size when it is new."""
    size = TABLE.slots * SLOT_BYTES
    handle = os.open(_path(run_dir, process), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(handle, size)
        return memoryview(mmap.mmap(handle, size)).cast("Q")
    finally:
        os.close(handle)


def _path(run_dir: Path, process: str) -> Path:
    return run_dir / f"metrics-{process}.bin"


# -- reading ---------------------------------------------------------------------------------------


class Totals:
    """All processes of a server at one moment, summed."""

    def __init__(self, slots_of: dict[str, Sequence[int]]) -> None:
        self.slots_of = slots_of
        columns = zip([0] * TABLE.slots, *slots_of.values(), strict=True)
        self._sums: list[int] = [sum(column) for column in columns]

    def value(self, family: Family, *labels: str) -> int:
        if family.kind == "gauge":
            said = self._said(family)
            return family.merge(said) if said else 0
        return self._sums[family.slot(*labels)]

    def is_said(self, family: Family) -> bool:
        """Whether there is a process to say it: a forwarder's "Redis is down" means nothing."""
        return family.kind != "gauge" or bool(self._said(family))

    def _said(self, family: Family) -> list[int]:
        return [
            slots[family.start]
            for process, slots in self.slots_of.items()
            if process.partition("-")[0] == family.role
        ]

    def buckets(self, family: Family) -> list[int]:
        """How many values fell into each bucket of a histogram, the one without a bound last."""
        return self._sums[family.start : family.end - 1]

    def sum_ns(self, family: Family) -> int:
        return self._sums[family.end - 1]

    def quantile_ns(self, family: Family, share: float) -> float | None:
        """Estimate what `share` of the values lie below, taking each bucket as evenly filled.

        None without values. One beyond the last bound counts as that bound.
        """
        counts = self.buckets(family)
        wanted = share * sum(counts)
        low = below = 0
        for count, bound in zip(counts, family.bounds, strict=False):
            if count and below + count >= wanted:
                return low + (bound - low) * (wanted - below) / count
            below += count
            low = bound
        return float(low) if counts[-1] else None


def totals(run_dir: Path) -> Totals:
    """Read what the processes of this server have written so far."""
    found: dict[str, Sequence[int]] = {}
    for path in sorted(run_dir.glob(_path(Path(), "*").name)):
        slots = array("Q", path.read_bytes())
        # A file is made empty and grows at once: between the two there is nothing in it.
        if len(slots) == TABLE.slots:
            found[path.stem.partition("-")[2]] = slots
    return Totals(found)
