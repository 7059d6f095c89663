"""What the leader of `adcore control` does: one call a second, which waits for Redis alone."""

import logging
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from server.clock import perf_ns
from server.errors import AdcoreError, SnapshotError
from server.events.leases import window_start_s
from server.families import (
    ACCOUNTS_OPENED,
    BUDGET_RESETS,
    CONTROL_GENERATION,
    CONTROL_PLAN_AT_S,
    CONTROL_PLAN_LINES,
    CONTROL_PLAN_VERSION,
    GHOSTS,
    PLANS,
    SETTLED_AGE_S,
    SOLVE_SECONDS,
    WINDOWS_SETTLED,
)
from server.metrics import Metrics
from server.pacing.pace import STEP_S
from server.pacing.settling import Settling
from server.pacing.solving import Solver
from server.store import Keyspace
from server.store.buckets import Bucket
from server.store.budgets import BudgetStore
from server.store.catalogs import CatalogStore
from server.store.client import Client
from server.store.counts import CountsStore, SpentByLine, shards
from server.store.learned import LearnedStore
from server.store.plans import PlanStore

SAVE_S: Final = 15.0  # between two savings of what was learned: ten megabytes at 10^5 line items
SHARDS_S: Final = 10.0  # between looks for shards that nobody configured

FORGET_S: Final = 60.0  # between looks whether what was opened is still there
NEVER_S: Final = 1 << 40

log = logging.getLogger(__name__)

MayWrite = Callable[[], bool]


class CountsMissing(AdcoreError):
    """The counts are not whole, or not there yet: nothing is reckoned with half of them."""


class Retired:
    """A shard that no list names any more: what it has counted counts, and nobody waits for it."""

    def __init__(self, store: CountsStore) -> None:
        self._store = store

    def spent(
        self, wanted: Iterable[Bucket], now_s: int = 0, /
    ) -> tuple[int | None, list[SpentByLine]]:
        time_s, spent = self._store.spent(wanted, now_s)
        return (None if time_s is None else NEVER_S), spent


