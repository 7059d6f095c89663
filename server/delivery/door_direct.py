"""Direct dispatch in front of the core: a request is answered where Granian's thread hands it over.

The RSGI door makes a task of every request and carries it to the event loop and back, which costs
10 us; here nothing is awaited and nothing changes threads. `server/granian_direct.py` has Granian
call `Dispatch`. Where that is not to be had, the same door serves as an RSGI door.

The core is for one thread at a time. Requests come on Granian's thread, and the end of the waiting
for a body on the main one, so whoever calls the core takes its turn. An answer is owed by whoever
takes the request off the list of the waiting: `dict.pop` under the GIL gives it to one of them.
"""

import asyncio
import logging
import threading
from contextlib import suppress
from typing import Any, Final, Protocol

from server.delivery.core import BODY_BYTES_MAX, BROKEN, JSON_HEADERS, LATE, TOO_LARGE
from server.delivery.door_rsgi import RsgiDoor, ask_of
from server.delivery.http import Answer, Ask
from server.delivery.worker import Waiting, Worker

FAILED: Final = Answer(
    500, (*JSON_HEADERS, ("connection", "close")), b'{"error":"our own fault, and logged"}'
)

log = logging.getLogger(__name__)


class Deciding(Protocol):
    """What a door needs of the core."""

    def admit(self, ask: Ask) -> Answer | None: ...
    def decide(self, ask: Ask, body: bytes) -> Answer: ...
    def done(self, ask: Ask, answer: Answer) -> Answer: ...


class DirectDoor(RsgiDoor):
    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.dispatch = Dispatch(worker.core, worker.waiting)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        # A client that hung up does not keep Granian from stopping while its request is decided.
        with self.dispatch.turn:
            super().__rsgi_del__(loop)


class Dispatch:
    """Answers requests in place: `take` is what Granian calls for each of them."""

    def __init__(self, core: Deciding, waiting: Waiting) -> None:
        self.turn = threading.Lock()
        self.waiting = waiting
        self._core = core

    def take(self, watcher: Any) -> None:
        """Answer, or have the body's arrival answer.

        Nothing is raised and None returned, always: Granian looks at neither, and so an error
        would stay set in its thread, and a result never be freed.
        """
        proto, ask = watcher.proto, None
        try:
            ask = ask_of(watcher.scope)
            with self.turn:
                answer = self._core.admit(ask)
            if answer is not None:
                proto.response_bytes(answer.status, answer.headers, answer.body)
            elif ask.headers.get("content-length") is not None:
                Arrival(self, ask, proto).start()
            else:
                ChunkedArrival(self, ask, proto).start()
        except BaseException:
            self.fail(ask, proto)

    def decide(self, ask: Ask, proto: Any, body: bytes) -> None:
        with self.turn:
            answer = self._core.decide(ask, body)
        proto.response_bytes(answer.status, answer.headers, answer.body)

    def done(self, ask: Ask, proto: Any, answer: Answer) -> None:
        with self.turn:
            answer = self._core.done(ask, answer)
        proto.response_bytes(answer.status, answer.headers, answer.body)

    def fail(self, ask: Ask | None, proto: Any) -> None:
        """Log the error being handled, and answer 500. Where an answer was sent, none is now."""
        log.exception("a request failed", extra={"path": ask and ask.path})
        if ask is not None:
            with suppress(Exception):
                self.done(ask, proto, FAILED)
                return
        proto.response_bytes(FAILED.status, FAILED.headers, FAILED.body)


class Arrival:
    """A request whose body, of a declared length, is on its way.

    It holds Granian's future, which holds it: each of the two ends lets go, since the collector
    does not see through Granian's objects.
    """

    __slots__ = ("_ask", "_dispatch", "_future", "_proto")

    def __init__(self, dispatch: Dispatch, ask: Ask, proto: Any) -> None:
        self._dispatch = dispatch
        self._ask = ask
        self._proto = proto
        self._future: Any = None

    def start(self) -> None:
        self._future = future = self._proto()
        self._dispatch.waiting.add(self)
        future.add_done_callback(self.arrived)  # at once, if it has arrived meanwhile

    def arrived(self, future: Any) -> None:
        self._future = None
        dispatch = self._dispatch
        if not dispatch.waiting.remove(self):
            return  # answered as late
        try:
            body = received(future)
            if body is None:
                dispatch.done(self._ask, self._proto, BROKEN)
            else:
                dispatch.decide(self._ask, self._proto, body)
        except BaseException:
            dispatch.fail(self._ask, self._proto)

    def cancel(self) -> None:
        """Answer as late, unless the body arrives at this very moment."""
        if not self._dispatch.waiting.remove(self):
            return
        try:
            self._dispatch.done(self._ask, self._proto, LATE)
            future, self._future = self._future, None
            if future is not None:
                future.cancel()  # has Granian let go of the body, and so of the connection
        except BaseException:
            self._dispatch.fail(self._ask, self._proto)


class ChunkedArrival(Arrival):
    """A request whose body comes in chunks, and ends when they do."""

    __slots__ = ("_body",)

    def start(self) -> None:
        self._body = bytearray()
        self._proto.__aiter__()
        self._dispatch.waiting.add(self)
        self._await_chunk()

    def _await_chunk(self) -> None:
        self._future = future = self._proto.__anext__()
        if self in self._dispatch.waiting:
            future.add_done_callback(self.arrived)
        else:  # answered as late since the chunk before, and that end had no future to cancel
            self._future = None
            future.cancel()

    def arrived(self, future: Any) -> None:
        self._future = None
        if self not in self._dispatch.waiting:
            return
        try:
            chunk = received(future)
            if chunk is None:
                self._end(BROKEN)
                return
            self._body += chunk
            if len(self._body) > BODY_BYTES_MAX:
                self._end(TOO_LARGE)
                return
            try:
                self._await_chunk()
            except StopAsyncIteration:
                self._end(None)
        except BaseException:
            self._dispatch.waiting.remove(self)
            self._dispatch.fail(self._ask, self._proto)

    def _end(self, answer: Answer | None) -> None:
        if not self._dispatch.waiting.remove(self):
            return
        if answer is None:
            self._dispatch.decide(self._ask, self._proto, bytes(self._body))
        else:
            self._dispatch.done(self._ask, self._proto, answer)


def received(future: Any) -> bytes | None:
    """What has arrived; None when the transport closed or broke the framing."""
    try:
        body: bytes = future.result()
    except RuntimeError as error:
        # The future keeps its error, whose traceback would keep this frame, and so the future.
        error.__traceback__ = None
        return None
    return body
