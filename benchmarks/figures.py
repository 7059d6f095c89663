"""What a run of the load benchmark finds: the schema of `results/load-*.json`.

Written by `load`, read by `plot` and by people.
"""

import json
from pathlib import Path
from statistics import median
from typing import Any, dataclass_transform

import msgspec
from msgspec import Struct

SCHEMA_VERSION = 1


@dataclass_transform(frozen_default=True)  # for type checkers, which do not inherit `frozen`
class Figure(Struct, frozen=True, forbid_unknown_fields=True):
    """Every field is there in every file: a figure that was not measured is null, not absent."""


class Spread(Figure):
    """The median over rounds, and how far they lie apart: the noise of that machine on that day."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    return Spread(median=median(values), low=min(values), high=max(values))


class OpenLoop(Figure):
    share: float  # of the server's own maximum
    rate_asked: float
    rate: float
    p50_ms: Spread
    p99_ms: Spread
    p99_9_ms: Spread
    cpu_us: Spread  # of the whole process tree, a request
    faults: int  # requests without a 2xx answer, over all rounds


class Served(Figure):
    """One server under one size of request."""

    answer_bytes: float
    max_rate: Spread  # closed loop, server and client on a core each
    max_cpu_us: Spread
    max_faults: int
    open_loop: tuple[OpenLoop, ...]
    held_rate: float | None  # highest with p99 below HELD_P99_MS, nothing pinned, open loop


class Size(Figure):
    name: str
    body_bytes: float
    variants: int
    ours: Served
    floor: Served
    noise: OpenLoop | None  # a server that does nothing, in C, at the rate of ours
    max_ratio: Spread  # ours / floor, round by round
    held_ratio: float | None


class Swap(Figure):
    """Tail latency while a snapshot is replaced, against the same run without."""

    line_items: int
    swaps: int
    rate: float
    swap_s: Spread  # from the word to the first answer of the new generation
    quiet_requests: int
    swap_requests: int
    quiet_p99_ms: Spread
    swap_p99_ms: Spread
    quiet_p99_9_ms: Spread
    swap_p99_9_ms: Spread
    ratio_p99_9: float  # of the medians
    faults: int
    # While the workers change over, which is a small part of a long swap; not in older results.
    moment_requests: int | None = None
    moment_p99_9_ms: Spread | None = None
    moment_ratio_p99_9: float | None = None


class RedisKill(Figure):
    rate: float
    requests: int
    answered_2xx: int
    faults: int
    p99_ms_before: float
    p99_ms_after: float


class Memory(Figure):
    requests: int
    warm_up_requests: int
    rss_mib_start: float
    rss_mib_end: float
    bytes_per_request: float
    faults: int


class Checksums(Figure):
    """SHA-256 over what a request's answer must be, whatever the draw: see `answers.py`."""

    requests: str  # over every request sent
    answers: dict[str, str]  # by size of request
    sampled: int  # answers of the running server that the engine gave again, for the same draw
    ads: int  # in them


class Run(Figure):
    schema_version: int
    started_at: str
    duration_s: float
    plan: str
    seed: int
    line_items: int
    machine: dict[str, Any]
    versions: dict[str, str]
    flags: dict[str, Any]
    checksums: Checksums
    throughput: tuple[Size, ...] | None
    swap: Swap | None
    redis_kill: RedisKill | None
    memory: Memory | None


def write(path: Path, run: Figure) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(msgspec.to_builtins(run), indent=1) + "\n")


def read(path: Path) -> Run:
    """The run in `path`; a field too many or too few is an error."""
    run = msgspec.json.decode(path.read_bytes(), type=Run)
    if run.schema_version != SCHEMA_VERSION:
        raise ValueError(f"{path}: schema version {run.schema_version}")
    return run
