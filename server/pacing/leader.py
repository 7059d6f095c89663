"""One of several `adcore control` leads; the others wait, and one of them takes over within 5 s.

The lock in Redis runs out after LOCK_S, is renewed each RENEW_S by a thread of its own (a catalog
takes longer to load than the lock lasts), and is given up when the process is told to end. `leads`
asks no clock but our own: it says yes only while the lock that we asked for can't have run out.

Two may lead at once all the same: a process that is stopped between `leads` and its next command,
a Redis that fails over to a replica which has not heard of the lock. So the lock is there to save
work, and no money depends on it. What control writes is refused by its script if it comes late:
    settling   expects that the window before was the last one settled
    opening    creates accounts, and changes none that is there
    resetting  expects the state that was found lost
    a plan     carries a number that was drawn before its inputs were read, and needs to be newer
               than the one in its place
"""

import logging
import os
import threading
from math import inf
from socket import gethostname
from types import TracebackType
from typing import Final, Protocol, Self

from server.clock import monotonic_s
from server.errors import StoreError

LOCK_S: Final = 4.5  # with a look by whoever waits, less than the 5 s that are promised
RENEW_S: Final = 1.0
WAIT_S: Final = 0.25  # between looks of one that waits
ANSWER_S_MAX: Final = 1.0  # for Redis to answer about the lock
MARGIN_S: Final = 0.5  # before the lock runs out nothing is begun any more
WORK_S_MAX: Final = 60.0  # a leader whose work stands still for longer lets another one try
DROP_S_MAX: Final = 2.0 * ANSWER_S_MAX + 0.5

log = logging.getLogger(__name__)


class Lock(Protocol):
    """What is asked of `server.store.leaders.LeaderStore`."""

    def hold(self, name: str, lock_ms: int) -> str: ...
    def drop(self, name: str) -> None: ...


def own_name() -> str:
    """Make a name that no other start of any process has."""
    return f"{gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"


class Leader:
    """Asks for the lead inside `with`, and holds it as long as the work beats."""

    def __init__(self, lock: Lock, name: str) -> None:
        self.name = name
        self._lock = lock
        self._until_s = -inf  # written by the thread, read by the work: one reference each
        self._beat_s = monotonic_s()
        self._leader = ""
        self._redis_up: bool | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leader", daemon=True)

    def leads(self, now_s: float) -> bool:
        """Whether something may be begun now; `now_s` is monotonic."""
        return now_s < self._until_s

    def beat(self, now_s: float) -> None:
        """Tell that the work goes on."""
        self._beat_s = now_s

    def step(self, now_s: float) -> float:
        """Ask for the lead once; give how long to wait before the next time."""
        if now_s - self._beat_s > WORK_S_MAX:
            if self._until_s > -inf:
                log.error("the work stands still: another one may lead")
            self._until_s = -inf
            return WAIT_S  # the lock runs out
        try:
            leader = self._lock.hold(self.name, round(LOCK_S * 1000))
        except StoreError as error:
            self._heard(False, str(error))
            return WAIT_S
        self._heard(True)
        if leader != self._leader:
            log.info("leading" if leader == self.name else "waiting", extra={"leader": leader})
            self._leader = leader
        # From the moment of asking: when it was granted, nobody here can tell.
        self._until_s = now_s + LOCK_S - MARGIN_S if leader == self.name else -inf
        return RENEW_S if leader == self.name else WAIT_S

    def _heard(self, up: bool, detail: str = "") -> None:
        if up != self._redis_up:
            self._redis_up = up
            if not up:
                log.error("the lead waits for Redis", extra={"detail": detail})

    def _run(self) -> None:
        while not self._ending.is_set():
            self._ending.wait(self.step(monotonic_s()))

    def give_up(self) -> None:
        """Let another one lead at once rather than when the lock runs out."""
        self._until_s = -inf
        try:
            self._lock.drop(self.name)
        except StoreError as error:
            log.warning("the lead runs out by itself", extra={"detail": str(error)})

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
        self._thread.join(DROP_S_MAX)
        self.give_up()
