"""What counting costs: the whole chain as real processes, and each one's processor time.

python -m benchmarks.ledger [--quick]

    producer ─► spool ─► forward ─► aggregate ═ log ═ count ─► Redis (with its append-only file)

Time is what the scheduler charged (/proc/PID/stat), so a noisy neighbour lengthens a run and does
not change its figures much. Rates are events for each second of a core.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import generator
from benchmarks.machine import machine, versions
from server.delivery.tokens import Keyring, Served, placement_digest
from tests.drill.cluster import BROWSER, Cluster, status_of, until
from tests.drill.drill import Helper, stamp, totals

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
RESULTS: Final = Path(__file__).parent / "results"
COUNTED_S_MAX: Final = 300.0
STEADY_S: Final = 20
VARIANTS: Final = 16_000  # impressions that the load generator sends in turn


@dataclass
class Costs:
    """Seconds of processor, by part."""

    forwarder: float
    intake: float
    counter: float
    redis: float

    def __sub__(self, before: "Costs") -> "Costs":
        pairs = zip(vars(self).values(), vars(before).values(), strict=True)
        return Costs(*(now - then for now, then in pairs))


def cpu_s(pid: int) -> float:
    """Of a process, all its threads, and children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_S


def costs(cluster: Cluster) -> Costs:
    aggregator = cluster.aggregators[0]
    pids = (cluster.pods[0].forwarder.pid, aggregator.pid, _counter(cluster), cluster.redis.pid)
    return Costs(*map(cpu_s, pids))


def _counter(cluster: Cluster) -> int:
    assert until(lambda: cluster.aggregators[0].child(b"\0count\0"), 30)
    return cluster.aggregators[0].child(b"\0count\0")


@contextmanager
def chain(folder: Path, serves: bool = False) -> Iterator[Cluster]:
    with Cluster(folder / "chain", pods=1, shards=1, serves=serves) as cluster:
        _counter(cluster)
        assert until(lambda: cluster.aggregators[0].durable() > 0, 30)
        time.sleep(1)
        yield cluster


def produce(cluster: Cluster, name: str, rate: float, events: int) -> Helper:
    journal = cluster.folder / f"truth-{name}"
    return Helper("producer", name, 1, rate, events, journal, cluster.pods[0].spool)


def backlog(cluster: Cluster, events: int) -> dict[str, Any]:
    """A spool that has waited: every part as fast as it goes."""
    forwarder = cluster.pods[0].forwarder.pid
    os.kill(forwarder, signal.SIGSTOP)
    written = produce(cluster, "backlog", 0, events).result(300)
    before, started_s = costs(cluster), time.monotonic()
    os.kill(forwarder, signal.SIGCONT)
    time.sleep(0.5)
    assert until(lambda: _is_done(cluster), COUNTED_S_MAX)
    return _figures(cluster, before, written["written"], time.monotonic() - started_s)


def steady(cluster: Cluster, rate: float) -> dict[str, Any]:
    """A rate that this machine keeps up with: many small steps, and what Redis makes of them."""
    before, started_s = costs(cluster), time.monotonic()
    name = f"steady.{rate:.0f}"  # of other ads than another rate's
    written = produce(cluster, name, rate, int(rate * STEADY_S)).result(300)
    assert until(lambda: _is_done(cluster), COUNTED_S_MAX)
    figures = _figures(cluster, before, written["written"], time.monotonic() - started_s)
    return {"rate_asked": rate} | figures


def _is_done(cluster: Cluster) -> bool:
    """Whether what is in the spool is all in Redis: only newest segments are left, and all read."""
    time.sleep(0.3)
    logged = cluster.aggregators[0].durable()
    time.sleep(0.3)
    settled = cluster.aggregators[0].durable() == logged
    return settled and cluster.aggregators[0].is_counted(cluster.stores[0])


def _figures(cluster: Cluster, before: Costs, events: int, seconds: float) -> dict[str, Any]:
    spent = costs(cluster) - before
    return {
        "events": events,
        "seconds": round(seconds, 1),
        "cpu_seconds": {name: round(value, 2) for name, value in vars(spent).items()},
        "events_per_aggregator_core_s": round(events / (spent.intake + spent.counter)),
        "events_per_intake_core_s": round(events / spent.intake),
        "events_per_counter_core_s": round(events / spent.counter),
        "events_per_forwarder_core_s": round(events / spent.forwarder),
        "redis_core_share_at_100k_percent": round(spent.redis / events * 100_000 * 100, 2),
    }