class Work:
    """The state of one leader. `rest` forgets it: who leads again begins with what Redis has."""

    def __init__(
        self, client: Client, keys: Keyspace, required: frozenset[int], metrics: Metrics
    ) -> None:
        self._client = client
        self._keys = keys
        self._required = sorted(required)
        self._metrics = metrics
        self._catalogs = CatalogStore(client, keys)
        self._budgets = BudgetStore(client, keys)
        self._plans = PlanStore(client, keys)
        self._learned = LearnedStore(client, keys)
        self._solver: Solver | None = None
        self._settling: Settling | None = None
        self._ghosts: int | None = None  # windows held back; None: nothing is granted
        self._forgot_s = 0.0
        self._numbers: list[int] = []
        self._shards_s = self._solved_s = self._saved_s = 0.0  # monotonic; 0: not yet
        self._generation = self._refused = 0

    def rest(self) -> None:
        """Forget everything: another one leads."""
        self._solver = None

    def tick(self, now_s: int, monotonic_s: float, may_write: MayWrite) -> None:
        """Do what is due: CountsMissing or StoreError say that it was not all."""
        if self._solver is None or self._settling is None or self._has_other_shards(monotonic_s):
            solver, settling = self._begin(monotonic_s)
        else:
            solver, settling = self._solver, self._settling
        self._follow(solver, settling, now_s)
        missing: CountsMissing | None = None
        if may_write():
            try:
                self._settle(settling, monotonic_s)
            except CountsMissing as error:
                self._ghosts = None
                missing = error  # for settling; a plan may do without
        if monotonic_s - self._solved_s >= STEP_S:
            self._solved_s = monotonic_s
            started_ns = perf_ns()
            self._plan(solver, now_s, monotonic_s, may_write)
            self._metrics.observe(SOLVE_SECONDS, perf_ns() - started_ns)
        if missing is not None:
            raise missing

    def _has_other_shards(self, monotonic_s: float) -> bool:
        return monotonic_s - self._shards_s >= SHARDS_S and self._find_shards(monotonic_s)

    def _begin(self, monotonic_s: float) -> tuple[Solver, Settling]:
        self._find_shards(monotonic_s)
        stores = [CountsStore(self._client, self._keys, number) for number in self._numbers]
        solver = Solver(stores, len(self._required))
        solver.restore(self._learned.load())
        self._generation, self._solved_s, self._saved_s = 0, 0.0, monotonic_s - SAVE_S
        ledgers = [
            store if place < len(self._required) else Retired(store)
            for place, store in enumerate(stores)
        ]
        settling = Settling(self._budgets, ledgers)
        self._solver, self._settling = solver, settling
        return solver, settling

    def _find_shards(self, monotonic_s: float) -> bool:
        """List the shards, the required ones first; whether there are others than before."""
        known = shards(self._client, self._keys)
        numbers = [*self._required, *(n for n in known if n not in self._required)]
        self._shards_s = monotonic_s
        changed, self._numbers = numbers != self._numbers, numbers
        return changed

    def _follow(self, solver: Solver, settling: Settling, now_s: int) -> None:
        """Go by the current catalog; keep the one before when that can't be used."""
        generation = self._catalogs.current() or 0
        if generation in (0, self._generation, self._refused):
            return
        try:
            catalog = self._catalogs.load(generation)
        except SnapshotError as error:
            self._refused = generation
            log.error("can't use a catalog", extra={"detail": str(error)})
            return
        solver.follow(catalog, now_s)
        settling.take(catalog)
        self._generation, self._refused, self._solved_s = generation, 0, 0.0
        self._metrics.slots[CONTROL_GENERATION.start] = generation
        log.info("goes by a catalog", extra={"generation": generation})

    # -- accounts

    def _settle(self, settling: Settling, monotonic_s: float) -> None:
        if monotonic_s - self._forgot_s >= FORGET_S:
            # Redis may have lost what was opened a moment before it failed, and nothing tells.
            settling.forget()
            self._forgot_s = monotonic_s
        now_s = self._budgets.now_us() // 1_000_000
        step = settling.step(now_s)
        state, ghosts = self._budgets.state(), len(self._budgets.ghosts())
        slots = self._metrics.slots
        slots[WINDOWS_SETTLED.start] += step.settled
        slots[ACCOUNTS_OPENED.start] += step.opened
        slots[BUDGET_RESETS.start] += step.was_reset
        slots[GHOSTS.start] = ghosts
        if step.was_reset:
            log.warning("made the accounts again", extra={"ghosts": ghosts})
        if step.opened:
            log.info("opened accounts", extra={"count": step.opened})
        if not step.is_known:
            raise CountsMissing("a shard's counts are being made again, or never were")
        if state is None or state.is_lost:
            raise CountsMissing("accounts are lost, and the ledger is too far behind to make them")
        slots[SETTLED_AGE_S.start] = max(now_s - window_start_s(state.settled + 1), 0)
        self._ghosts = ghosts

    # -- the plan

    def _plan(self, solver: Solver, now_s: int, monotonic_s: float, may_write: MayWrite) -> None:
        if solver.booked is None or not solver.booked.goals.lines:
            return
        # Before anything is read: what is newer than this number may know more than we.
        version = self._plans.draw()
        solver.learn(now_s)
        # While nothing is granted, what is billed says nothing of what could be.
        solved = solver.solve(float(now_s), self._ghosts)
        if solved is None:
            raise CountsMissing("they are being made again, or no aggregator has written any")
        ids, rates_ppm, probabilities_ppm, multipliers_ppm = (
            b"" if column is None else np.ascontiguousarray(column, "<i8").tobytes()
            for column in solved
        )
        if not may_write():
            return
        columns = (ids, rates_ppm, probabilities_ppm, version, multipliers_ppm)
        written = self._plans.write(now_s, *columns)
        self._metrics.slots[PLANS.slot("written" if written else "late")] += 1
        if not written:
            return
        solver.applied(solved.rates_ppm, float(now_s))
        slots = self._metrics.slots
        slots[CONTROL_PLAN_VERSION.start], slots[CONTROL_PLAN_AT_S.start] = version, now_s
        slots[CONTROL_PLAN_LINES.start] = len(solved.ids)
        self._save(solver, version, now_s, monotonic_s)

    def _save(self, solver: Solver, version: int, now_s: int, monotonic_s: float) -> None:
        if monotonic_s - self._saved_s < SAVE_S:
            return
        learned = solver.learned(version, self._generation, float(now_s))
        if learned is not None and self._learned.save(learned):
            self._saved_s = monotonic_s
