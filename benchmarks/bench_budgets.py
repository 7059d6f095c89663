"""What a server's call for grants costs: 300 line items with two accounts each, all of them wanted.

`redis_us` in the extra info is the processor time that Redis takes for a call, all in all; 30
servers that call once a second take 30 times as much of its one core.
"""

from itertools import count
from typing import Any

import pytest

from server.store import Keyspace, connect
from server.store.budgets import BudgetStore, Call, Limit, Want
from tests.redis_server import RedisServer

LINES = 300
WINDOW = 179_350_000
MOMENT_US = WINDOW * 10_000_000 + 5_000_000
SERVERS = 30
MILLION = 10**6


def limits() -> list[Limit]:
    return [
        Limit(when, f"l{line}.impressions", 10**12, 10**10)
        for line in range(LINES)
        for when in ("ever", "2026-11-30")
    ]


def cpu_s(client: Any) -> float:
    spent = client.info("cpu")
    return spent["used_cpu_user"] + spent["used_cpu_sys"]


@pytest.mark.parametrize("returns", [False, True], ids=["", "and returned"])
@pytest.mark.parametrize("share", ["all", "a tenth", "none"])
def test_bench_grant(benchmark, share, returns):
    """All 300 wanted, a tenth, and none; returned is once in a window, which is each tenth call."""
    lines = {"all": LINES, "a tenth": LINES // 10, "none": 0}[share]
    with RedisServer() as server:
        client = connect(server.url)
        store = BudgetStore(client, Keyspace())
        store.reset(WINDOW - 2, WINDOW - 1, [], MOMENT_US - 2 * 10_000_000)
        store.settle(WINDOW - 1, {})
        names = {limit.name: 0 for limit in limits()}
        store.open(WINDOW - 1, {"ever": names, "2026-11-30": names})
        asked = limits()[: 2 * lines]
        wants = [Want(20, ((2 * line, 20), (2 * line + 1, 20))) for line in range(lines)]
        back = {WINDOW: {limit.field: 3 for limit in asked}} if returns else {}
        numbers = count(1)

        def call():
            answer = store.grant(Call("s", next(numbers), 0, WINDOW, asked, wants, back), MOMENT_US)
            assert answer.granted == [20] * lines
            return answer

        call()
        first, before_s = next(numbers), cpu_s(client)
        benchmark(call)
        redis_us = (cpu_s(client) - before_s) * MILLION / (next(numbers) - first - 1)
        benchmark.extra_info["redis_us"] = round(redis_us)
        benchmark.extra_info["redis_core_percent"] = round(redis_us * SERVERS / 10_000, 1)
        client.close()