def wiped(cluster: Cluster, events: int) -> dict[str, Any]:
    """Redis loses all: how long until its counts are what they were, with and without help."""
    rate = 40_000
    logged = produce(cluster, "history", rate, events).result(events / rate * 4 + 60)["written"]
    assert until(lambda: _is_done(cluster), COUNTED_S_MAX)
    found: dict[str, Any] = {"events": logged, "log_bytes": cluster.aggregators[0].durable()}
    found["with_checkpoint_seconds"] = _flush(cluster)
    # Without: as if the state's disk were new.
    os.kill(_counter(cluster), signal.SIGKILL)
    shutil.rmtree(cluster.aggregators[0].folder / "state")
    found["without_checkpoint_seconds"] = _flush(cluster)
    return found


def _flush(cluster: Cluster) -> float:
    before = totals(cluster)
    redis = cluster.redis
    assert redis.command(redis.primary, "FLUSHALL") == "+OK"
    started_s = time.monotonic()
    assert until(lambda: cluster.aggregators[0].is_counted(cluster.stores[0]), COUNTED_S_MAX)
    seconds = time.monotonic() - started_s
    assert totals(cluster) == before
    return round(seconds, 1)


def beacons(folder: Path, rate: float, seconds: float) -> dict[str, Any]:
    """Impressions, open loop, while all of the chain runs beside the server."""
    with chain(folder, serves=True) as cluster:
        pod = cluster.pods[0]
        assert until(lambda: status_of(pod.port, "/ping") == 200, 60)
        keyring = Keyring(cluster.token_key.encode())
        requests = folder / "requests"
        generator.write_requests(requests, (_impression(keyring) for _ in range(VARIANTS)))
        load = generator.Load(
            port=pod.port,
            requests=requests,
            rate=rate,
            seconds=seconds,
            requests_max=int(rate * seconds * 2),
            warm_up_s=2,
        )
        window = generator.fire(load)
        assert until(lambda: _is_done(cluster), COUNTED_S_MAX)
    return {
        "rate": rate,
        "answered": window.answered,
        "faults": window.faults,
        "answer_ms_p50": window.latency_ms.p50,
        "answer_ms_p99": window.latency_ms.p99,
        "answer_ms_p99_9": window.latency_ms.p99_9,
    }


def _impression(keyring: Keyring) -> bytes:
    placement = placement_digest("benchmark")
    served = Served(int(time.time()), os.urandom(16), 1, 1, 1, 1_000_000, placement)
    _, token = keyring.sign_shown(served, bytes(16))
    head = f"GET /i.gif?e={token.decode()} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return f"{head}User-Agent: {BROWSER}\r\n\r\n".encode()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and leave no process behind
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a first look")
    parser.add_argument("--history", type=int, default=10_000_000, help="events before the wipe")
    quick = parser.parse_args().quick
    history = parser.parse_args().history // (50 if quick else 1)
    found: dict[str, Any] = {"machine": machine() | versions()}
    with tempfile.TemporaryDirectory(prefix="adcore-bench-") as name:
        folder = Path(name)
        with chain(folder) as cluster:
            found["backlog"] = backlog(cluster, 100_000 if quick else 1_200_000)
            print(json.dumps(found["backlog"]), flush=True)
            rates = (5_000,) if quick else (20_000, 60_000)
            found["steady"] = [steady(cluster, rate) for rate in rates]
            print(json.dumps(found["steady"]), flush=True)
            found["wiped"] = wiped(cluster, history)
            print(json.dumps(found["wiped"]), flush=True)
        asked = (200,) if quick else (500, 1000)
        found["beacons"] = [beacons(folder, rate, 5 if quick else 20) for rate in asked]
        print(json.dumps(found["beacons"]), flush=True)
    if not quick:
        path = RESULTS / f"ledger-{stamp()}.json"
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
