"""The matching engine through its Python API, beside its peers in the same run.

    python -m benchmarks.engine                a thousand lines, in seconds; figures of no worth
    python -m benchmarks.engine --medium       10,000 and 100,000 lines, in a few minutes
    python -m benchmarks.engine --full         and 1,000,000, which takes long
        --write                                puts the tables into README.md
        --result FILE                          measures nothing: the tables of that run
    python -m benchmarks.engine --dump FILE --workload ADS-A --lines 100000
                                               the workload as text, for peers in other languages

Every engine gets the same requests, and has to find the same lines: if one doesn't, the run ends
with an error, and there are no figures.
"""

import argparse
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, TypeAlias, cast, get_args

import numpy as np
from msgspec import Struct

import adcore
from adcore.request import Request
from benchmarks import by_score, engine_figures, figures, plot, wide, workload
from benchmarks.engine_figures import ByScore, Case, Matched, OfAdsA, Run, Selected
from benchmarks.engine_tables import tables
from benchmarks.figures import spread
from benchmarks.machine import machine, versions
from benchmarks.numbered import Numbering, dump
from benchmarks.peers import PEERS, Columns, Lines, grouped
from benchmarks.timing import (
    Subject,
    Times,
    clock_cost_ns,
    latency,
    no_garbage_collection,
    ratio,
    timed,
)

RESULTS = Path(__file__).with_name("results")
README = Path(__file__).with_name("README.md")
MARKERS = "<!-- engine:begin -->", "<!-- engine:end -->"
WORKLOADS: tuple[str, ...] = (*get_args(workload.Workload), *get_args(wide.Wide))
REFERENCE = "ADS-A"
WINNERS = (1, 10, 100)  # at most WINNERS_MAX
COMPARED_WINNERS = 10
REPLAYS = 20  # of a kernel, in one measurement: the clock's steps are a tenth of what one takes
OURS = "adcore"


class Size(Struct, frozen=True):
    line_items: int
    requests: int
    peer_requests: int  # the first so many: some peers are slow
    workloads: tuple[str, ...] = WORKLOADS


class Plan(Struct, frozen=True):
    name: str
    rounds: int
    sizes: tuple[Size, ...]


SMOKE = Plan("smoke", 2, (Size(300, 20, 10),))
QUICK = Plan("quick", 2, (Size(1000, 200, 100),))
MEDIUM = Plan("medium", 5, (Size(10_000, 2000, 2000), Size(100_000, 2000, 250)))
# A catalog of a million line items is 3 GB of records before it is compiled.
FULL = Plan("full", 5, (*MEDIUM.sizes, Size(1_000_000, 2000, 100, get_args(workload.Workload))))

# -- workloads -------------------------------------------------------------------------------------


def catalog(name: str, line_count: int, seed: int) -> adcore.Catalog:
    if name in get_args(wide.Wide):
        return wide.catalog(cast(wide.Wide, name), line_count, seed)
    return workload.catalog(cast(workload.Workload, name), line_count, seed)


def requests(name: str, count: int, seed: int, winners: int = 1) -> list[Request]:
    if name in get_args(wide.Wide):
        return wide.requests(cast(wide.Wide, name), count, seed, winners)
    return workload.requests(count, seed, winners)


# -- answers ---------------------------------------------------------------------------------------


class Matcher(Struct, frozen=True):
    """An engine, and how to read its answers."""

    subject: Subject
    lines: Callable[[Any], Lines]


def found(answer: Sequence[Sequence[int]]) -> Lines:
    """Put adcore's answer, which is in rank order, into the order of lines."""
    return np.sort(np.array(answer[0], np.uint32))


def check(where: str, ours: Matcher, peer: Matcher) -> None:
    """Raise unless both find the same lines for every request that the peer is asked."""
    for number, call in enumerate(peer.subject.calls):
        expected = ours.lines(ours.subject.ask(*ours.subject.calls[number]))
        lines = peer.lines(peer.subject.ask(*call))
        if not np.array_equal(lines, expected):
            raise ValueError(
                f"{where}, request {number}: {peer.subject.name} finds {len(lines)} lines and"
                f" {ours.subject.name} {len(expected)}, with"
                f" {len(np.setxor1d(lines, expected))} that only one of them finds"
            )


def checksum(answers: Iterable[Lines]) -> tuple[str, float]:
    """Return the SHA-256 over all answers, and how many numbers one holds on average."""
    digest = hashlib.sha256()
    counts = []
    for numbers in answers:
        counts.append(len(numbers))
        digest.update(len(numbers).to_bytes(8, "little") + numbers.astype("<u8").tobytes())
    return digest.hexdigest(), fmean(counts)


