"""The drill of budgets: whatever dies, nobody is billed for more than was booked.

    python -m tests.drill.spending       half an hour, to a file in benchmarks/results

Real servers spend leases of a real Redis with a replica, real control processes settle them from
what a real ledger counted, and the faults take turns. At the end, of every account: billed, booked.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from adcore.catalog import Catalog
from benchmarks.machine import machine, versions
from server.store import Keyspace, connect
from server.store.catalogs import CatalogStore
from tests import catalogs
from tests.drill.cluster import ROOT, Cluster, Daemon, status_of, until
from tests.drill.drill import Helper, recount, redis_of, stamp
from tests.serving import publish

# What is booked: impressions a line item, or money for them.
GOALS: Final = (3, 5, 10, 50, 50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000, 10**7)
CPM_MICROS: Final = 2_500_000
CAMPAIGN_GOAL: Final = 3_000  # shared by SHARING line items
SHARING: Final = 4


class Plan(NamedTuple):
    seed: int
    seconds: float = 1_500  # under load
    rate: float = 60  # pages a second, of five ads each
    kills: int = 20
    failovers: int = 3
    flushes: int = 2
    outage_s: float = 300
    patience_s: float = 150  # after which nobody shows an ad any more; paid is until 120


def catalog() -> Catalog:
    """Line items of one tier that share all there is by lot, so that each is asked for often."""
    records = catalogs.minimal_records()
    del records["advertisers"][0]["labels"]  # of which a page would show one ad alone
    booked = records["line_items"][0] | {"priority": 16, "ads": [{"creative_id": 50}]}
    booked["rate"] = {"type": "cpm", "price_micros": CPM_MICROS}
    booked["pacing"] = "asap"
    items = []
    for number, goal in enumerate(GOALS):
        in_units = booked | {"id": 1000 + number, "name": f"Goal of {goal}"}
        in_units["goal"] = {"unit": "impressions", "total": goal}
        in_money = booked | {"id": 2000 + number, "name": f"Money for {goal}"}
        in_money["budget"] = {"total_micros": goal * CPM_MICROS // 1000}
        by_day = booked | {"id": 3000 + number, "name": f"{goal} a day", "pacing": "even"}
        by_day["goal"] = {"unit": "impressions", "daily": goal}
        by_day["time_zone"] = "Asia/Kolkata"
        items += [in_units, in_money, by_day]
    shared = {
        "id": 32, "advertiser_id": 20, "name": "Shared",
        "goal": {"unit": "impressions", "total": CAMPAIGN_GOAL},
    }  # fmt: skip
    records["campaigns"].append(shared)
    items += [
        booked | {"id": 4000 + number, "campaign_id": 32, "name": f"Sharing {number}"}
        for number in range(SHARING)
    ]
    records["line_items"] = items
    return msgspec.convert(records, Catalog)


class Harm:
    """Faults in an order of the seed's, spread over the time that there is."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self.done: Counter[str] = Counter()
        self._cluster, self._plan = cluster, plan
        self._dice = random.Random(f"harm {plan.seed}")
        kills = [self._kill_worker, self._kill_server, self._kill_agent, self._kill_control,
                 self._kill_counter, self._kill_intake, self._kill_redis]  # fmt: skip
        planned: list[Callable[[], str]] = [kills[n % len(kills)] for n in range(plan.kills)]
        planned += [self._fail_over] * plan.failovers + [self._flush] * plan.flushes
        self._dice.shuffle(planned)
        middle = len(planned) // 2
        self._planned = [*planned[:middle], self._outage, *planned[middle:]]

    def run(self) -> None:
        pause_s = (self._plan.seconds - self._plan.outage_s) / (len(self._planned) + 1)
        for fault in self._planned:
            time.sleep(self._dice.uniform(0.5, 1.5) * pause_s)
            name = fault()
            self.done[name] += 1
            print(f"{time.monotonic():.0f} {name}", flush=True)
            self._mend()
        time.sleep(pause_s)

    def _mend(self) -> None:
        self._cluster.mend()
        with suppress(Exception):
            store = CatalogStore(connect(self._cluster.redis.url), Keyspace())
            try:
                lost = store.current() is None
            finally:
                store.close()
            if lost:
                publish(self._cluster.redis.url, catalog())

    def _end(self, pid: int, what: str) -> str:
        if pid <= 0:
            return f"{what}: was not there"
        os.kill(pid, signal.SIGKILL)
        return what

    def _server(self) -> Daemon:
        server = self._dice.choice(self._cluster.pods).server
        assert server is not None
        return server

    def _kill_worker(self) -> str:
        return self._end(self._server().child(b"multiprocessing.spawn"), "kill worker")

    def _kill_server(self) -> str:
        server = self._server()
        self._end(server.pid, "")
        server.process.wait()
        return "kill server"

    def _kill_agent(self) -> str:
        return self._end(self._server().child(b"\0lease\0"), "kill agent")

    def _kill_control(self) -> str:
        control = self._dice.choice(self._cluster.controls)
        self._end(control.pid, "")
        control.process.wait()
        return "kill control"

    def _kill_counter(self) -> str:
        aggregator = self._dice.choice(self._cluster.aggregators)
        return self._end(aggregator.child(b"\0count\0"), "kill counter")

    def _kill_intake(self) -> str:
        aggregator = self._dice.choice(self._cluster.aggregators)
        self._end(aggregator.pid, "")
        aggregator.process.wait()
        return "kill intake"

    def _kill_redis(self) -> str:
        redis = self._cluster.redis
        redis.kill()
        redis.truncate(self._dice.randrange(1, 200_000))
        return "kill redis, cut its log"

    def _fail_over(self) -> str:
        redis = self._cluster.redis
        redis.detach()
        time.sleep(self._dice.uniform(0.5, 8.0))
        redis.promote()
        return "fail over to a stale replica"

    def _flush(self) -> str:
        redis = self._cluster.redis
        redis.command(redis.primary, "FLUSHALL")
        return "flush redis"

    def _outage(self) -> str:
        self._cluster.redis.kill()
        time.sleep(self._plan.outage_s)
        return f"{self._plan.outage_s:.0f} s without redis"


