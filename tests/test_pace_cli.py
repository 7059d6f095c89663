"""`adcore pace` on a real Redis: what it reads, what it says when something is not there."""

import json
import os
import time

import numpy as np
import pytest

from server import cli
from server.events.leases import closed_window
from server.pacing.settling import Settling
from server.store import Keyspace, connect
from server.store.budgets import BudgetStore
from server.store.leaders import LeaderStore
from server.store.plans import PlanStore
from tests.serving import publish
from tests.shards import Shard, beacon
from tests.test_settling_ledger import catalog

pytestmark = pytest.mark.process


@pytest.fixture
def adcore(redis_url, monkeypatch, capsys):
    for name in os.environ:
        if name.startswith("ADCORE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ADCORE_REDIS_URL", redis_url)

    def run(*arguments: object, code: int = 0) -> str:
        found = cli.main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        assert found == code, streams.err
        return streams.out or streams.err

    return run


@pytest.fixture
def world(redis_url, tmp_path) -> Shard:
    """Seven impressions of line item 40, opened accounts, a plan of 42 %, a leader."""
    now_s = int(time.time())
    client = connect(redis_url)
    publish(redis_url, catalog())
    shard = Shard(tmp_path, redis_url)
    shard.write([beacon(at_s=now_s - 4000) for _ in range(7)])
    shard.write([], written_s=now_s)
    shard.count()
    budgets = BudgetStore(client, Keyspace())
    budgets.begin(closed_window(now_s))
    settling = Settling(budgets, [shard.store])
    settling.take(catalog())
    settling.step(now_s)
    ids, rates, probabilities = (
        np.array(column, "<i8").tobytes() for column in ([40, 41], [420_000, 0], [-1, -1])
    )
    PlanStore(client, Keyspace()).write(now_s, ids, rates, probabilities)
    LeaderStore(client, Keyspace()).hold("host:1:ab", 60_000)
    return shard


def test_it_shows_what_redis_has(adcore, world):
    document = json.loads(adcore("pace", "--json"))
    assert document["leader"] == "host:1:ab"
    assert document["plan"]["used"]
    assert document["without_limit"] == 0
    line = next(each for each in document["line_items"] if each["id"] == 40)
    assert line["rate_ppm"] == 420_000
    ever = next(each for each in line["limits"] if each["key"] == "ever/l40.impressions")
    assert (ever["billed"], ever["leased"], ever["limit"]) == (7, 0, 1000)
    assert sum(line["hours"]) == 7
    clicked = next(each for each in document["line_items"] if each["id"] == 41)
    limits = {each["key"]: each["limit"] for each in clicked["limits"]}
    assert limits["ever/l41.clicks"] == catalog().line_items[1].goal.total  # whole ones
    table = adcore("pace")
    assert "Front page takeover" in table
    assert "led by host:1:ab" in table
    assert "\x1b" not in table


def test_one_line_item(adcore, world):
    page = adcore("pace", "--line-item", 40)
    assert "40 Front page takeover   Acme / Spring, priority 4" in page
    assert "rate in force: 42% of its requests" in page
    only = json.loads(adcore("pace", "--line-item", 40, "--json"))
    assert [each["id"] for each in only["line_items"]] == [40]
    assert "has no goal" in adcore("pace", "--line-item", 4711, code=1)


def test_what_is_not_there_is_said(adcore, redis_url):
    assert adcore("pace", code=1) == "adcore: nothing is published\n"
    publish(redis_url, catalog())
    table = adcore("pace")
    for said in ("no plan", "counts not whole", "nothing settled", "nobody leads", "no accounts"):
        assert said in table
    assert "not opened yet" in table


def test_counts_that_are_being_made_again_are_not_shown_as_none(adcore, world, redis_url):
    connect(redis_url).delete(Keyspace().count_time(0))
    document = json.loads(adcore("pace", "--json"))
    assert document["counted_s"] is None


def test_an_aged_plan_is_none(adcore, world, redis_url):
    ids = np.array([40], "<i8").tobytes()
    PlanStore(connect(redis_url), Keyspace()).write(int(time.time()) - 600, ids, ids, ids)
    assert "plan aged out, 10 min old" in adcore("pace")
    line = json.loads(adcore("pace", "--line-item", 40, "--json"))["line_items"][0]
    assert (line["rate_ppm"], line["reason"]) == (None, "no_plan")


def test_redis_away_is_one_line(adcore, monkeypatch, tmp_path):
    monkeypatch.setenv("ADCORE_REDIS_URL", f"unix://{tmp_path}/none.sock")
    assert adcore("pace", code=1).startswith("adcore: Redis is away")
