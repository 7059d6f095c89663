"""What clients must not notice: a swap of snapshots, the loss of Redis, a million requests."""

import http.client
import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import linear_regression

from msgspec import Struct

from benchmarks.figures import Memory, RedisKill, Swap, spread
from benchmarks.generator import Load, Records, Window, finish, fire, interrupt, percentile, start
from benchmarks.processes import loading_s
from benchmarks.throughput import Requests, Target

# Before the first answer of a new generation: workers map it, check it and make their Live of it.
MOMENT_S = 2.0
# After the first answer of a new generation: its pages are touched first, its caches are empty.
SETTLE_S = 0.5
_LOOK_S = 0.02
_MIB = 1 << 20


class SwapPlan(Struct, frozen=True, kw_only=True):
    rate: float
    swaps: int
    quiet_s: float
    line_items: int


class _Half(Struct, frozen=True):
    """Latencies of one run, inside and outside of its swap."""

    quiet_ms: list[float]
    swap_ms: list[float]
    moment_ms: list[float]  # of `swap_ms`, those while the workers change over
    swap_s: float
    faults: int


def swap(
    plan: SwapPlan,
    target: Target,
    requests: Requests,
    folder: Path,
    activate: Callable[[], int],
) -> Swap:
    """Swap under load; `activate` makes another published generation current, and tells which."""
    halves = [_swap_under_load(plan, target, requests, folder, activate) for _ in range(plan.swaps)]
    quiet = spread([percentile(half.quiet_ms, 0.999) for half in halves])
    swapping = spread([percentile(half.swap_ms, 0.999) for half in halves])
    moment = spread([percentile(half.moment_ms, 0.999) for half in halves])
    return Swap(
        line_items=plan.line_items,
        swaps=plan.swaps,
        rate=plan.rate,
        swap_s=spread([half.swap_s for half in halves]),
        quiet_requests=sum(len(half.quiet_ms) for half in halves),
        swap_requests=sum(len(half.swap_ms) for half in halves),
        quiet_p99_ms=spread([percentile(half.quiet_ms, 0.99) for half in halves]),
        swap_p99_ms=spread([percentile(half.swap_ms, 0.99) for half in halves]),
        quiet_p99_9_ms=quiet,
        swap_p99_9_ms=swapping,
        ratio_p99_9=swapping.median / quiet.median,
        moment_requests=sum(len(half.moment_ms) for half in halves),
        moment_p99_9_ms=moment,
        moment_ratio_p99_9=moment.median / quiet.median,
        faults=sum(half.faults for half in halves),
    )


def _swap_under_load(
    plan: SwapPlan, target: Target, requests: Requests, folder: Path, activate: Callable[[], int]
) -> _Half:
    swap_max_s = loading_s(plan.line_items)
    load = _open(target, requests, plan.rate, swap_max_s + 2 * plan.quiet_s + SETTLE_S, folder)
    run = start(load)
    time.sleep(load.warm_up_s + plan.quiet_s)
    started_ns = time.monotonic_ns()
    swap_s = _swap_once(target.port, activate, swap_max_s)
    first_ns = time.monotonic_ns()
    ended_ns = first_ns + int(SETTLE_S * 1e9)
    # Quiet before and after: a slow drift of the machine is in both.
    time.sleep(SETTLE_S + plan.quiet_s)
    interrupt(run)
    window = finish(run, load)
    records = Records(load)
    inside, outside = records.latencies_ms(started_ns, ended_ns)
    moment_ns = max(started_ns, first_ns - int(MOMENT_S * 1e9))
    moment, _ = records.latencies_ms(moment_ns, ended_ns)
    return _Half(outside, inside, moment, swap_s, window.faults)


def _swap_once(port: int, activate: Callable[[], int], max_s: float) -> float:
    """Seconds from the word to the first answer of the new generation."""
    started_s = time.monotonic()
    generation = activate()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        while True:
            connection.request("GET", "/ping")
            if json.loads(connection.getresponse().read())["generation"] == generation:
                break
            if time.monotonic() - started_s > max_s:
                raise TimeoutError(f"generation {generation} is not served after {max_s} s")
            time.sleep(_LOOK_S)
    return time.monotonic() - started_s


def redis_kill(
    target: Target,
    kill: Callable[[], None],
    requests: Requests,
    folder: Path,
    rate: float,
    seconds: float,
) -> RedisKill:
    """Half the time with Redis, half without: every answer must still be a 2xx."""
    load = _open(target, requests, rate, seconds, folder)
    run = start(load)
    time.sleep(load.warm_up_s + seconds / 2)
    killed_ns = time.monotonic_ns()
    kill()
    window = finish(run, load)
    after, before = Records(load).latencies_ms(killed_ns, 1 << 63)
    return RedisKill(
        rate=rate,
        requests=window.answered + window.unanswered,
        answered_2xx=window.status.ok,
        faults=window.faults,
        p99_ms_before=percentile(before, 0.99),
        p99_ms_after=percentile(after, 0.99),
    )


def memory(target: Target, requests: Requests, total: int, steps: int) -> Memory:
    """RSS of the whole tree over `total` requests: the slope of a line through `steps` readings."""
    warm_up = total // steps
    faults = _many(target, requests, warm_up).faults
    counts, sizes = [0.0], [float(target.tree.rss_bytes())]
    for _ in range(steps):
        window = _many(target, requests, total // steps)
        faults += window.faults
        counts.append(counts[-1] + window.answered)
        sizes.append(float(target.tree.rss_bytes()))
    return Memory(
        requests=int(counts[-1]),
        warm_up_requests=warm_up,
        rss_mib_start=sizes[0] / _MIB,
        rss_mib_end=sizes[-1] / _MIB,
        bytes_per_request=linear_regression(counts, sizes).slope,
        faults=faults,
    )


def _many(target: Target, requests: Requests, count: int) -> Window:
    """`count` requests as fast as they are answered."""
    return fire(
        Load(
            port=target.port,
            requests=requests.path,
            rate=0,
            seconds=120,
            requests_max=count,
            warm_up_s=0,
        )
    )


def _open(target: Target, requests: Requests, rate: float, seconds: float, folder: Path) -> Load:
    return Load(
        port=target.port,
        requests=requests.path,
        rate=rate,
        seconds=seconds,
        requests_max=int(1.2 * rate * (seconds + 1)) + 1000,
        records=folder / "records.bin",
    )