def run(cluster: Cluster, plan: Plan) -> dict[str, Any]:
    for _ in range(2):  # a leader and a standby
        cluster.control()
    assert until(lambda: all(status_of(pod.port, "/ping") == 200 for pod in cluster.pods), 120), (
        "not ready"
    )
    ports = (pod.port for pod in cluster.pods)
    shopper = Helper("shopper", plan.seed, plan.rate, plan.patience_s, *ports)
    harm = Harm(cluster, plan)
    harm.run()
    seen = shopper.stop(plan.patience_s + 60)
    time.sleep(5)
    cluster.wait_counted(180)
    return {
        "seed": plan.seed,
        "faults": dict(sorted(harm.done.items())),
        "http": {name: found for name, found in seen.items() if name != "given"},
        "http_5xx": sum(n for code, n in seen["statuses"].items() if int(code) >= 500),
        "lease_closed": _measured(cluster, "invalid.impression.lease_closed"),
        "recount_differs_by": [
            (redis_of(store) - logged).total() + (logged - redis_of(store)).total()
            for store, logged in zip(cluster.stores, map(recount, cluster.aggregators), strict=True)
        ],
        "accounts": accounts(cluster),
    }


def accounts(cluster: Cluster) -> list[dict[str, Any]]:
    """Of each limit: what was booked, what was billed."""
    units: Counter[int] = Counter()
    nanos: Counter[int] = Counter()
    for store in cluster.stores:
        for (_, line, _, _, measure), count in redis_of(store).items():
            if measure == "impressions":
                units[line] += count
            elif measure == "revenue_nanos":
                nanos[line] += count
    found = []
    for item in catalog().line_items:
        if item.goal is not None:
            booked = item.goal.total or item.goal.daily or 0
            found.append({"name": item.name, "booked": booked, "billed": units[item.id]})
        elif item.budget is not None and item.budget.total_micros is not None:
            micros = -(-nanos[item.id] // 1000)
            found.append({"name": item.name, "booked": item.budget.total_micros, "billed": micros})
    shared = sum(units[4000 + number] for number in range(SHARING))
    return [*found, {"name": "Shared campaign", "booked": CAMPAIGN_GOAL, "billed": shared}]


def _measured(cluster: Cluster, measure: str) -> int:
    counts = sum((redis_of(store) for store in cluster.stores), Counter[Any]())
    return sum(count for key, count in counts.items() if key[4] == measure)


def overspent(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in found["accounts"] if each["billed"] > each["booked"]]


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and leave no process behind
    plan = Plan(seed=int(os.environ.get("ADCORE_DRILL_SEED", time.time())))
    print(f"seed {plan.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="adcore-drill-") as folder,
        Cluster(Path(folder) / "drill", sold=catalog()) as cluster,
    ):
        found = run(cluster, plan)
    print(json.dumps(found, indent=1), flush=True)
    path = ROOT / "benchmarks" / "results" / f"spending-{stamp()}.json"
    whole = {"machine": machine() | versions(), "spending": found}
    path.write_text(json.dumps(whole, indent=1) + "\n")
    print(path.name)
    wrong = len(overspent(found)) + found["http_5xx"] + sum(found["recount_differs_by"])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
