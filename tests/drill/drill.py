"""The drill: events without end, faults one after the other, and at the end the count.

Counted must be what was taken: every event whose write to a spool returned, or whose request was
answered, once. Nothing else is lost but what the drill never had an answer for.
"""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

from server.clock import now_ms
from server.ledger import wal
from server.ledger.counter import Counter as Recount
from server.ledger.folder import DiskFolder
from server.store.buckets import HOUR
from server.store.counts import CountsStore
from tests import catalogs
from tests.drill import truth
from tests.drill.cluster import ROOT, Aggregator, Cluster, status_of, until
from tests.drill.faults import Faults
from tests.drill.truth import Key

BETWEEN_S: Final = (0.1, 1.0)
DRAIN_S_MAX: Final = 120.0
PLACE: Final = (40, 50, 10)  # line item, creative and site of the requests over HTTP


class Plan(NamedTuple):
    seed: int
    faults: int
    events: int
    producers: int = 2
    producer_rate: float = 5000
    requests_rate: float = 50
    seconds_max: float = 1500
    kinds: list[str] | None = None


class Helper:
    """A process that loads the cluster, and says at its end what it did."""

    def __init__(self, module: str, *arguments: object) -> None:
        command = [sys.executable, "-m", f"tests.drill.{module}", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )

    @property
    def is_done(self) -> bool:
        return self.process.poll() is not None

    def stop(self, seconds: float = 60) -> dict[str, Any]:
        self.process.terminate()
        return self.result(seconds)

    def result(self, seconds: float = 60) -> dict[str, Any]:
        try:
            out, _ = self.process.communicate(timeout=seconds)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, f"{self.process.args!r} failed"
        found: dict[str, Any] = json.loads(out)
        return found


def traffic(cluster: Cluster, seed: int, rate: float, journal: Path) -> Helper:
    url = next(each.click_url for each in catalogs.minimal().creatives if each.id == 50)
    ports = [pod.port for pod in cluster.pods]
    return Helper("traffic", seed, rate, cluster.token_key, *PLACE, url, journal, *ports)


def producers(cluster: Cluster, plan: Plan) -> list[Helper]:
    spools = [pod.spool for pod in cluster.pods]
    share = plan.events // plan.producers
    journal = cluster.folder / "truth-{}"
    return [
        Helper(
            "producer",
            f"bulk.{n}",
            plan.seed,
            plan.producer_rate,
            share,
            str(journal).format(n),
            *spools,
        )
        for n in range(plan.producers)
    ]


def run(cluster: Cluster, plan: Plan) -> dict[str, Any]:
    """Do it all; what came of it, with `lost` and `doubled` in it."""
    started_s = time.monotonic()
    dice = random.Random(f"drill {plan.seed}")
    assert until(lambda: all(status_of(pod.port, "/ping") == 200 for pod in cluster.pods), 120), (
        "not ready"
    )
    browsers = traffic(cluster, plan.seed, plan.requests_rate, cluster.folder / "truth-http")
    bulk = producers(cluster, plan)
    faults = Faults(cluster, plan.seed, plan.kinds)
    rss = [_memory(cluster)]
    tried = 0
    while time.monotonic() - started_s < plan.seconds_max:
        enough = sum(faults.done.values()) >= plan.faults or tried > 4 * plan.faults
        if enough and all(each.is_done for each in bulk):
            break
        if enough:
            time.sleep(0.5)
            continue
        faults.one()
        tried += 1
        time.sleep(dice.uniform(*BETWEEN_S))
        if tried % 50 == 0:
            rss.append(_memory(cluster))
            _say(started_s, faults, rss[-1])
    faults_s = time.monotonic() - started_s
    loads = [each.stop() for each in bulk]
    requests = browsers.stop()
    drained_s, codes = _drain(cluster)
    found = {
        "seed": plan.seed,
        "seconds": round(time.monotonic() - started_s),
        "faults_seconds": round(faults_s),
        "faults": sum(faults.done.values()),
        "faults_by_kind": dict(sorted(faults.done.items())),
        "notes": dict(faults.notes),
        "starts": {daemon.name: daemon.starts for daemon in cluster.daemons},
        "bulk": loads,
        "http": requests,
        "http_5xx": sum(n for code, n in requests["statuses"].items() if int(code) >= 500),
        "http_4xx": sum(n for code, n in requests["statuses"].items() if 400 <= int(code) < 500),
        "drain_seconds": drained_s,
        "exit_codes": codes,
        "rss_mib": rss,
    }
    return found | compare(cluster, plan, requests["retried"])


