"""Rates and latencies of our server beside the floor's, in alternating rounds of the same run.

Closed loop first, server and generator on a core each, as fast as answers come: the maximum. Then
open loop at shares of each server's own maximum. Then nothing is pinned and the rate goes up until
p99 breaks.
"""

import os
from pathlib import Path
from statistics import fmean

from msgspec import Struct

from benchmarks.figures import OpenLoop, Served, Size, spread
from benchmarks.generator import Load, Window, fire
from benchmarks.processes import Tree

HELD_P99_MS = 10.0
HELD_RATE_SHARE = 0.97  # fewer answers than this share of the asked rate: not held
HELD_FROM = 0.3  # of the unpinned closed-loop maximum, where the search begins
JUDGED_SHARE = 0.7  # where the goals are; beside it, the noise of the machine at the same rate
RATE_MAX = 150_000  # several times what any of these servers does: bounds the generator's memory


class Plan(Struct, frozen=True, kw_only=True):
    """How long and how often; `held_step` is the factor by which the held rate is searched."""

    name: str
    rounds: int
    seconds: float
    warm_up_s: float
    shares: tuple[float, ...]
    held_step: float | None


class Target(Struct, frozen=True):
    tree: Tree
    port: int


class Requests(Struct, frozen=True):
    """A file for the generator, and what is in it."""

    name: str
    path: Path
    variants: int
    body_bytes: float


class Measured(Struct, frozen=True):
    window: Window
    cpu_us: float  # of the server's whole tree, for each answer, warm-up included


class Bench:
    """`ours`, the `floor`, and `bare` for the machine's noise, under one file of requests."""

    def __init__(
        self, plan: Plan, targets: dict[str, Target], requests: Requests, seed: int
    ) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self._server_core, self._client_core, self._cores = cores[0], cores[-1], cores
        self._plan = plan
        self._targets = targets
        self._requests = requests
        self._seed = seed

    def run(self) -> Size:
        for target in self._targets.values():
            target.tree.pin(self._server_core)
        closed = self._rounds({"ours": 0, "floor": 0})
        maxima = {who: spread([it.window.rate for it in closed[who]]) for who in closed}
        opened = self._open_loop({who: maximum.median for who, maximum in maxima.items()})
        for target in self._targets.values():
            target.tree.pin(*self._cores)
        ours, floor = (
            _served(closed[who], opened[who], self._held(self._targets[who])) for who in closed
        )
        ratios = [
            mine.window.rate / empty.window.rate
            for mine, empty in zip(closed["ours"], closed["floor"], strict=True)
        ]
        return Size(
            name=self._requests.name,
            body_bytes=self._requests.body_bytes,
            variants=self._requests.variants,
            ours=ours,
            floor=floor,
            noise=opened["bare"][0] if opened["bare"] else None,
            max_ratio=spread(ratios),
            held_ratio=ours.held_rate / floor.held_rate
            if ours.held_rate and floor.held_rate
            else None,
        )

    def _rounds(self, rates: dict[str, float]) -> dict[str, list[Measured]]:
        """One window of each server a round; who goes first alternates, so that drift hits both."""
        found: dict[str, list[Measured]] = {who: [] for who in rates}
        for number in range(self._plan.rounds):
            for who in sorted(rates, reverse=bool(number % 2)):
                found[who].append(self._measure(who, rates[who], self._seed + number))
        return found

    def _open_loop(self, maxima: dict[str, float]) -> dict[str, list[OpenLoop]]:
        found: dict[str, list[OpenLoop]] = {who: [] for who in self._targets}
        for share in self._plan.shares:
            rates = {who: share * maximum for who, maximum in maxima.items()}
            if share == JUDGED_SHARE:
                rates["bare"] = rates["ours"]
            for who, measured in self._rounds(rates).items():
                found[who].append(_open_loop(share, measured))
        return found

    def _measure(self, who: str, rate: float, seed: int) -> Measured:
        tree, before_s = self._targets[who].tree, self._targets[who].tree.cpu_s()
        window = self._fire(self._targets[who], rate, seed, self._client_core)
        return Measured(window, (tree.cpu_s() - before_s) * 1e6 / max(1, window.answered))

    def _fire(self, target: Target, rate: float, seed: int, core: int | None) -> Window:
        duration_s = self._plan.warm_up_s + self._plan.seconds
        return fire(
            Load(
                port=target.port,
                requests=self._requests.path,
                rate=rate,
                seconds=self._plan.seconds,
                requests_max=int(duration_s * (2 * rate or RATE_MAX)) + 1000,
                warm_up_s=self._plan.warm_up_s,
                seed=seed,
                core=core,
            )
        )

    def _held(self, target: Target) -> float | None:
        """Find the highest rate that keeps p99: up until one fails, then between the last two."""
        step = self._plan.held_step
        if step is None:
            return None
        rate, held = HELD_FROM * self._fire(target, 0, self._seed, None).rate, None
        while self._holds(target, rate):
            rate, held = rate * step, rate
        if held is not None and self._holds(target, between := (held * rate) ** 0.5):
            held = between
        return held

    def _holds(self, target: Target, rate: float) -> bool:
        """Two tries: one miss may be a neighbour's doing."""
        for number in range(2):
            window = self._fire(target, rate, self._seed + number, None)
            if (
                window.faults == 0
                and window.rate >= HELD_RATE_SHARE * rate
                and window.latency_ms.p99 < HELD_P99_MS
            ):
                return True
        return False


def _open_loop(share: float, rounds: list[Measured]) -> OpenLoop:
    windows = [it.window for it in rounds]
    return OpenLoop(
        share=share,
        rate_asked=windows[0].rate_asked,
        rate=fmean(window.rate for window in windows),
        p50_ms=spread([window.latency_ms.p50 for window in windows]),
        p99_ms=spread([window.latency_ms.p99 for window in windows]),
        p99_9_ms=spread([window.latency_ms.p99_9 for window in windows]),
        cpu_us=spread([it.cpu_us for it in rounds]),
        faults=sum(window.faults for window in windows),
    )


def _served(closed: list[Measured], opened: list[OpenLoop], held: float | None) -> Served:
    windows = [it.window for it in closed]
    return Served(
        answer_bytes=sum(window.body_bytes for window in windows)
        / max(1, sum(window.answered for window in windows)),
        max_rate=spread([window.rate for window in windows]),
        max_cpu_us=spread([it.cpu_us for it in closed]),
        max_faults=sum(window.faults for window in windows),
        open_loop=tuple(opened),
        held_rate=held,
    )
