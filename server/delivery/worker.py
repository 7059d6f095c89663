"""What a worker does beside answering: follow the snapshot, cut off late bodies, count."""

import asyncio
import gc
import logging
import threading
from typing import Final

from server.clock import now_s
from server.delivery.core import Core
from server.delivery.http import Answer, Ask
from server.delivery.snapshot import POLL_INTERVAL_S, Holder
from server.delivery.spool import Spool
from server.delivery.users import Users
from server.delivery.waiting import Waiting
from server.errors import SpoolError
from server.metrics import Metrics

log = logging.getLogger(__name__)

TICK_S: Final = 0.1  # how late a body may be cut off, and how old the spool's metrics are
# gen0, gen1, gen2: requests leave no cycles, so a collection only has work after thousands of them.
GC_THRESHOLDS: Final = (50_000, 20, 1000)


async def decided(core: Core, ask: Ask, body: bytes) -> Answer:
    """Decide on the event loop, and wait if the decision does."""
    decision = core.decide(ask, body)
    if isinstance(decision, Answer):
        return decision
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def deliver(answer: Answer) -> None:
        if not answered.done():  # the client may have gone, and its task with it
            answered.set_result(answer)

    decision.deliver = deliver
    return await answered


class Worker:
    """Owns the timer and the thread: `start` with the event loop, `stop` after the last answer."""

    def __init__(
        self,
        core: Core,
        holder: Holder,
        spool: Spool,
        users: Users,
        metrics: Metrics,
        body_timeout_s: float,
    ) -> None:
        self.core = core
        self.users = users
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
        self.users.start(loop, self.core.resume)
        self._tick(loop)
        # What is alive now lives as long as the worker: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.users.close()
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
            self._metrics.spool_left(self._spool.left_s(now_s()), self._spool.bytes_max)

    def _look(self) -> None:
        if self._holder.poll(now_s()) and self._holder.snapshot is not None:
            self._metrics.serving(self._holder.snapshot.generation)
        plan = self._holder.plan
        self._metrics.planned(0 if plan is None else plan.made_at_s)

    def _count(self) -> None:
        """Copies what the parts count for themselves."""
        spool = self._spool
        self._metrics.leases_refused(self.core.leases_refused())
        self._metrics.spooled(spool.folder_bytes, spool.written, spool.shed, spool.failed)
        for cache, (hits, misses) in self.core.lookups().items():
            self._metrics.looked_up(cache, hits, misses)
