"""A short drill: whatever is killed, stopped, cut or filled up, each event is counted once."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.drill.cluster import Cluster
from tests.drill.drill import Plan, run

SEED = int(os.environ.get("ADCORE_DRILL_SEED", "4"))


@pytest.mark.process
def test_nothing_is_lost_or_doubled_whatever_dies():
    kinds = [
        "kill worker",
        "kill forwarder",
        "kill intake",
        "kill counter",
        "kill redis",
        "stop intake",
        "truncate aof",
        "promote stale replica",
        "flush redis",
        "fill log disk",
        "fill spool",
        "cut network",
        "swallow network",
    ]
    plan = Plan(SEED, faults=13, events=80_000, producer_rate=2500, seconds_max=35, kinds=kinds)
    # Not pytest's tmp_path: the name of a unix socket has at most 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="adcore-drill-") as folder,
        Cluster(Path(folder) / "drill") as cluster,
    ):
        found = run(cluster, plan)
    assert not found["differences"]
    assert found["lost"] == found["doubled"] == 0
    assert not any(found["recount_differs_by"])
    assert found["http_5xx"] == found["http_4xx"] == 0
    assert found["faults"] >= 10
    assert set(found["exit_codes"].values()) == {0}
