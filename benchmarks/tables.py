"""A result as Markdown: what was measured, beside the bar it must pass."""

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.figures import OpenLoop, Run, Size, Spread, Swap
from benchmarks.throughput import HELD_P99_MS, JUDGED_SHARE

# From the issue that asked for this benchmark.
RATIO_MIN = 0.65
P99_MAX_MS = 10.0
SWAP_RATIO_MAX = 2.0
BYTES_PER_REQUEST_MAX = 1.0
NOISE = "noise: an empty server in C"


def tables(run: Run, larger: Run | None = None) -> str:
    """`larger` is a run that swapped more line items, if there is one."""
    parts = []
    if run.throughput:
        parts += [_rates(run.throughput), _latencies(run.throughput)]
    parts += [_goals(run, larger), _where(run)]
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rates(sizes: Sequence[Size]) -> str:
    head = ("request", "server", "max rate, one core", "of the floor", "CPU a request", "answer",
            f"held at p99 < {HELD_P99_MS:g} ms, two cores")  # fmt: skip
    rows: list[Sequence[str]] = []
    for size in sizes:
        for name, served in (("adcore", size.ours), ("floor", size.floor)):
            rows.append(
                (
                    f"{size.body_bytes:.0f} B",
                    name,
                    _thousands(served.max_rate),
                    f"**{size.max_ratio.median:.2f}**" if name == "adcore" else "1",
                    f"{served.max_cpu_us.median:.1f} µs",
                    f"{served.answer_bytes:.0f} B",
                    f"{served.held_rate:,.0f}/s" if served.held_rate else "none",
                )
            )
    return table(head, rows)


def _latencies(sizes: Sequence[Size]) -> str:
    head = ("open loop", "load", "rate", "p50", "p99", "p99.9", "CPU a request")
    rows: list[Sequence[str]] = []
    for size in sizes:
        for name, served in (("adcore", size.ours), ("floor", size.floor)):
            rows += (_latency(size, name, point) for point in served.open_loop)
        if size.noise:
            rows.append(_latency(size, NOISE, size.noise))
    return table(head, rows)


def _latency(size: Size, name: str, point: OpenLoop) -> tuple[str, ...]:
    return (
        f"{name}, {size.body_bytes:.0f} B",
        "adcore's" if name == NOISE else f"{point.share:.0%} of its max",
        f"{point.rate:,.0f}/s",
        f"{point.p50_ms.median:.2f} ms",
        _range(point.p99_ms),
        _range(point.p99_9_ms),
        f"{point.cpu_us.median:.1f} µs",
    )


def _goals(run: Run, larger: Run | None) -> str:
    rows: list[tuple[str, str, str]] = []
    for size in run.throughput or ():
        seventy = [point for point in size.ours.open_loop if point.share == JUDGED_SHARE]
        if size.body_bytes < 1000:
            rows.append(
                ("throughput / floor, 600 B", f"≥ {RATIO_MIN}", f"{size.max_ratio.median:.2f}")
            )
        rows += (
            (
                f"p99 at 70 % of its own maximum, {size.name}",
                f"< {P99_MAX_MS:g} ms",
                f"{point.p99_ms.median:.2f} ms",
            )
            for point in seventy
        )
    for it in (run, larger):
        if it and it.swap:
            rows += _swaps(it.swap, it.machine["load_average"])
    if run.redis_kill:
        rows.append(
            (
                "requests without a 2xx answer when Redis is killed",
                "0",
                f"{run.redis_kill.faults} of {run.redis_kill.requests:,}",
            )
        )
    if run.memory:
        rows.append(
            (
                f"memory over {run.memory.requests:,} requests",
                f"< {BYTES_PER_REQUEST_MAX:g} B a request",
                f"{run.memory.bytes_per_request:+.3f} B",
            )
        )
    return table(("claim", "bar", "measured"), rows)


def _swaps(swap: Swap, load_average: str) -> Iterator[tuple[str, str, str]]:
    claim = f"p99.9 while {swap.line_items:,} line items are swapped"
    bar = f"≤ {SWAP_RATIO_MAX:g}"
    quiet = f"{swap.quiet_p99_9_ms.median:.2f} ms"
    yield (
        f"{claim} / quiet",
        bar,
        f"{swap.ratio_p99_9:.2f} ({swap.swap_p99_9_ms.median:.2f} / {quiet}, {swap.swaps} swaps "
        f"of {swap.swap_s.median:.0f} s at {swap.rate:,.0f}/s, load average {load_average} before)",
    )
    if swap.moment_p99_9_ms and swap.moment_ratio_p99_9 is not None:
        yield (
            f"{claim}, the change-over alone / quiet",
            bar,
            f"{swap.moment_ratio_p99_9:.2f} ({swap.moment_p99_9_ms.median:.2f} / {quiet})",
        )


def _where(run: Run) -> str:
    machine, versions = run.machine, run.versions
    return (
        f"{run.line_items:,} line items, seed {run.seed}, plan `{run.plan}`; "
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"Python {versions['python']}, Granian {versions['granian']}, {versions['redis-server']}. "
        f"Answers checked: {run.checksums.sampled} replayed in the engine. "
        f"Median of the rounds; in brackets lowest to highest."
    )


def _thousands(spread: Spread) -> str:
    return f"{spread.median:,.0f}/s ({spread.low:,.0f} to {spread.high:,.0f})"


def _range(spread: Spread) -> str:
    return f"{spread.median:.2f} ms ({spread.low:.2f} to {spread.high:.2f})"