def won(subject: Subject) -> Iterable[Lines]:
    for call in subject.calls:
        [wins] = subject.ask(*call)
        yield np.array([win.line_item_id for win in wins], np.uint32)


# -- one workload at one size ----------------------------------------------------------------------


class Prepared(Struct, frozen=True):
    """Compiled, and every engine's answers compared."""

    name: str
    index: adcore.Index
    live: adcore.Live
    compile_s: float
    selects: dict[int, Subject]  # by winners
    kernels: dict[int, Subject]
    matchers: tuple[Matcher, ...]  # ours first
    by_score: Subject | None  # of REFERENCE


def prepare(name: str, size: Size, seed: int) -> Prepared:
    source = catalog(name, size.line_items, seed)
    start = time.perf_counter()
    index = adcore.compile(source)
    compile_s = time.perf_counter() - start
    live = index.live(workload.NOW_S)
    asked = {it: requests(name, size.requests, seed + 1, it) for it in WINNERS}
    selects = {
        winners: Subject(
            f"select {winners}",
            index.select,
            [(request, live, draw) for draw, request in enumerate(same)],
        )
        for winners, same in asked.items()
    }
    kernels = {
        winners: Subject(f"kernel {winners}", index.replay, subject.calls, replays=REPLAYS)
        for winners, subject in selects.items()
    }
    calls = [(request, live) for request in asked[WINNERS[0]]]
    ours = Matcher(Subject(OURS, index.matching, calls), found)
    peers = _peers(source, [request for request, _ in calls[: size.peer_requests]])
    peers.append(Matcher(Subject("adcore's scan", index.scan, calls[: size.peer_requests]), found))
    for peer in peers:
        check(f"{name}, {size.line_items} line items", ours, peer)
    scored = None
    if name == REFERENCE:
        scored = _by_score(index, source, asked[COMPARED_WINNERS], size, seed)
    return Prepared(name, index, live, compile_s, selects, kernels, (ours, *peers), scored)


def _by_score(
    index: adcore.Index, source: adcore.Catalog, asked: list[Request], size: Size, seed: int
) -> Subject:
    scored = by_score.scored(index, source, seed)
    subject = by_score.select(index, scored, asked)
    by_score.check(index, subject, scored.scores, size.peer_requests)
    return subject


def _peers(source: adcore.Catalog, asked: Sequence[Request]) -> list[Matcher]:
    numbering = Numbering()
    columns = Columns(numbering.lines(source))
    calls = [(grouped(numbering.asked(request)),) for request in asked]
    peers = [peer(columns) for peer in PEERS]
    return [Matcher(Subject(peer.name, peer.match, calls), peer.lines) for peer in peers]


# -- measuring -------------------------------------------------------------------------------------

Passes: TypeAlias = "dict[tuple[str, str], list[Times]]"
"""By workload and subject: the times of each round."""


def measure_size(cases: Sequence[Prepared], rounds: int, seed: int, clocks: list[float]) -> Passes:
    """Time every subject once a round, in another order each round: noise falls on all alike."""
    subjects = [
        (case.name, subject)
        for case in cases
        for subject in (
            *case.selects.values(),
            *case.kernels.values(),
            *((case.by_score,) if case.by_score else ()),
            *(it.subject for it in case.matchers),
        )
    ]
    passes: Passes = {(name, subject.name): [] for name, subject in subjects}
    rng = Random(seed)
    with no_garbage_collection():
        for _ in range(rounds):
            clocks.append(clock_cost_ns())
            for name, subject in rng.sample(subjects, len(subjects)):
                passes[name, subject.name].append(timed(subject))
    return passes


