"""`make drill`: the long one, to a file in benchmarks/results.

ADCORE_DRILL_SEED, _FAULTS, _EVENTS and _SECONDS change it.
"""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import machine, versions
from tests.drill import windows
from tests.drill.cluster import ROOT, Cluster
from tests.drill.drill import Plan, run, stamp


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and leave no process behind

    def setting(name: str, default: int) -> int:
        return int(os.environ.get(f"ADCORE_DRILL_{name}", default))

    plan = Plan(
        seed=setting("SEED", int(time.time())),
        faults=setting("FAULTS", 220),
        events=setting("EVENTS", 5_200_000),
        producer_rate=setting("RATE", 5_000),
        seconds_max=setting("SECONDS", 1_200),
    )
    print(f"seed {plan.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="adcore-drill-") as folder:
        with Cluster(Path(folder) / "drill") as cluster:
            found = {"machine": machine() | versions(), "drill": run(cluster, plan)}
        print(json.dumps(found["drill"], indent=1), flush=True)
        found["vanishing"] = windows.vanishing(Path(folder), setting("REPETITIONS", 60))
        print(found["vanishing"], flush=True)
        found["drain"] = windows.drain(Path(folder), setting("DRAINED", 1_000_000))
        print(found["drain"], flush=True)
        found["freshness"] = windows.freshness(Path(folder), setting("PROBES", 300))
        print(found["freshness"], flush=True)
    path = ROOT / "benchmarks" / "results" / f"drill-{stamp()}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path.name)
    drill = found["drill"]
    wrong = drill["lost"] + drill["doubled"] + drill["http_5xx"] + sum(drill["recount_differs_by"])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
