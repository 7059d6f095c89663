"""What a worker does beside answering: follow the snapshot, cut off late bodies, count."""

import asyncio
import gc
import logging
import threading
from types import TracebackType
from typing import Final, Protocol

from server.clock import monotonic_s, now_s
from server.delivery.core import Core
from server.delivery.snapshot import POLL_INTERVAL_S, Holder
from server.delivery.spool import Spool
from server.errors import SpoolError
from server.metrics import Metrics

log = logging.getLogger(__name__)

TICK_S: Final = 0.1  # how late a body may be cut off, and how old the spool's metrics are
# gen0, gen1, gen2: requests leave no cycles, so a collection only has work after thousands of them.
GC_THRESHOLDS: Final = (50_000, 20, 1000)


class Waiter(Protocol):
    """A task, or whatever else can be told that its time is over."""

    def cancel(self) -> object: ...


class Waiting:
    """Requests whose body has not arrived, so that none waits for ever.

    A task waits inside of `with waiting:`. One timer cancels whatever is overdue; a timeout object
    a request would cost more than reading the body. Any thread may add and remove: each does one
    operation on a dictionary of objects that compare by identity, which the GIL makes whole.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        # In order of arrival, which is the order in which they become overdue.
        self._since_s: dict[Waiter, float] = {}

    def add(self, waiter: Waiter) -> None:
        self._since_s[waiter] = monotonic_s()

    def remove(self, waiter: Waiter) -> bool:
        """Whether it was waiting: of several that remove it at once, one alone is told so."""
        return self._since_s.pop(waiter, None) is not None

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._since_s

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self.add(task)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        if task is not None:
            self.remove(task)

    def cancel_overdue(self) -> None:
        latest_s = monotonic_s() - self._timeout_s
        # A copy is made whole, while a list of the items might see a thread change them.
        for waiter, since_s in self._since_s.copy().items():
            if since_s > latest_s:
                break
            waiter.cancel()


class Worker:
    """Owns the timer and the thread: `start` with the event loop, `stop` after the last answer."""

    def __init__(
        self, core: Core, holder: Holder, spool: Spool, metrics: Metrics, body_timeout_s: float
    ) -> None:
        self.core = core
        self.waiting = Waiting(body_timeout_s)
        self._holder = holder
        self._spool = spool
        self._metrics = metrics
        self._timer: asyncio.TimerHandle | None = None
        self._ending = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="snapshot", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look()
        self._follower.start()
        self._tick(loop)
        # What is alive now lives as long as the worker: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._ending.set()
        self._follower.join()
        self._count()
        try:
            self._spool.close()
        except SpoolError as error:
            log.error("the spool's end may not be on the disk", extra={"detail": str(error)})

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(TICK_S, self._tick, loop)
        self.waiting.cancel_overdue()
        self._count()

    def _follow(self) -> None:
        while not self._ending.wait(POLL_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        if self._holder.poll(now_s()) and self._holder.snapshot is not None:
            self._metrics.serving(self._holder.snapshot.generation)

    def _count(self) -> None:
        """Copies what the parts count for themselves."""
        spool = self._spool
        self._metrics.spooled(spool.folder_bytes, spool.written, spool.shed, spool.failed)
        for cache, (hits, misses) in self.core.lookups().items():
            self._metrics.looked_up(cache, hits, misses)
