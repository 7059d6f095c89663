"""What an aggregator sees to every hour: the archive, and if Redis still has what the log says.

Each is a command of its own at the lowest priority, started here and waited for.
"""

import logging
import os
import subprocess
import sys
import threading
from types import TracebackType
from typing import Final, Self

from server.clock import now_s
from server.families import CHORE_AT_S, CHORES
from server.ledger.reconcile import EXIT_DIFFERS
from server.lifeline import die_with
from server.metrics import Metrics

EVERY_S: Final = 3600.0
FIRST_S: Final = 300.0  # after a start there is more urgent work
STOP_S: Final = 5.0

log = logging.getLogger(__name__)


class Housekeeping:
    """A thread that runs `chores` hourly inside `with`."""

    def __init__(self, chores: tuple[str, ...], metrics: Metrics) -> None:
        self._chores = chores
        self._metrics = metrics
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        if self._process is not None:
            self._process.kill()  # each chore takes up where it was left
        self._thread.join(STOP_S)

    def _run(self) -> None:
        pause_s = FIRST_S
        while not self._ending.wait(pause_s):
            pause_s = EVERY_S
            for chore in self._chores:
                if not self._ending.is_set():
                    self._do(chore)

    def _do(self, chore: str) -> None:
        parent = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "server", chore],
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: die_with(parent),
        )
        code = self._process.wait()
        if self._ending.is_set():
            return
        result = {0: "done", EXIT_DIFFERS: "differs"}.get(code, "failed")
        self._metrics.slots[CHORES.slot(chore, result)] += 1
        self._metrics.slots[CHORE_AT_S.start] = now_s()
        if code:
            log.error(f"{chore} failed", extra={"code": code})
