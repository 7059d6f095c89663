"""What the leader of `adcore control` does: one call a second, which waits for Redis alone."""

import logging
from collections.abc import Callable
from typing import Final

import numpy as np

from server.clock import perf_ns
from server.errors import SnapshotError
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
from server.pacing.settling import CountsMissing, Done, Settler
from server.pacing.solving import Solver
from server.store import Keyspace
from server.store.budgets import BudgetStore
from server.store.catalogs import CatalogStore
from server.store.client import Client
from server.store.counts import CountsStore, shards
from server.store.learned import LearnedStore
from server.store.plans import PlanStore

SAVE_S: Final = 15.0  # between two savings of what was learned: ten megabytes at 10^5 line items
SHARDS_S: Final = 10.0  # between looks for shards that nobody configured

log = logging.getLogger(__name__)

MayWrite = Callable[[], bool]


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
        self._settler: Settler | None = None
        self._done = Done()
        self._numbers: list[int] = []
        self._shards_s = self._solved_s = self._saved_s = 0.0  # monotonic; 0: not yet
        self._generation = self._refused = 0

    def rest(self) -> None:
        """Forget everything: another one leads."""
        self._solver = None

    def tick(self, now_s: int, monotonic_s: float, may_write: MayWrite) -> None:
        """Do what is due: CountsMissing or StoreError say that it was not all."""
        if self._solver is None or self._settler is None or self._has_other_shards(monotonic_s):
            solver, settler = self._begin(monotonic_s)
        else:
            solver, settler = self._solver, self._settler
        self._follow(solver, settler, now_s)
        missing: CountsMissing | None = None
        if may_write():
            try:
                self._settle(settler, monotonic_s)
            except CountsMissing as error:
                self._done = Done()
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

    def _begin(self, monotonic_s: float) -> tuple[Solver, Settler]:
        self._find_shards(monotonic_s)
        stores = [CountsStore(self._client, self._keys, number) for number in self._numbers]
        solver = Solver(stores, len(self._required))
        solver.restore(self._learned.load())
        self._generation, self._solved_s, self._saved_s = 0, 0.0, monotonic_s
        settler = Settler(self._budgets, stores, len(self._required))
        self._solver, self._settler = solver, settler
        return solver, settler

    def _find_shards(self, monotonic_s: float) -> bool:
        """List the shards, the required ones first; whether there are others than before."""
        known = shards(self._client, self._keys)
        numbers = [*self._required, *(n for n in known if n not in self._required)]
        self._shards_s = monotonic_s
        changed, self._numbers = numbers != self._numbers, numbers
        return changed

    def _follow(self, solver: Solver, settler: Settler, now_s: int) -> None:
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
        settler.follow(catalog)
        self._generation, self._refused, self._solved_s = generation, 0, 0.0
        self._metrics.slots[CONTROL_GENERATION.start] = generation
        log.info("goes by a catalog", extra={"generation": generation})

    # -- accounts

    def _settle(self, settler: Settler, monotonic_s: float) -> None:
        done = self._done = settler.step(monotonic_s)
        slots = self._metrics.slots
        slots[WINDOWS_SETTLED.start] += done.settled
        slots[ACCOUNTS_OPENED.start] += done.opened
        slots[BUDGET_RESETS.start] += done.resets
        slots[GHOSTS.start] = done.ghosts
        if done.last:
            moment_s = self._budgets.now_us() // 1_000_000
            slots[SETTLED_AGE_S.start] = max(moment_s - window_start_s(done.last + 1), 0)
        if done.resets:
            log.warning("made the accounts again", extra={"settled": done.last})
        if done.opened:
            log.info("opened accounts", extra={"count": done.opened})

    # -- the plan

    def _plan(self, solver: Solver, now_s: int, monotonic_s: float, may_write: MayWrite) -> None:
        if solver.booked is None or not solver.booked.goals.lines:
            return
        # Before anything is read: what is newer than this number may know more than we.
        version = self._plans.draw()
        solver.learn(now_s)
        # While nothing is granted, what is billed says nothing of what could be.
        solved = solver.solve(float(now_s), self._done.ghosts if self._done.last else None)
        if solved is None:
            raise CountsMissing("they are being made again, or no aggregator has written any")
        ids, rates_ppm, probabilities_ppm = (
            np.ascontiguousarray(column, "<i8").tobytes() for column in solved
        )
        if not may_write():
            return
        written = self._plans.write(now_s, ids, rates_ppm, probabilities_ppm, version)
        self._metrics.slots[PLANS.slot("written" if written else "late")] += 1
        if not written:
            return
        solver.applied(solved[1], float(now_s))
        slots = self._metrics.slots
        slots[CONTROL_PLAN_VERSION.start], slots[CONTROL_PLAN_AT_S.start] = version, now_s
        slots[CONTROL_PLAN_LINES.start] = len(solved[0])
        self._save(solver, version, now_s, monotonic_s)

    def _save(self, solver: Solver, version: int, now_s: int, monotonic_s: float) -> None:
        if monotonic_s - self._saved_s < SAVE_S:
            return
        learned = solver.learned(version, self._generation, float(now_s))
        if learned is not None and self._learned.save(learned):
            self._saved_s = monotonic_s
