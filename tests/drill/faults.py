"""The faults: each does its harm, waits, and leaves the mending to `Cluster.mend` or does it.

One seed chooses which, when and for how long. A fault that could not happen, because what it was to
hit was not there at the moment, is not counted.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from server.store import Keyspace, connect
from server.store.catalogs import CatalogStore
from tests.drill.cluster import Aggregator, Cluster, Pod, resize, until
from tests.serving import children_of, publish

STOP_S: Final = (0.1, 3.0)
DEAD_S: Final = (0.0, 1.0)
CUT_S: Final = (0.1, 3.0)
CUT_S_LONG: Final = 12.0  # longer than a forwarder waits for an ack
AOF_TAIL_BYTES_MAX: Final = 200_000
STALE_S: Final = (0.2, 3.0)
BALLAST_SLACK_BYTES: Final = 128 << 10

# Which faults, and how often beside one another.
WEIGHTS: Final = {
    "kill worker": 3,
    "kill server": 1,
    "kill forwarder": 3,
    "kill intake": 3,
    "kill counter": 3,
    "kill checkpoint": 2,
    "kill redis": 2,
    "stop worker": 1,
    "stop forwarder": 1,
    "stop intake": 2,
    "stop counter": 1,
    "stop checkpoint": 1,
    "stop redis": 1,
    "truncate aof": 3,
    "promote stale replica": 3,
    "flush redis": 2,
    "fill log disk": 2,
    "fill spool": 1,
    "cut network": 3,
    "swallow network": 3,
}


class Faults:
    """Does harm, one fault after the other, and counts it."""

    def __init__(self, cluster: Cluster, seed: int, kinds: list[str] | None = None) -> None:
        self.done: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self._cluster = cluster
        self._dice = random.Random(f"faults {seed}")
        self._kinds = [kind for kind in kinds or WEIGHTS if self._is_possible(kind)]
        self._bag: list[str] = []
        self._sniping: threading.Thread | None = None

    def _is_possible(self, kind: str) -> bool:
        if kind == "fill log disk" and not self._cluster.mounts:
            print("SKIPPED: may not mount, so no log's disk is filled")
            return False
        return self._cluster.pods[0].server is not None or not kind.endswith(("worker", "server"))

    def one(self) -> None:
        """The next fault, and what it takes to mend it."""
        if not self._bag:  # so that each kind comes up, however few there are
            self._bag = [kind for kind in self._kinds for _ in range(WEIGHTS[kind])]
            self._dice.shuffle(self._bag)
        kind = self._bag.pop()
        verb, _, noun = kind.partition(" ")
        if noun == "checkpoint":
            happened = self._snipe(kind, verb)
        elif verb == "stop":
            happened = self._stop(noun)
        elif verb == "kill":
            happened = self._kill(noun)
        else:
            happened = getattr(self, f"_{kind.replace(' ', '_')}")()
        self.done[kind] += happened
        self._cluster.mend()
        self._ensure_catalog()

    # -- processes

    def _pid(self, noun: str) -> int:
        """Of one of those processes, by lot; 0 if it is not there."""
        dice, cluster = self._dice, self._cluster
        pod: Pod = dice.choice(cluster.pods)
        aggregator: Aggregator = dice.choice(cluster.aggregators)
        if noun == "worker":
            return pod.server.child(b"multiprocessing.spawn") if pod.server else 0
        if noun == "server":
            return pod.server.pid if pod.server else 0
        if noun == "forwarder":
            return pod.forwarder.pid
        if noun == "intake":
            return aggregator.pid
        return aggregator.child(b"\0count\0") if noun == "counter" else cluster.redis.pid

    def _kill(self, noun: str) -> bool:
        if noun == "redis":
            self._cluster.redis.kill()
        elif not _send(self._pid(noun), signal.SIGKILL):
            return False
        time.sleep(self._dice.uniform(*DEAD_S))
        return True

    def _stop(self, noun: str) -> bool:
        pid = self._pid(noun)
        if not _send(pid, signal.SIGSTOP):
            return False
        time.sleep(self._dice.uniform(*STOP_S))
        _send(pid, signal.SIGCONT)
        return True

    def _snipe(self, kind: str, verb: str) -> bool:
        """Lie in wait for the next checkpoint's child, which lives for a moment only."""
        if self._sniping is not None and self._sniping.is_alive():
            return False
        aggregators = self._cluster.aggregators
        stop_s = self._dice.uniform(*STOP_S)

        def wait() -> None:
            deadline_s = time.monotonic() + 60
            while time.monotonic() < deadline_s:
                for aggregator in aggregators:
                    pid = _child_of(aggregator.child(b"\0count\0"))
                    if pid and _send(pid, signal.SIGSTOP if verb == "stop" else signal.SIGKILL):
                        if verb == "stop":
                            time.sleep(stop_s)
                            _send(pid, signal.SIGCONT)
                        self.done[kind] += 1
                        return
                time.sleep(0.003)

        self._sniping = threading.Thread(target=wait, daemon=True)
        self._sniping.start()
        return False  # it counts when it happens

    # -- Redis

    def _truncate_aof(self) -> bool:
        redis = self._cluster.redis
        redis.kill()
        redis.truncate(self._dice.randrange(1, AOF_TAIL_BYTES_MAX))
        redis.restart()
        return True

    def _promote_stale_replica(self) -> bool:
        redis = self._cluster.redis
        redis.detach()
        time.sleep(self._dice.uniform(*STALE_S))
        redis.promote()
        return True

    def _flush_redis(self) -> bool:
        redis = self._cluster.redis
        return redis.command(redis.primary, "FLUSHALL") == "+OK"

    def _ensure_catalog(self) -> None:
        """What Redis lost of the catalog, the control plane publishes again."""
        with suppress(Exception):
            store = CatalogStore(connect(self._cluster.redis.url), Keyspace())
            try:
                lost = store.current() is None
            finally:
                store.close()
            if lost:
                publish(self._cluster.redis.url)
                self.notes["catalog published again"] += 1

    # -- disks

    def _fill_log_disk(self) -> bool:
        """Leave no room for the log: its aggregator must end; then there is room again."""
        shard, folder = self._dice.choice(sorted(self._cluster.mounts.items()))
        aggregator = self._cluster.aggregators[shard]
        if not aggregator.is_alive:
            return False
        used = _used_bytes(folder)
        if resize(folder, str(used + BALLAST_SLACK_BYTES)):
            return False
        ended = until(lambda: not aggregator.is_alive, 20)
        if ended:
            self.notes[f"log disk full: exit {aggregator.process.returncode}"] += 1
        else:
            self.notes["log disk full: still running"] += 1
        assert resize(folder, "2g") == 0
        return ended

    def _fill_spool(self) -> bool:
        """Have a spool filled to the producers' limit, for a while."""
        pod: Pod = self._dice.choice(self._cluster.pods)
        ballast = pod.spool / "ballast.spool"  # no segment's name: the forwarder leaves it alone
        with ballast.open("wb") as file:
            file.truncate(500 << 20)  # a hole: it weighs as much as it says, and takes no room
        time.sleep(self._dice.uniform(*CUT_S))
        ballast.unlink(missing_ok=True)
        return True

    # -- network

    def _cut_network(self) -> bool:
        return self._break(cut=True)

    def _swallow_network(self) -> bool:
        return self._break(cut=False)

    def _break(self, cut: bool) -> bool:
        pod: Pod = self._dice.choice(self._cluster.pods)
        wires = self._dice.choice([pod.wires, pod.wires[:1], pod.wires[-1:]])
        for wire in wires:
            (wire.cut if cut else wire.swallow)()
        long = self._dice.random() < 0.1
        time.sleep(CUT_S_LONG if long else self._dice.uniform(*CUT_S))
        for wire in wires:
            wire.heal()
        return True


def _send(pid: int, number: signal.Signals) -> bool:
    with suppress(ProcessLookupError):
        if pid > 0:
            os.kill(pid, number)
            return True
    return False


def _child_of(pid: int) -> int:
    with suppress(OSError):
        return next(iter(children_of(pid)), 0) if pid else 0
    return 0


def _used_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize
