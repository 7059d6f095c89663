"""`adcore control`: opens and settles accounts, and makes the plan. One leads, others stand by.

    each second   the catalog's generation; accounts opened, windows settled, lost state reset
    each 5 s      a plan: what was billed, what is learned of it, what share of requests to take

All state is in Redis and can be made again from the ledger and the catalog: control may be killed
at any moment, run twice, or not at all for a while. Without it nothing is overspent: what is not
settled is not granted again, and servers drop a plan after two minutes.
"""

import argparse
import logging
import os
import signal
import threading
from contextlib import ExitStack
from typing import Final

from server import config as settings
from server import logs
from server.clock import monotonic_s, now_s
from server.config import Config
from server.errors import StoreError
from server.families import CONTROL, CONTROL_LEADS, CONTROL_TICKS, MAIN
from server.metrics import Metrics
from server.ops import Ops
from server.pacing.leader import ANSWER_S_MAX, WAIT_S, Leader, own_name
from server.pacing.work import CountsMissing, Work
from server.run_folder import open_run_folder
from server.store import Keyspace, connect
from server.store.leaders import LeaderStore

TICK_S: Final = 1.0

log = logging.getLogger(__name__)


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("control", help="open and settle budgets, and pace them")
    parser.set_defaults(run=control)


def control(_: argparse.Namespace) -> int:
    """Lead, or wait to, until a signal."""
    config = settings.load(os.environ)
    logs.configure(CONTROL, config.log_level)
    log.info("settings", extra={"settings": config.redacted()})
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    with ExitStack() as stack:
        run_dir = stack.enter_context(open_run_folder(config.run_dir))
        Metrics(run_dir, MAIN).started(now_s())
        metrics = Metrics(run_dir, CONTROL)
        stack.enter_context(Ops(config.ops_host, config.ops_port, run_dir, 0))
        # Its own connection, with its own deadline: the work's may wait for a large answer.
        lock = LeaderStore(connect(config.redis_url, timeout_s=ANSWER_S_MAX), _keys(config))
        leader = stack.enter_context(Leader(lock, own_name()))
        work = Work(connect(config.redis_url), _keys(config), shards_of(config), metrics)
        Controlling(leader, work, metrics).run(ending)
    return 0


def _keys(config: Config) -> Keyspace:
    return Keyspace(config.redis_prefix)


def shards_of(config: Config) -> frozenset[int]:
    """Name the shards without which nothing is settled: those of every list that is configured."""
    epochs = settings.shard_epochs(config.aggregators)
    return frozenset(range(max(1, *(len(addresses) for _, addresses in epochs))))


class Controlling:
    """The work, second by second, while we lead."""

    def __init__(self, leader: Leader, work: Work, metrics: Metrics) -> None:
        self._leader = leader
        self._work = work
        self._slots = metrics.slots
        self._trouble = ""

    def run(self, ending: threading.Event) -> None:
        while not ending.is_set():
            ending.wait(self.step(monotonic_s()))

    def step(self, started_s: float) -> float:
        """Do one second's work, if we lead; give how long to wait."""
        self._leader.beat(started_s)
        leads = self._leader.leads(started_s)
        self._slots[CONTROL_LEADS.start] = leads
        if not leads:
            self._work.rest()
            return WAIT_S
        try:
            self._work.tick(now_s(), started_s, self._may_write)
        except StoreError as error:
            self._tell("store_failed", f"control waits for Redis: {error}")
        except CountsMissing as error:
            self._tell("counts_missing", f"control waits for the ledger's counts: {error}")
        else:
            self._tell("done", "")
        return max(0.0, started_s + TICK_S - monotonic_s())

    def _may_write(self) -> bool:
        return self._leader.leads(monotonic_s())

    def _tell(self, result: str, trouble: str) -> None:
        """Count what came of it; log a trouble when it begins, and its end."""
        self._slots[CONTROL_TICKS.slot(result)] += 1
        kind = result if trouble else ""
        if kind != self._trouble:
            if trouble:
                log.error(trouble)
            else:
                log.info("control goes on")
            self._trouble = kind
