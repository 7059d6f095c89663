"""How long one call takes, many times over, without what the clock itself takes."""

import gc
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from statistics import median
from time import perf_counter_ns
from typing import Any, NamedTuple, TypeAlias

from benchmarks.engine_figures import Latency
from benchmarks.figures import Spread, spread

CLOCK_SAMPLES = 20_000
WARM_UP_SHARE = 20  # one call in so many is made once more, before the others
Times: TypeAlias = "array[int]"
"""Nanoseconds of each call, in the order of the calls."""


class Subject(NamedTuple):
    """What is measured: `ask(*call)` for each call, which makes and drops one answer."""

    name: str
    ask: Callable[..., Any]
    calls: Sequence[tuple[Any, ...]]
    replays: int = 0  # not of a call, but of each of so many repeats that it can make of its work


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep the collector from running: a collection walks the catalog and lands on some request."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def clock_cost_ns() -> float:
    """What a measurement of nothing says: the median of many."""
    clock = perf_counter_ns
    times = array("q")
    for _ in range(CLOCK_SAMPLES):
        start = clock()
        times.append(clock() - start)
    return median(times)


def timed(subject: Subject) -> Times:
    """Go through all calls once; the answer is dropped inside the time, since a caller drops it."""
    if subject.replays:
        return _timed_replays(subject)
    ask, clock = subject.ask, perf_counter_ns
    for call in subject.calls[: max(1, len(subject.calls) // WARM_UP_SHARE)]:
        ask(*call)
    times = array("q")
    for call in subject.calls:
        start = clock()
        ask(*call)
        times.append(clock() - start)
    return times


def _timed_replays(subject: Subject) -> Times:
    """What a repeat takes: the difference between many and one, so that all else falls out."""
    ask, clock = subject.ask, perf_counter_ns
    times = array("q")
    for call in subject.calls:
        ask(*call, 1)
        start = clock()
        ask(*call, 1)
        middle = clock()
        ask(*call, 1 + subject.replays)
        times.append((clock() - middle - (middle - start)) // subject.replays)
    return times


def percentile(times: Sequence[int], share: float) -> int:
    """The smallest time that this share of all times does not exceed: one that was measured."""
    return sorted(times)[max(ceil(share * len(times)), 1) - 1]


def latency(rounds: Sequence[Times], clock_ns: float) -> Latency:
    def over_rounds(share: float) -> Spread:
        return spread([(percentile(times, share) - clock_ns) / 1000 for times in rounds])

    return Latency(
        requests=len(rounds[0]),
        p50_us=over_rounds(0.5),
        p99_us=over_rounds(0.99),
        max_us=over_rounds(1),
        # What the machine adds hardly ever hits a request in every round.
        worst_us=(max(map(min, zip(*rounds, strict=True))) - clock_ns) / 1000,
    )


def ratio(rounds: Sequence[Times], other: Sequence[Times], clock_ns: float) -> Spread:
    """Median over median, round by round, on the requests that both were asked."""
    ratios = []
    for these, those in zip(rounds, other, strict=True):
        shared = min(len(these), len(those))
        ratios.append(
            (percentile(these[:shared], 0.5) - clock_ns)
            / (percentile(those[:shared], 0.5) - clock_ns)
        )
    return spread(ratios)
