"""What a run of the engine benchmark finds: the schema of `results/engine-*.json`."""

from pathlib import Path
from typing import Any

import msgspec

from benchmarks.figures import Figure, Spread

SCHEMA_VERSION = 2


class Latency(Figure):
    """Of one call, less the clock's own cost; spreads are over rounds."""

    requests: int
    p50_us: Spread
    p99_us: Spread
    max_us: Spread
    worst_us: float  # the request that is slowest even in its fastest round


class Selected(Figure):
    winners: int  # asked for
    won: float  # a request, on average
    latency: Latency
    kernel: Latency  # of planning and filling alone: the request is read, its rows in the caches
    answers: str  # SHA-256 over the winning line items


class Matched(Figure):
    engine: str
    latency: Latency
    of_adcore: Spread  # its p50 / adcore's on the same requests, round by round


class OfAdsA(Figure):
    """The p50 / that on ADS-A with as many line items, round by round."""

    match: Spread
    select: Spread


class ByScore(Figure):
    """Selecting with a plan that gives every line item a bid multiplier."""

    winners: int  # asked for
    won: float  # a request, on average
    latency: Latency
    of_booked: Spread  # its p50 / that of the same requests without a plan, round by round
    answers: str  # SHA-256 over the winning line items


class Case(Figure):
    """One workload at one size."""

    workload: str
    line_items: int
    rows: int
    rows_live: int
    compile_s: float
    index_bytes: int
    bytes_a_row: float
    lines_matched: float  # a request, on average
    answers: str  # SHA-256 over the lines that match each request
    compared: int  # requests for which every engine found the same lines
    select: tuple[Selected, ...]
    match: tuple[Matched, ...]  # adcore first
    of_ads_a: OfAdsA
    by_score: ByScore | None = None  # of ADS-A; results older than this figure lack it


class Run(Figure):
    schema_version: int
    started_at: str
    duration_s: float
    plan: str
    seed: int
    rounds: int
    clock_ns: Spread  # over rounds; its median is taken off every latency
    machine: dict[str, Any]
    versions: dict[str, str]
    cases: tuple[Case, ...]


def read(path: Path) -> Run:
    """The run in `path`; a field too many or too few is an error."""
    run = msgspec.json.decode(path.read_bytes(), type=Run)
    if run.schema_version != SCHEMA_VERSION:
        raise ValueError(f"{path}: schema version {run.schema_version}")
    return run