def figures_of(case: Prepared, size: Size, passes: Passes, clock_ns: float) -> Case:
    def times(subject: str, name: str = case.name) -> list[Times]:
        return passes[name, subject]

    ours = case.matchers[0]
    answers, lines_matched = checksum(
        ours.lines(ours.subject.ask(*it)) for it in ours.subject.calls
    )
    selects = []
    for winners, subject in case.selects.items():
        winning, won_mean = checksum(won(subject))
        selects.append(
            Selected(
                winners=winners,
                won=won_mean,
                latency=latency(times(subject.name), clock_ns),
                kernel=latency(times(case.kernels[winners].name), 0),
                answers=winning,
            )
        )
    scored = None
    if case.by_score:
        winning, won_mean = checksum(won(case.by_score))
        these, booked = times(case.by_score.name), times(case.selects[COMPARED_WINNERS].name)
        scored = ByScore(
            winners=COMPARED_WINNERS,
            won=won_mean,
            latency=latency(these, clock_ns),
            of_booked=ratio(these, booked, clock_ns),
            answers=winning,
        )
    names = [it.subject.name for it in case.matchers]
    compared = f"select {COMPARED_WINNERS}"
    return Case(
        workload=case.name,
        line_items=case.index.line_count,
        rows=case.index.row_count,
        rows_live=case.live.count,
        compile_s=round(case.compile_s, 3),
        index_bytes=case.index.nbytes,
        bytes_a_row=case.index.nbytes / max(1, case.index.row_count),
        lines_matched=lines_matched,
        answers=answers,
        compared=size.peer_requests,
        select=tuple(selects),
        match=tuple(
            Matched(name, latency(times(name), clock_ns), ratio(times(name), times(OURS), clock_ns))
            for name in names
        ),
        of_ads_a=OfAdsA(
            match=ratio(times(OURS), times(OURS, REFERENCE), clock_ns),
            select=ratio(times(compared), times(compared, REFERENCE), clock_ns),
        ),
        by_score=scored,
    )


def measure(plan: Plan, seed: int) -> Run:
    started, started_s = datetime.now(UTC), time.monotonic()
    facts = machine()  # first: its load average is the machine's, not ours
    clocks: list[float] = []
    measured = []
    for size in plan.sizes:
        cases = [prepare(name, size, seed) for name in size.workloads]
        measured.append((size, cases, measure_size(cases, plan.rounds, seed, clocks)))
    clock = spread(clocks)
    return Run(
        schema_version=engine_figures.SCHEMA_VERSION,
        started_at=started.isoformat(timespec="seconds"),
        duration_s=round(time.monotonic() - started_s, 1),
        plan=plan.name,
        seed=seed,
        rounds=plan.rounds,
        clock_ns=clock,
        machine=facts,
        versions=versions(),
        cases=tuple(
            figures_of(case, size, passes, clock.median)
            for size, cases, passes in measured
            for case in cases
        ),
    )


# -- command line ----------------------------------------------------------------------------------


def write_dump(path: Path, name: str, line_count: int, request_count: int, seed: int) -> None:
    source = catalog(name, line_count, seed)
    asked = requests(name, request_count, seed + 1)
    dump(path, source, asked)
    index = adcore.compile(source)
    live = index.live(workload.NOW_S)
    answers, lines_matched = checksum(found(index.matching(request, live)) for request in asked)
    print(
        f"wrote {path}: {line_count} lines, then {request_count} requests; a request matches"
        f" {lines_matched:.4f} lines on average, {lines_matched * request_count:.0f} in all"
        f" (SHA-256 {answers})"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    plans = parser.add_mutually_exclusive_group()
    plans.add_argument("--medium", dest="plan", action="store_const", const=MEDIUM, default=QUICK)
    plans.add_argument("--full", dest="plan", action="store_const", const=FULL)
    plans.add_argument("--result", type=Path, help="measure nothing, show this run")
    plans.add_argument("--dump", type=Path, help="measure nothing, write a workload as text")
    parser.add_argument("--workload", choices=WORKLOADS, default=REFERENCE, help="to dump")
    parser.add_argument("--lines", type=int, default=100_000, help="to dump")
    parser.add_argument("--requests", type=int, default=2000, help="to dump")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="the result's file")
    parser.add_argument("--write", action="store_true", help="the tables into benchmarks/README.md")
    asked = parser.parse_args(arguments)
    if asked.write and not asked.result and asked.plan is QUICK:
        parser.error("the quick plan's figures say nothing: --medium or --full with --write")
    if asked.dump:
        write_dump(asked.dump, asked.workload, asked.lines, asked.requests, asked.seed)
        return
    run = engine_figures.read(asked.result) if asked.result else measure(asked.plan, asked.seed)
    print(tables(run))
    if not asked.result:
        path = asked.out or RESULTS / f"engine-{run.plan}-{run.started_at[:10]}.json"
        figures.write(path, run)
        print(f"\nwrote {path} after {run.duration_s:.0f} s")
    if asked.write and plot.insert(README, tables(run), MARKERS):
        print(f"wrote the tables into {README}")


if __name__ == "__main__":
    main()