def compare(cluster: Cluster, plan: Plan, retried: dict[str, int]) -> dict[str, Any]:
    """Hold what Redis has against what was taken, and against the log."""
    counted = totals(cluster)
    journals = [cluster.folder / f"truth-{number}" for number in range(plan.producers)]
    bulk = truth.expected(row for path in journals for row in truth.taken(path))
    http = truth.expected(truth.taken(cluster.folder / "truth-http"))
    # A request that is asked again may have been taken the first time: then it is a duplicate.
    again = sum(retried.values())
    spare = {
        (hour, *PLACE, f"invalid.{kind}.duplicate"): again
        for kind in ("impression", "click")
        for hour in {key[0] for key in counted}
    }
    difference = truth.difference(bulk + http, counted, spare)
    frames = sum(n for key, n in counted.items() if _is_of_frame(key[4]))
    return {
        "frames_counted": frames,
        "impressions": sum(n for key, n in counted.items() if key[4] == "impressions"),
        "lost": difference.lost,
        "doubled": difference.doubled,
        "differences": [list(map(str, example)) for example in difference.examples],
        "recount_differs_by": [
            (redis_of(store) - logged).total() + (logged - redis_of(store)).total()
            for store, logged in zip(cluster.stores, map(recount, cluster.aggregators), strict=True)
        ],
    }


def totals(cluster: Cluster) -> Counter[Key]:
    """All that Redis has, over all shards."""
    counts: Counter[Key] = Counter()
    for store in cluster.stores:
        counts += redis_of(store)
    return counts


def redis_of(store: CountsStore) -> Counter[Key]:
    counts: Counter[Key] = Counter()
    for hour, _, fields in store.read(store.hours()):
        for field, count in fields.items():
            _add(counts, hour, field, count)
    return counts


def recount(aggregator: Aggregator) -> Counter[Key]:
    """All that a log says, counted once more."""
    counts: Counter[Key] = Counter()
    folder = DiskFolder(aggregator.folder / "wal")
    counter = Recount()
    for record in wal.read(folder, 0, wal.durable_mark(folder)):
        counter.take(wal.decode(record.body))
    for bucket, fields in counter.drain().items():
        for field, count in fields.items() if bucket.kind == HOUR else ():
            _add(counts, bucket.number, field, count)
    return counts


def _add(counts: Counter[Key], hour: int, field: bytes, count: int) -> None:
    line, creative, site, measure = field.decode().split(".", 3)
    # When something can't be read, nobody knows what hour it is of.
    key = (0 if measure == "unreadable" else hour, int(line), int(creative), int(site), measure)
    counts[key] += count


def _is_of_frame(measure: str) -> bool:
    singles = ("impressions", "clicks", "viewable", "events", "conversions")
    return measure in (*singles, "decision_logs", "unreadable") or measure.startswith("invalid.")


def _drain(cluster: Cluster) -> tuple[float, dict[str, int]]:
    """End the pods in the order that Kubernetes does, and wait until all is counted."""
    started_s = time.monotonic()
    for pod in cluster.pods:
        for wire in pod.wires:
            wire.heal()
    cluster.mend()
    codes = {}
    # Time to find one another again; then what is left must go within the forwarder's own limit.
    time.sleep(5)
    for pod in cluster.pods:
        if pod.server is not None:
            codes[pod.server.name] = pod.server.end()
    for pod in cluster.pods:
        codes[pod.forwarder.name] = pod.forwarder.end()
    cluster.wait_counted(DRAIN_S_MAX)
    return round(time.monotonic() - started_s, 1), codes


def _memory(cluster: Cluster) -> dict[str, int]:
    """Resident MiB of what could grow."""
    pids = {daemon.name: daemon.pid for daemon in cluster.daemons}
    for aggregator in cluster.aggregators:
        pids[f"count-{aggregator.shard}"] = aggregator.child(b"\0count\0")
    found = {}
    for name, pid in pids.items():
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        found[name] = pages * 4096 >> 20
    return found


def _say(started_s: float, faults: Faults, memory: dict[str, int]) -> None:
    done = sum(faults.done.values())
    print(f"{time.monotonic() - started_s:.0f} s: {done} faults, {memory}", flush=True)


def stamp() -> str:
    return time.strftime("%Y-%m-%dT%H%M", time.gmtime(now_ms() / 1000))
