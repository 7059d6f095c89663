"""`adcore control` as a process: accounts open, leases are settled, and it outlives its Redis."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest

from adcore.catalog import Catalog, Cpm, Goal
from server.config import Config
from server.events.leases import closes_s, window_of
from server.pacing.accounts import accounts_of
from server.pacing.control import shards_of
from server.store import Keyspace, connect
from server.store.budgets import BudgetStore, Call, Limit, Want
from server.store.plans import PlanStore
from tests.catalogs import minimal
from tests.controlling import Control
from tests.redis_server import RedisServer
from tests.serving import ROOT, environ_of, free_ports, publish, wait_until
from tests.shards import Shard, beacon

LINE = 40


def catalog() -> Catalog:
    base = minimal()
    line = msgspec.structs.replace(
        base.line_items[0], rate=Cpm(8_000_000), goal=Goal("impressions", 1000)
    )
    return msgspec.structs.replace(base, line_items=(line, *base.line_items[1:]))


@pytest.fixture
def redis_alone() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, folder: Path, url: str, name: str = "control") -> Control:
    control = Control(folder, url, name)
    stack.callback(control.kill)
    return control


def metrics_of(control: Control) -> dict[str, float]:
    url = f"http://127.0.0.1:{control.ops_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines[:-1]
            if not line.startswith("#")}  # fmt: skip


def opened(budgets: BudgetStore) -> int | None:
    return budgets.opened("ever").get("l40.impressions")


@pytest.mark.process
def test_a_granted_window_is_settled_and_a_plan_is_made(tmp_path, redis_url, stack):
    now_s = int(time.time())
    budgets = BudgetStore(connect(redis_url), Keyspace())
    budgets.begin(window_of(now_s) - 30)
    publish(redis_url, catalog())
    shard = Shard(tmp_path, redis_url)
    shard.write([], written_s=now_s)
    shard.count()
    control = start(stack, tmp_path, redis_url)
    wait_until(lambda: opened(budgets) == 0, "the accounts")

    (account, *_) = accounts_of(catalog())[LINE]
    limit = Limit("ever", account.name, account.limit, account.window_max)
    wants = [Want(5, ((0, 5),))]

    granted: list[int] = []

    def grant() -> bool:
        window = window_of(budgets.now_us() // 1_000_000)
        answer = budgets.grant(Call("s", time.monotonic_ns(), 0, window, [limit], wants, {}))
        granted.append(window)
        return answer.granted == [5]

    wait_until(grant, "a lease")  # at the first asking, unless the window turns just then
    window = granted[-1]
    at_s = max(now_s, window * 10)
    shard.write([beacon(at_s=at_s, received_s=at_s, lease=window) for _ in range(3)])
    shard.write([], written_s=closes_s(window))
    shard.count()
    wait_until(lambda: budgets.state().settled >= window, "the window to be settled")
    assert opened(budgets) == 3
    assert budgets.out().get("ever/l40.impressions") is None

    plans = PlanStore(connect(redis_url), Keyspace())
    wait_until(plans.version, "a plan")
    plan = plans.read()
    assert np.frombuffer(plan.ids, "<i8").tolist() == [40, 41]
    found = metrics_of(control)
    assert found["adcore_control_leads"] == found["adcore_control_generation"] == 1
    assert found["adcore_control_windows_settled_total"] >= 30
    assert found["adcore_control_accounts_opened_total"] in (5, 7)  # 7: near midnight
    assert found["adcore_control_plan_line_items"] == 2
    assert found['adcore_control_plans_total{result="written"}'] >= 1
    assert found["adcore_control_resets_total"] == 0
    assert control.stop() == 0


@pytest.mark.process
def test_a_redis_that_was_wiped_and_away_is_healed(tmp_path, redis_alone, stack):
    """The real aggregator makes the counts again, and control the accounts of them."""
    url = redis_alone.url
    publish(url, catalog())
    ledger = tmp_path / "ledger"
    past_s = int(time.time()) - 4000
    Shard(ledger, url).write([beacon(at_s=past_s, received_s=past_s) for _ in range(7)])
    ports = free_ports()
    settings = {"redis_url": url, "ledger_dir": ledger, "aggregate_port": ports[0]}
    with (tmp_path / "aggregate.log").open("wb") as log:
        aggregate = subprocess.Popen(
            [sys.executable, "-m", "server", "aggregate"],
            cwd=ROOT,
            env=environ_of({**settings, "ops_port": ports[1]}),
            stdout=log,
            stderr=log,
        )
    stack.callback(aggregate.wait)
    stack.callback(aggregate.kill)
    control = start(stack, tmp_path, url)
    budgets = BudgetStore(connect(url), Keyspace())
    wait_until(lambda: opened(budgets) == 7, "the accounts")

    connect(url).flushall()
    publish(url, catalog())
    wait_until(lambda: opened(budgets) == 7, "the accounts after a flush")

    redis_alone.stop()
    control.wait_for("waits for Redis", 2)  # the lead does, and the work
    time.sleep(3)
    redis_alone.start()
    publish(url, catalog())
    wait_until(lambda: opened(budgets) == 7, "the accounts of another Redis")
    control.wait_for('"made the accounts again"', 3)
    assert control.log.count("control waits for Redis") <= 2
    assert control.log.count("the lead waits for Redis") == 1
    assert "Traceback" not in control.log
    assert control.stop() == 0


@pytest.mark.process
def test_a_catalog_is_followed_and_a_bad_one_is_not(tmp_path, redis_url, stack):
    publish(redis_url, minimal())
    shard = Shard(tmp_path, redis_url)
    shard.write([], written_s=int(time.time()))
    shard.count()
    control = start(stack, tmp_path, redis_url)
    control.wait_for('"opened accounts"')
    budgets = BudgetStore(connect(redis_url), Keyspace())
    assert opened(budgets) is None
    publish(redis_url, catalog())
    wait_until(lambda: opened(budgets) == 0, "what is new in the catalog")
    client = connect(redis_url)
    generation = publish(redis_url, catalog())
    control.wait_for(f'"generation": {generation}')
    client.delete(Keyspace().chunk(generation, 0))
    client.set(Keyspace().current, generation + 1)
    control.wait_for("can't use a catalog")
    time.sleep(2.5)
    assert control.log.count("can't use a catalog") == 1
    assert json.loads(control.log.splitlines()[-1])["level"] in ("ERROR", "INFO")
    assert control.process.poll() is None


def test_no_shard_that_a_list_names_may_be_missing():
    assert shards_of(Config()) == {0}
    assert shards_of(Config(aggregators=("a:1", "b:1"))) == {0, 1}
    assert shards_of(Config(aggregators=("a:1", "b:1", "@5", "a:1"))) == {0, 1}
