"""A child that is kept running: started again when it ends, after a pause that grows."""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from server.clock import monotonic_s

BACK_OFF_S: Final = (0.5, 30.0)  # the first pause, doubled up to the last
SETTLED_S: Final = 60.0  # having lived this long, the next end is a new trouble
STOP_S: Final = 2.0

log = logging.getLogger(__name__)


class KeptProcess:
    """Keeps `adcore COMMAND` running inside `with`; `restarted` is called before each new start."""

    def __init__(self, command: Sequence[str], restarted: Callable[[], None]) -> None:
        self._name = command[0]
        self._command = [sys.executable, "-m", "server", *command]
        self._restarted = restarted
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        # It lasts as long as we do: the kernel ends a child with the thread that started it.
        self._keeper = threading.Thread(target=self._keep, name=self._name, daemon=True)

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # It keeps nothing that the next one needs. It may get little processor time when others
        # want it, even for its end: it is killed, and not waited for beyond reason.
        self._ending.set()
        self._end()
        self._keeper.join(STOP_S)

    def _keep(self) -> None:
        pause_s, pause_s_max = BACK_OFF_S
        while not self._ending.is_set():
            started_s = monotonic_s()
            # A group of its own, as the workers have, for the sake of Ctrl-C.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, process_group=0
            )
            if self._ending.is_set():  # which did not see this process yet
                self._end()
            code = self._process.wait()
            if self._ending.is_set():
                return
            if monotonic_s() - started_s > SETTLED_S:
                pause_s = BACK_OFF_S[0]
            log.error(f"{self._name} ended", extra={"code": code, "restart_in_s": pause_s})
            self._restarted()
            self._ending.wait(pause_s)
            pause_s = min(2 * pause_s, pause_s_max)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()  # does nothing when it has ended
