"""`adcore count`: reads the log behind the aggregator and keeps Redis's counts up with it.

A process of its own, started by `adcore aggregate`: an ack must not wait for what is counted.
"""

import argparse
import gc
import logging
import os
from pathlib import Path
from typing import Final

from server import config as settings
from server import logs
from server.clock import monotonic_s, pause
from server.errors import LedgerError, StoreError
from server.families import CHECKPOINTS, COUNTER, COUNTER_TURNS, COUNTER_WAITING, LOG_COUNTED
from server.ledger import checkpoints, wal
from server.ledger.applier import Applier, Saving
from server.ledger.folder import DiskFolder
from server.lifeline import die_with
from server.metrics import Metrics
from server.store import Keyspace, connect
from server.store.counts import CountsStore

# Between steps that find the log read. Ten times as fresh as reports need to be; more often, and
# each script adds a few events to every count: at 100,000 a second Redis would take half a core.
PAUSE_S: Final = 0.2
CHECK_S: Final = 1.0  # between looks whether Redis still has it all, while there is nothing to add
RETRY_S: Final = 0.5  # Redis is away
CHECKPOINT_BYTES: Final = 64 << 20  # of log between two: what a restart reads again in a second
CHECKPOINT_S: Final = 600.0  # and no longer than this, if anything was counted
EXIT_NO_BASE: Final = 3  # how a saver tells that what it builds on is gone

log = logging.getLogger(__name__)


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    # No help text: the command does not show in `adcore --help`.
    parser = commands.add_parser("count")
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--parent", type=int, default=0, help="end when this process does")
    parser.set_defaults(run=count)


def count(args: argparse.Namespace) -> int:
    if args.parent:
        die_with(args.parent)
    config = settings.load(os.environ)
    logs.configure(COUNTER, config.log_level)
    # Beacons and sums form no cycles, and there are too many of them to look for some.
    gc.disable()
    store = CountsStore(connect(config.redis_url), Keyspace(config.redis_prefix), config.shard)
    counting = Counting(Path(config.ledger_dir), store, Metrics(args.run_dir, COUNTER))
    try:
        counting.run()
    except LedgerError as error:
        # Going on would make it worse: a person must look.
        log.critical("the counts can't follow the log", extra={"detail": str(error)})
        return 1
    return 0


class Counting:
    """The applier, step by step, and a checkpoint now and then."""

    def __init__(self, folder: Path, store: CountsStore, metrics: Metrics) -> None:
        self._log = DiskFolder(folder / "wal")
        self._state = DiskFolder(folder / "state")
        self._store = store
        self._metrics = metrics
        self._wal_id = wal.log_id(self._log)
        self._applier = Applier(self._log, self._state, store, self._wal_id)
        self._saver = Saver(self._state, self._wal_id)
        self._redis_up: bool | None = None
        self._checked_s = monotonic_s()
        self._announced = -1  # before that many rebuilds: who lost the counts has lost this, too

    def run(self) -> None:
        while True:
            pause(self.step())

    def step(self) -> float:
        """Do one step; give how long to wait before the next."""
        try:
            if self._announced != self._applier.rebuilds:
                self._store.announce()
                self._announced = self._applier.rebuilds
            durable = wal.durable_mark(self._log)
            if self._applier.advance(durable):
                self._checked_s = monotonic_s()
            elif monotonic_s() - self._checked_s >= CHECK_S:
                self._checked_s = monotonic_s()
                self._applier.check(durable)
        except StoreError as error:
            self._heard(False, str(error))
            return RETRY_S
        self._heard(True)
        self._saver.look(self._applier)
        self._tell()
        return PAUSE_S if self._applier.is_settled and self._applier.lsn >= durable else 0

    def _heard(self, up: bool, detail: str = "") -> None:
        if up != self._redis_up:
            if up:
                log.info("counts go to Redis", extra={"cursor": self._applier.lsn})
            else:
                log.error("counts wait for Redis", extra={"detail": detail})
            self._redis_up = up

    def _tell(self) -> None:
        slots, applier = self._metrics.slots, self._applier
        slots[LOG_COUNTED.start] = applier.lsn if applier.is_settled else slots[LOG_COUNTED.start]
        slots[COUNTER_WAITING.start] = applier.counter.waiting
        slots[COUNTER_TURNS.slot("rewind")] = applier.rewinds
        slots[COUNTER_TURNS.slot("rebuild")] = applier.rebuilds
        slots[CHECKPOINTS.slot("kept")] = self._saver.kept
        slots[CHECKPOINTS.slot("failed")] = self._saver.failed


class Saver:
    """Writes checkpoints in a forked child, which has the counter as it stood, while we go on."""

    def __init__(self, folder: DiskFolder, wal_id: str) -> None:
        self.kept = self.failed = 0
        self._folder = folder
        self._wal_id = wal_id
        self._last_s = monotonic_s()
        self._child = 0
        self._saving: Saving | None = None

    def look(self, applier: Applier) -> None:
        """Begin one when it is time, and take note of one that has been written."""
        if self._saving is not None:
            self._reap(applier, self._saving)
        elif applier.is_settled and self._is_time(applier):
            self._last_s = monotonic_s()
            self._saving = applier.begin_saving()
            parent = os.getpid()
            self._child = os.fork()
            if self._child == 0:
                os._exit(self._write(self._saving, parent))

    def _is_time(self, applier: Applier) -> bool:
        behind = applier.lsn - (applier.base.lsn if applier.base else 0)
        late = monotonic_s() - self._last_s >= CHECKPOINT_S
        return behind >= CHECKPOINT_BYTES or (late and behind > 0)

    def _write(self, saving: Saving, parent: int) -> int:
        """The child's whole life."""
        try:
            die_with(parent)
            os.nice(19)
            checkpoints.write(DiskFolder(self._folder.path), self._wal_id, *saving)
        except LedgerError as error:
            log.error("a checkpoint's base is gone", extra={"detail": str(error)})
            return EXIT_NO_BASE
        except Exception:
            log.exception("a checkpoint could not be written")
            return 1
        return 0

    def _reap(self, applier: Applier, saving: Saving) -> None:
        pid, status = os.waitpid(self._child, os.WNOHANG)
        if pid == 0:
            return
        checkpoint = None
        if os.waitstatus_to_exitcode(status) == EXIT_NO_BASE:
            # A saver that was late swept it away, after Redis had taken us back behind its own.
            applier.start_again()
        else:
            # Whatever the child's end: it may have died while it swept up behind a whole one, and
            # the base before that may be gone.
            found = checkpoints.newest(self._folder, self._wal_id, saving.lsn)
            # An older one does not hold what was counted since.
            checkpoint = found if found and found.lsn == saving.lsn else None
        applier.end_saving(saving, checkpoint)
        self.kept += checkpoint is not None
        self.failed += checkpoint is None
        self._saving = None
