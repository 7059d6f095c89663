"""The engine on the reference workloads; small, unless ADCORE_BENCH=full.

    ADCORE_BENCH=full python -m pytest benchmarks/bench_engine.py --benchmark-enable

A round of `select` is all requests once: divide by `requests_a_round`. The checksum over the
winners makes sure that a faster engine still picks the same ads.
"""

import os
from functools import cache
from zlib import crc32

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import adcore
from adcore.request import Request
from benchmarks import workload

FULL = os.environ.get("ADCORE_BENCH") == "full"
LINE_COUNTS = (10_000, 100_000) if FULL else (1000,)
REQUEST_COUNT = 2000 if FULL else 100
SEED = 1


@cache
def catalog(name: workload.Workload, line_count: int) -> adcore.Catalog:
    return workload.catalog(name, line_count, SEED)


@cache
def index(name: workload.Workload, line_count: int) -> adcore.Index:
    return adcore.compile(catalog(name, line_count))


def answer(made: adcore.Index, live: adcore.Live, requests: list[Request]) -> list[int]:
    return [
        win.line_item_id
        for draw, request in enumerate(requests)
        for wins in made.select(request, live, draw)
        for win in wins
    ]


def checksum(line_item_ids: list[int]) -> int:
    return crc32(b"".join(number.to_bytes(8, "little") for number in line_item_ids))


@pytest.mark.parametrize("winners", [1, 10])
@pytest.mark.parametrize("line_count", LINE_COUNTS)
@pytest.mark.parametrize("name", ["ADS-A", "ADS-B"])
def test_bench_select(
    benchmark: BenchmarkFixture, name: workload.Workload, line_count: int, winners: int
) -> None:
    made = index(name, line_count)
    live = made.live(workload.NOW_S)
    requests = workload.requests(REQUEST_COUNT, SEED + 1, winners)

    def run() -> None:
        for request in requests:
            made.select(request, live, 1)

    benchmark(run)
    won = answer(made, live, requests)
    assert won
    benchmark.extra_info.update(
        requests_a_round=REQUEST_COUNT,
        winners_a_request=len(won) / REQUEST_COUNT,
        checksum=checksum(won),
    )


@pytest.mark.parametrize("line_count", LINE_COUNTS)
def test_bench_compile(benchmark: BenchmarkFixture, line_count: int) -> None:
    source = catalog("ADS-A", line_count)
    made = benchmark.pedantic(adcore.compile, (source,), rounds=3)
    benchmark.extra_info.update(
        bytes_a_row=made.nbytes / made.row_count, checksum=crc32(made.buffer)
    )


@pytest.mark.parametrize("line_count", LINE_COUNTS)
def test_bench_attach(benchmark: BenchmarkFixture, line_count: int) -> None:
    buffer = index("ADS-A", line_count).buffer
    made = benchmark(adcore.Index.attach, buffer)
    assert made.line_count == line_count


@pytest.mark.parametrize("line_count", LINE_COUNTS)
def test_bench_live(benchmark: BenchmarkFixture, line_count: int) -> None:
    live = benchmark(index("ADS-A", line_count).live, workload.NOW_S)
    benchmark.extra_info["checksum"] = live.count
