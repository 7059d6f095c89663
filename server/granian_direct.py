"""Has Granian hand every request to a `Dispatch` on its own Python thread, with no event loop.

This leans on Granian's private API: the scheduler that a request goes to, the loop that a body's
arrival is told by, and the name by which a worker's start finds its server class. All of the start
and the stop is Granian's own, and the real loop stays on the main thread for signals and timers.
Hence one exact version, a test with real requests when a worker starts, and plain RSGI for whoever
fails it.
"""

import http.client
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

import granian
from granian._granian import CallbackScheduler, ListenerSpec, RSGIWorker, WorkerSignal
from granian.http import HTTP1Settings
from granian.server import mp

from server.delivery.dispatch import Dispatch, InPlaceLoop
from server.delivery.http import Answer, Ask
from server.delivery.waiting import Waiting
from server.errors import AdcoreError

VERSION: Final = "2.8.7"  # whose sources were read; another one may do anything
SERVER_CLASS: Final = "RSGIWorker"  # what a worker's start looks up, and we put ours in place of
TEST_TIMEOUT_S: Final = 5.0  # the test takes 5 ms when all is well

log = logging.getLogger(__name__)


class Scheduler(CallbackScheduler):
    """Made with a loop, a callback and three hooks of tasks, of which only `take` is used."""

    def __init__(self, loop: InPlaceLoop, take: Callable[[Any], None], *hooks: None) -> None:
        super().__init__()
        self._schedule_fn = take


class Server:
    """Granian's server of a worker, but for the scheduler and the loop it is given."""

    def __init__(self, dispatch: Dispatch, *options: Any) -> None:
        self._take = dispatch.take
        self._server: Any = RSGIWorker(*options)

    def serve_str(self, scheduler: Any, loop: Any, signal: Any) -> None:
        """Serve in Granian's runtime mode st, the one that we run."""
        in_place = InPlaceLoop()
        ours = Scheduler(in_place, self._take, None, None, None)
        with batched():
            self._server.serve_str(ours, in_place, signal)


@contextmanager
def batched() -> Iterator[None]:
    """Threads that start in here end what they have in hand before one that wakes up takes over.

    Granian's network thread wakes the Python thread with each request, which wakes it with each
    answer. Left to themselves on one core they switch for every single one: 13,800 requests a
    second at most, and 18,900 this way (13,800 through RSGI); at 13,000 a second p99 falls from 6.8
    to 2.3 ms (10,000 line items, server and generator on a core each, medians of 5 windows).
    """
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):  # some sandboxes forbid it: slower, and no worse
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, policy, priority)


def install(dispatch: Dispatch) -> bool:
    """Make this process, a worker about to start, serve by `dispatch`; False when it can't."""
    try:
        check()
    except Exception as error:
        log.warning("no direct dispatch, serving as door=rsgi", extra={"detail": repr(error)})
        return False
    setattr(mp, SERVER_CLASS, partial(Server, dispatch))
    return True


# -- the test at start -----------------------------------------------------------------------------


class Unfit(AdcoreError):
    """Raised for a Granian that is not the one we know."""


class Echo:
    """A core that answers with what it got."""

    def admit(self, ask: Ask) -> Answer | None:
        return None if ask.method == "POST" else Answer(200, (), ask.path.encode())

    def decide(self, ask: Ask, body: bytes) -> Answer:
        return Answer(200, (), body)

    def done(self, ask: Ask, answer: Answer) -> Answer:
        return answer


def check() -> None:
    """Raise unless a server like ours answers, with and without body, declared and in chunks."""
    if granian.__version__ != VERSION:
        raise Unfit(f"Granian {granian.__version__} instead of {VERSION}")
    start = mp.MPServer._spawn_rsgi_worker.__wrapped__.__code__
    if SERVER_CLASS not in start.co_names:
        raise Unfit("a worker's start finds its server class elsewhere")
    with listening(Dispatch(Echo(), Waiting(TEST_TIMEOUT_S))) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TEST_TIMEOUT_S)
        try:
            for method, body in (("GET", None), ("POST", b"whole"), ("POST", iter((b"in ", b"2")))):
                connection.request(method, "/path", body)
                answer = connection.getresponse().read()
                if answer != {"GET": b"/path"}.get(method, body if body == b"whole" else b"in 2"):
                    raise Unfit(f"{method} was answered with {answer!r}")
        finally:
            connection.close()


@contextmanager
def listening(dispatch: Dispatch) -> Iterator[int]:
    """A server of `dispatch` on a port of its own, in this process."""
    listener = ListenerSpec("127.0.0.1", 0, 256).build()
    with socket.socket(fileno=os.dup(listener.get_fd())) as own:
        port: int = own.getsockname()[1]
    signal, ended = WorkerSignal(), threading.Event()
    signal.add_cb(ended.set)
    # Worker, sockets, no metrics; threads; connections; HTTP/1 alone, no websockets, files or TLS.
    tls: tuple[Any, ...] = (False, None, None, None, "1.3", None, [], False)
    threads = (1, 1, 1, 30)
    server = Server(
        dispatch, 1, (None, listener), None, *threads, 256, "1", HTTP1Settings(), None, False, None,
        *tls, (None, None),
    )  # fmt: skip
    server.serve_str(None, None, signal)
    try:
        yield port
    finally:
        signal.set()
        ended.wait(TEST_TIMEOUT_S)
