"""A short drill of failovers: nobody who asks for an ad notices, and nothing is miscounted."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.drill.cluster import Cluster
from tests.drill.failover import KILLED, Plan, catalog, run, wrongs
from tests.sentinels import SentinelCluster

# The longest wait for a user's counts: a busy machine must not look like a cap that fails.
SETTINGS: dict[str, object] = {"redis_replicas": 1, "cap_deadline_ms": 50}
SEED = int(os.environ.get("ADCORE_DRILL_SEED", "4"))


@pytest.mark.process
def test_redis_fails_over_and_every_answer_is_200():
    plan = Plan(SEED, faults=(KILLED,), rate=30, steady_s=4, patience_s=3)
    # Not pytest's tmp_path: the name of a unix socket has at most 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="adcore-drill-") as folder,
        SentinelCluster() as redis,
        Cluster(Path(folder) / "drill", sold=catalog(), redis=redis, **SETTINGS) as cluster,
    ):
        found = run(cluster, plan)
    assert wrongs(found) == [], (found["capped"], found)
    # Something was counted, before the fault and after it.
    assert sum(account["billed"] > 0 for account in found["accounts"]) >= 10
    assert found["http"]["pages"] > 300
    print(found["answer_ms"], found["faults"])
