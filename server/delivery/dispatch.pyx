"""Direct dispatch in front of the core: a request is answered where Granian's thread hands it over.

The RSGI door makes a task of every request and carries it to the event loop and back, which costs
10 us; here nothing is awaited and nothing changes threads. `server/granian_direct.py` has Granian
call `Dispatch`. Where that is not to be had, the same door serves as an RSGI door.

The core is for one thread at a time. Requests come on Granian's thread, and the end of the waiting
for a body on the main one, so whoever calls the core takes its turn. An answer is owed by whoever
takes the request off the list of the waiting: `dict.pop` under the GIL gives it to one of them.
"""

cimport cython

from server.delivery.http cimport Answer, Ask
from server.delivery.waiting cimport Waiting

import logging
import threading
from functools import partial

from server.delivery.core import BODY_BYTES_MAX, BROKEN, FAILED, LATE, TOO_LARGE

cdef object log = logging.getLogger(__name__)


cpdef Ask ask_of(scope):
    """The request as Granian has it."""
    cdef str client = scope.client
    # The peer is the address of `address:port`; empty on a unix socket.
    return Ask(
        scope.method, scope.path, scope.query_string, scope.headers, client.rpartition(":")[0]
    )


@cython.final
cdef class InPlaceLoop:
    """What Granian needs of a loop: where a callback is told to run soon, it runs now."""

    def call_soon(self, callback, argument, *, context=None):
        callback(argument)

    def call_soon_threadsafe(self, callback, argument, *, context=None):
        callback(argument)


@cython.final
cdef class Dispatch:
    """Answers requests in place: `take` is what Granian calls for each of them.

    `turn` is held while the core is called.
    """

    cdef readonly object turn
    cdef readonly Waiting waiting
    cdef object admit, core_decide, core_done, acquire, release

    def __init__(self, core not None, Waiting waiting not None):
        self.turn = threading.RLock()  # an answer may come while the turn is ours already
        self.acquire = self.turn.acquire
        self.release = self.turn.release
        self.waiting = waiting
        self.admit = core.admit
        self.core_decide = core.decide
        self.core_done = core.done

    def take(self, watcher):
        """Answer, or have the body's arrival answer.

        Nothing is raised and None returned, always: Granian looks at neither, and so an error
        would stay set in its thread, and a result never be freed.
        """
        cdef Answer answer
        cdef Ask ask = None
        proto = watcher.proto
        try:
            ask = ask_of(watcher.scope)
            answer = self._in_turn(self.admit, ask)
            if answer is not None:
                _respond(proto, answer)
            elif ask.headers.get("content-length") is not None:
                Arrival(self, ask, proto).start()
            else:
                ChunkedArrival(self, ask, proto).start()
        except BaseException:
            self.fail(ask, proto)

    cdef _in_turn(self, call, Ask ask):
        self.acquire()
        try:
            return call(ask)
        finally:
            self.release()

    cdef decide(self, Ask ask, proto, bytes body):
        cdef Answer answer
        self.acquire()
        try:
            decided = self.core_decide(ask, body)
            if not isinstance(decided, Answer):
                # It is answered later, from the loop's thread, by whoever resumes it.
                decided.deliver = partial(_deliver, proto)
                return
            answer = decided
        finally:
            self.release()
        _respond(proto, answer)

    cdef done(self, Ask ask, proto, Answer answer):
        self.acquire()
        try:
            answer = self.core_done(ask, answer)
        finally:
            self.release()
        _respond(proto, answer)

    cdef fail(self, Ask ask, proto):
        """Log the error being handled, and answer 500. Where an answer was sent, none is now."""
        log.exception("a request failed", extra={"path": ask and ask.path})
        if ask is not None:
            try:
                self.done(ask, proto, FAILED)
                return
            except Exception:
                pass  # the core can't even count: then it is not asked
        _respond(proto, FAILED)


def _deliver(proto, Answer answer not None):
    _respond(proto, answer)


cdef inline _respond(proto, Answer answer):
    proto.response_bytes(answer.status, answer.headers, answer.body)


cdef class Arrival:
    """A request whose body, of a declared length, is on its way.

    It holds Granian's future, which holds it: each of the two ends lets go, since the collector
    does not see through Granian's objects.
    """

    cdef Dispatch dispatch
    cdef Ask ask
    cdef object proto
    cdef object future

    def __init__(self, Dispatch dispatch not None, Ask ask not None, proto not None):
        self.dispatch = dispatch
        self.ask = ask
        self.proto = proto

    cpdef start(self):
        self.future = future = self.proto()
        self.dispatch.waiting.add(self)
        future.add_done_callback(self)  # at once, if it has arrived meanwhile

    def __call__(self, future):
        """The body has arrived."""
        self.future = None
        if not self.dispatch.waiting.remove(self):
            return  # answered as late
        try:
            body = received(future)
            if body is None:
                self.dispatch.done(self.ask, self.proto, BROKEN)
            else:
                self.dispatch.decide(self.ask, self.proto, body)
        except BaseException:
            self.dispatch.fail(self.ask, self.proto)

    def cancel(self):
        """Answer as late, unless the body arrives at this very moment."""
        if not self.dispatch.waiting.remove(self):
            return
        try:
            self.dispatch.done(self.ask, self.proto, LATE)
            future, self.future = self.future, None
            if future is not None:
                future.cancel()  # has Granian let go of the body, and so of the connection
        except BaseException:
            self.dispatch.fail(self.ask, self.proto)


@cython.final
cdef class ChunkedArrival(Arrival):
    """A request whose body comes in chunks, and ends when they do."""

    cdef bytearray body

    cpdef start(self):
        self.body = bytearray()
        self.proto.__aiter__()
        self.dispatch.waiting.add(self)
        self._await_chunk()

    cdef _await_chunk(self):
        self.future = future = self.proto.__anext__()
        if self in self.dispatch.waiting:
            future.add_done_callback(self)
        else:  # answered as late since the chunk before, and that end had no future to cancel
            self.future = None
            future.cancel()

    def __call__(self, future):
        """A chunk has arrived."""
        self.future = None
        if self not in self.dispatch.waiting:
            return
        try:
            chunk = received(future)
            if chunk is None:
                self._end(BROKEN)
                return
            self.body += chunk
            if len(self.body) > BODY_BYTES_MAX:
                self._end(TOO_LARGE)
                return
            try:
                self._await_chunk()
            except StopAsyncIteration:
                self._end(None)
        except BaseException:
            self.dispatch.waiting.remove(self)
            self.dispatch.fail(self.ask, self.proto)

    cdef _end(self, Answer answer):
        if not self.dispatch.waiting.remove(self):
            return
        if answer is None:
            self.dispatch.decide(self.ask, self.proto, bytes(self.body))
        else:
            self.dispatch.done(self.ask, self.proto, answer)


def received(future):
    """What has arrived; None when the transport closed or broke the framing."""
    try:
        return future.result()
    except RuntimeError as error:
        # The future keeps its error, whose traceback would keep this frame, and so the future.
        error.__traceback__ = None
        return None
