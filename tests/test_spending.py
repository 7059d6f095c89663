"""A short drill of budgets: whatever is killed or lost, nobody is billed beyond what was booked."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.drill.cluster import Cluster
from tests.drill.spending import Plan, catalog, overspent, run

SEED = int(os.environ.get("ADCORE_DRILL_SEED", "4"))


@pytest.mark.process
def test_no_budget_is_overspent_whatever_dies():
    plan = Plan(SEED, seconds=50, kills=5, failovers=1, flushes=0, outage_s=5, patience_s=3)
    # Not pytest's tmp_path: the name of a unix socket has at most 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="adcore-drill-") as folder,
        Cluster(Path(folder) / "drill", sold=catalog()) as cluster,
    ):
        found = run(cluster, plan)
    assert not overspent(found)
    assert not any(found["recount_differs_by"])
    assert found["http_5xx"] == 0
    assert sum(account["billed"] > 0 for account in found["accounts"]) >= 10
