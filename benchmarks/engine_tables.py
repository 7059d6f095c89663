"""A run of the engine benchmark as Markdown."""

from collections.abc import Iterator, Sequence

from benchmarks.engine_figures import Case, Latency, Run
from benchmarks.figures import Spread
from benchmarks.tables import table


def tables(run: Run) -> str:
    parts = [_selects(run), _kernels(run), _matches(run), _indexes(run)]
    if any(case.by_score for case in run.cases):
        parts.insert(1, _by_scores(run))
    return "\n\n".join((*parts, _where(run)))


def _selects(run: Run) -> str:
    winners = [it.winners for it in run.cases[0].select]
    head = ("select: p50 / p99 / max, µs", *(f"{count} wanted" for count in winners),
            f"slowest request at its best, {winners[-1]} wanted")  # fmt: skip
    return table(
        head,
        [
            (
                _case(case),
                *(_latency(it.latency) for it in case.select),
                _us(case.select[-1].latency.worst_us),
            )
            for case in run.cases
        ],
    )


def _by_scores(run: Run) -> str:
    head = ("select by score, bid multipliers 0.5 to 1.5", "p50 / p99 / max, µs", "without a plan",
            "p50 / that")  # fmt: skip
    rows: list[Sequence[str]] = []
    for case in run.cases:
        if scored := case.by_score:
            [booked] = [it for it in case.select if it.winners == scored.winners]
            rows.append(
                (
                    f"{_case(case)}, {scored.winners} wanted",
                    _latency(scored.latency),
                    _latency(booked.latency),
                    _times(scored.of_booked),
                )
            )
    return table(head, rows)


def _kernels(run: Run) -> str:
    winners = [it.winners for it in run.cases[0].select]
    head = ("plan and fill alone: p50 / p99 / max, µs", *(f"{count} wanted" for count in winners))
    return table(
        head, [(_case(case), *(_latency(it.kernel) for it in case.select)) for case in run.cases]
    )


def _matches(run: Run) -> str:
    head = ("full match: p50 / p99 / max, µs", *(it.engine for it in run.cases[0].match))
    return table(head, [(_case(case), *_engines(case)) for case in run.cases])


def _engines(case: Case) -> Iterator[str]:
    ours, *peers = case.match
    yield _latency(ours.latency)
    for peer in peers:
        yield f"{_latency(peer.latency)}, {_times(peer.of_adcore)}"


def _indexes(run: Run) -> str:
    head = ("index", "rows", "live", "compiled in", "bytes a row", "lines matched a request",
            "full match / ADS-A's", "select 10 / ADS-A's")  # fmt: skip
    rows: list[Sequence[str]] = [
        (
            _case(case),
            f"{case.rows:,}",
            f"{case.rows_live / max(1, case.rows):.0%}",
            f"{case.compile_s:.2f} s",
            f"{case.bytes_a_row:.0f}",
            f"{case.lines_matched:,.0f} ({case.lines_matched / case.line_items:.2%})",
            _times(case.of_ads_a.match),
            _times(case.of_ads_a.select),
        )
        for case in run.cases
    ]
    return table(head, rows)


def _case(case: Case) -> str:
    return f"{case.workload}, {case.line_items:,} line items"


def _latency(latency: Latency) -> str:
    return " / ".join(_us(part.median) for part in (latency.p50_us, latency.p99_us, latency.max_us))


def _us(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _times(ratio: Spread) -> str:
    return f"**{_us(ratio.median)}x** ({_us(ratio.low)} to {_us(ratio.high)})"


def _where(run: Run) -> str:
    machine, versions = run.machine, run.versions
    sizes = {case.line_items: case for case in run.cases}.values()
    asked = "; ".join(
        f"{case.select[0].latency.requests:,} requests, {case.compared:,} of them to the peers, "
        f"at {case.line_items:,} line items"
        for case in sizes
    )
    return (
        f"Plan `{run.plan}`, seed {run.seed}, {run.rounds} rounds; {asked}. {machine['cpu']}, "
        f"{machine['cores']} cores, load average {machine['load_average']} before, "
        f"Linux {machine['kernel']}, Python {versions['python']}, adcore {versions['adcore']}, "
        f"pyroaring {versions['pyroaring']}, NumPy {versions['numpy']}. Answers checked: all "
        f"engines find the same lines for every request that all were asked. The clock's own "
        f"{run.clock_ns.median:.0f} ns are taken off. Median of the rounds; in brackets lowest to "
        f"highest."
    )
