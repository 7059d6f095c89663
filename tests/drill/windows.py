"""Three measurements beside the drill: a node that vanishes, one that drains, and freshness."""

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any, Final

import redis

from server.delivery.spool import Spool
from server.delivery.tokens import Keyring, Served, placement_digest
from server.events.walking import split
from server.ledger import wal
from server.ledger.folder import DiskFolder
from server.ledger.wal import Shipped
from server.store import Keyspace, connect
from server.store.buckets import hour
from tests.drill import truth
from tests.drill.cluster import Aggregator, Cluster, Daemon, status_of, until
from tests.drill.drill import Helper, totals
from tests.drill.producer import Rows, record_of
from tests.drill.truth import Row

VANISHING_RATE: Final = 2000  # events a second on the node, each written at its own time
STEADY_RATE: Final = 5000
SEEN_S_MAX: Final = 20.0


def vanishing(folder: Path, repetitions: int) -> dict[str, Any]:
    """Kill a node's processes and delete its disk; how old is the oldest event that is nowhere?"""
    windows_ms, lost = [], []
    dice = random.Random(1)
    with Cluster(folder / "vanishing", pods=1, serves=False) as cluster:
        pod = cluster.pods[0]
        forwarder = pod.forwarder
        read_to = [0] * len(cluster.aggregators)
        for number in range(repetitions):
            spool = Spool(pod.spool, "node", now_s=int(time.time()), bytes_max=1 << 30)
            rows = iter(Rows("node", number))
            written = _write(spool, rows, 0.02)  # something to say hello with
            assert until(lambda: _is_up(forwarder), 30), forwarder.log
            written += _write(spool, rows, dice.uniform(0.4, 0.9))
            forwarder.process.kill()
            gone_s = time.monotonic()
            shutil.rmtree(pod.spool)
            forwarder.process.wait()
            time.sleep(0.3)
            kept: set[int] = set()
            for aggregator in cluster.aggregators:
                epoch = spool.epoch
                kept |= _sequences(aggregator, read_to, f"node-{epoch:016x}")
            missing = [at_s for sequence, at_s in enumerate(written, 1) if sequence not in kept]
            windows_ms.append((gone_s - min(missing)) * 1000 if missing else 0.0)
            lost.append(len(missing))
            forwarder.mend()
    return {
        "repetitions": repetitions,
        "events_a_second": VANISHING_RATE,
        "window_ms_p50": round(_rank(windows_ms, 0.5), 1),
        "window_ms_p99": round(_rank(windows_ms, 0.99), 1),
        "window_ms_max": round(max(windows_ms), 1),
        "events_lost_mean": sum(lost) / len(lost),
    }


def _is_up(forwarder: Daemon) -> bool:
    """Whether both aggregators have answered since its last start."""
    return forwarder.log.count('"connected"') >= 2 * forwarder.starts


def _write(spool: Spool, rows: Iterator[Row], seconds: float) -> list[float]:
    """Write at a steady rate; when each was written."""
    written = []
    start_s = time.monotonic()
    for number, row in enumerate(rows):
        time.sleep(max(0, start_s + number / VANISHING_RATE - time.monotonic()))
        if time.monotonic() - start_s > seconds:
            break
        record, kind = record_of(row)
        spool.append(record, billable=True, kind=kind)
        written.append(time.monotonic())
    return written


def _sequences(aggregator: Aggregator, read_to: list[int], stream: str) -> set[int]:
    """Numbers of the stream's frames in the log, from where it was read before."""
    folder = DiskFolder(aggregator.folder / "wal")
    until_lsn = wal.durable_mark(folder)
    found: set[int] = set()
    for record in wal.read(folder, read_to[aggregator.shard], until_lsn):
        body = wal.decode(record.body)
        if isinstance(body, Shipped) and body.stream == stream:
            found |= set(_numbers(body.frames))
    read_to[aggregator.shard] = until_lsn
    folder.close()
    return found


def _numbers(frames: bytes) -> Iterator[int]:
    at = 0
    for _, record in split(frames):
        yield int.from_bytes(frames[at + 16 : at + 24], "big")
        at += 25 + len(record)


def drain(folder: Path, events: int) -> dict[str, Any]:
    """End a pod whose spool is full of what nobody has yet."""
    with Cluster(folder / "drain", pods=1) as cluster:
        pod = cluster.pods[0]
        server = pod.server
        assert server is not None
        assert until(lambda: status_of(pod.port, "/ping") == 200, 60), server.log
        os.kill(pod.forwarder.pid, signal.SIGSTOP)
        journal = cluster.folder / "truth-0"
        bulk = Helper("producer", "bulk", 1, 0, events, journal, pod.spool)
        written = bulk.result(300)["written"]
        started_s = time.monotonic()
        server_code = server.end()
        server_s = time.monotonic() - started_s
        forwarder_code = pod.forwarder.end()
        seconds = time.monotonic() - started_s
        cluster.wait_counted(120)
        difference = truth.difference(truth.expected(truth.taken(journal)), totals(cluster), {})
        return {
            "events": written,
            "seconds": round(seconds, 1),
            "server_seconds": round(server_s, 1),
            "counted_after_seconds": round(time.monotonic() - started_s, 1),
            "exit_codes": [server_code, forwarder_code],
            "lost": difference.lost,
            "doubled": difference.doubled,
        }


def freshness(folder: Path, probes: int) -> dict[str, Any]:
    """From a beacon's request to its count in Redis, where `adcore report` reads it."""
    with Cluster(folder / "freshness", pods=1) as cluster:
        pod = cluster.pods[0]
        assert until(lambda: status_of(pod.port, "/ping") == 200, 60)
        journal = cluster.folder / "truth-0"
        bulk = Helper("producer", "bulk", 1, STEADY_RATE, 10**8, journal, pod.spool)
        keyring = Keyring(cluster.token_key.encode())
        client = connect(cluster.redis.url)
        time.sleep(2)
        lines = range(10_000, 10_000 + probes)
        latencies_s = [_probe(pod.port, keyring, client, line) for line in lines]
        bulk.stop()
    return {
        "probes": probes,
        "events_a_second_beside": STEADY_RATE,
        "seconds_p50": round(_rank(latencies_s, 0.5), 3),
        "seconds_p99": round(_rank(latencies_s, 0.99), 3),
        "seconds_max": round(max(latencies_s), 3),
    }


def _probe(port: int, keyring: Keyring, client: redis.Redis, line: int) -> float:
    now_s = int(time.time())
    served = Served(now_s, os.urandom(16), line, 1, 1, 5, placement_digest("probe"))
    _, impression = keyring.sign_shown(served, bytes(16))
    field = f"{line}.1.1.impressions"
    keys = [Keyspace().count_bucket(shard, hour(now_s // 3600)) for shard in (0, 1)]
    started_s = time.monotonic()
    assert status_of(port, f"/i.gif?e={impression.decode()}") == 200
    seen = until(lambda: any(client.hget(key, field) for key in keys), SEEN_S_MAX)
    assert seen, "never counted"
    return time.monotonic() - started_s


def _rank(values: list[float], share: float) -> float:
    """Nearest rank."""
    return sorted(values)[max(0, ceil(len(values) * share) - 1)]
