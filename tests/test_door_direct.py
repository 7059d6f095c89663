"""Direct dispatch answers each request exactly once, whatever fails, and keeps nothing of it.

Granian is real in all of these, with a core of the test's own behind the door.
"""

import gc
import http.client
import logging
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import granian.server.mp
import pytest

from server import granian_direct
from server.delivery.core import BODY_BYTES_MAX, BROKEN, LATE, TOO_LARGE
from server.delivery.dispatch import FAILED, Arrival, Dispatch
from server.delivery.http import Answer, Ask
from server.delivery.waiting import Waiting
from server.families import DIRECT_DISPATCH
from server.granian_direct import Echo
from tests.serving import DEADLINE_S, publish, start_server, wait_until

DECLARED = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
KEPT_S_MAX = 10.0  # Granian's thread lets go of a request right after its answer
keeps_nothing = pytest.mark.usefixtures("nothing_kept")
halves = pytest.mark.parametrize("half", [DECLARED, CHUNKED], ids=["declared", "chunked"])


class Broken(Exception):
    """What a bug of ours raises."""


class Recording(Echo):
    """Echoes, keeps each body decided and each answer done, and fails in the named calls."""

    def __init__(self, *failing: str) -> None:
        self.decided: list[bytes] = []
        self.answers: list[Answer] = []
        self._failing = failing

    def admit(self, ask: Ask) -> Answer | None:
        self._fail("admit")
        return super().admit(ask)

    def decide(self, ask: Ask, body: bytes) -> Answer:
        self._fail("decide")
        self.decided.append(body)
        return super().decide(ask, body)

    def done(self, ask: Ask, answer: Answer) -> Answer:
        self._fail("done")
        self.answers.append(answer)
        return answer

    def _fail(self, call: str) -> None:
        if call in self._failing:
            raise Broken(call)


@contextmanager
def serving(core: Echo, waiting: Waiting) -> Iterator[Callable[[], http.client.HTTPConnection]]:
    with granian_direct.listening(Dispatch(core, waiting)) as port:
        yield lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)


@contextmanager
def half_sent(
    connect: Callable[[], http.client.HTTPConnection], half: bytes
) -> Iterator[socket.socket]:
    connection = connect()
    with socket.create_connection((connection.host, connection.port), DEADLINE_S) as client:
        client.sendall(half)
        yield client


def exchange(
    connection: http.client.HTTPConnection, body: bytes | Iterator[bytes]
) -> tuple[int, bytes]:
    connection.request("POST", "/", body)
    response = connection.getresponse()
    return response.status, response.read()


def arrivals() -> int:
    gc.collect()
    return sum(isinstance(it, Arrival) for it in gc.get_objects())


@pytest.fixture
def nothing_kept():
    before = arrivals()
    yield
    wait_until(lambda: arrivals() == before, "every request to be let go of", KEPT_S_MAX)


@keeps_nothing
@pytest.mark.parametrize(
    "chunks",
    [[b"a"], [b"ab", b"c" * 5_000, b"d"], [b"x"] * 3_000, [b"y" * BODY_BYTES_MAX], []],
    ids=lambda chunks: f"{len(chunks)} of {sum(map(len, chunks))}",
)
def test_a_body_is_the_same_declared_and_in_chunks(chunks):
    core, body = Recording(), b"".join(chunks)
    with serving(core, Waiting(60)) as connect:
        connection = connect()
        assert exchange(connection, body) == (200, body)
        assert exchange(connection, iter(chunks)) == (200, body)
        connection.close()
    assert core.decided == [body, body]


@keeps_nothing
def test_chunks_are_refused_once_they_are_more_than_they_may_be():
    core = Recording()
    with serving(core, Waiting(60)) as connect, half_sent(connect, CHUNKED) as client:
        client.sendall(b"%x\r\n%b\r\n" % (BODY_BYTES_MAX, b"x" * BODY_BYTES_MAX))
        assert client.makefile("rb").readline().split()[1] == b"413"
    assert (core.decided, core.answers) == ([], [TOO_LARGE])


@keeps_nothing
@pytest.mark.parametrize(
    "failing", [["admit"], ["decide"], ["admit", "done"], ["decide", "done"]], ids=" and ".join
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_bug_of_ours_is_a_logged_500(failing, chunked, caplog):
    core = Recording(*failing)
    with caplog.at_level(logging.ERROR), serving(core, Waiting(60)) as connect:
        connection = connect()
        answer = exchange(connection, iter((b"a", b"b")) if chunked else b"ab")
        assert answer == (FAILED.status, FAILED.body)
        connection.close()
    assert core.answers == ([] if "done" in failing else [FAILED])
    assert f"Broken: {failing[0]}" in caplog.text
    caplog.clear()  # its records keep the traceback, and so the request


@keeps_nothing
@halves
def test_a_late_body_is_answered_with_408_and_its_rest_with_nothing(half):
    core, waiting = Recording(), Waiting(0)
    with serving(core, waiting) as connect, half_sent(connect, half) as client:

        def is_late() -> bool:
            waiting.cancel_overdue()
            return bool(core.answers)

        wait_until(is_late, "the body to be late")
        with client.makefile("rb") as answers:
            assert answers.readline().split()[1] == b"408"
            assert answers.read().count(b"HTTP/1.1") == 0
    assert (core.decided, core.answers) == ([], [LATE])


@keeps_nothing
@halves
def test_a_client_that_hangs_up_is_counted_as_broken(half):
    core = Recording()
    with serving(core, Waiting(60)) as connect:
        for _ in range(20):
            with half_sent(connect, half):
                pass
        wait_until(lambda: len(core.answers) + len(core.decided) == 20, "all to be done with")
    # In chunks, Granian tells the cut as an end: the core sees that the JSON is cut.
    assert core.answers == ([BROKEN] * 20 if half is DECLARED else [])


@keeps_nothing
def test_a_body_that_arrives_as_it_becomes_late_is_answered_once():
    """The timer always finds each waiting request overdue, and races with the arrivals."""
    core, waiting, ending = Recording(), Waiting(0), threading.Event()

    def cancel() -> None:
        while not ending.wait(0.0001):
            waiting.cancel_overdue()

    canceller = threading.Thread(target=cancel)
    statuses = []
    with serving(core, waiting) as connect:
        canceller.start()
        try:
            for number in range(400):
                connection = connect()
                body = iter((b"a", b"b")) if number % 2 else b"ab"
                try:
                    statuses.append(exchange(connection, body)[0])
                except OSError:  # answered, and closed, before we had sent it all
                    statuses.append(LATE.status)
                connection.close()
        finally:
            ending.set()
            canceller.join()
    assert set(statuses) <= {200, LATE.status}
    assert set(core.answers) <= {LATE}
    assert len(core.answers) + len(core.decided) == 400
    assert len(core.decided) == statuses.count(200)


@keeps_nothing
def test_memory_stays_flat():
    requests = 3_000
    with serving(Echo(), Waiting(60)) as connect:
        connection = connect()
        tracemalloc.start()
        try:
            grown = []
            for _ in range(2):
                before = tracemalloc.get_traced_memory()[0]
                for number in range(requests):
                    exchange(connection, iter((b"a", b"b")) if number % 8 == 0 else b"ab")
                gc.collect()
                grown.append(tracemalloc.get_traced_memory()[0] - before)
        finally:
            tracemalloc.stop()
        connection.close()
    assert grown[1] < requests  # less than a byte a request


@keeps_nothing
def test_only_granians_threads_are_told_not_to_preempt():
    policies = []

    class Watching(Echo):
        def decide(self, ask: Ask, body: bytes) -> Answer:
            policies.append(os.sched_getscheduler(0))
            return super().decide(ask, body)

    before = os.sched_getscheduler(0)
    with serving(Watching(), Waiting(60)) as connect:
        connection = connect()
        assert exchange(connection, b"ab") == (200, b"ab")
        connection.close()
        assert os.sched_getscheduler(0) == before
    assert policies == [os.SCHED_BATCH]


# -- at start --------------------------------------------------------------------------------------


def test_an_unknown_granian_is_left_alone(monkeypatch, caplog):
    before = granian.server.mp.RSGIWorker
    monkeypatch.setattr(granian_direct, "VERSION", "0.0.1")
    assert granian_direct.install(Dispatch(Echo(), Waiting(60))) is False
    assert granian.server.mp.RSGIWorker is before
    assert "serving as door=rsgi" in caplog.text


class Deaf:
    """Stands for a hook that Granian calls in vain, or no more."""

    def __init__(self, *_: object) -> None: ...

    def take(self, watcher: object) -> None: ...

    def call_soon(self, *_: object, **__: object) -> None: ...

    call_soon_threadsafe = call_soon


@pytest.mark.parametrize("hook", ["Dispatch", "InPlaceLoop"])
def test_a_hook_that_is_not_honoured_is_found(monkeypatch, hook):
    monkeypatch.setattr(granian_direct, "TEST_TIMEOUT_S", 0.3)
    monkeypatch.setattr(granian_direct, hook, Deaf)
    assert granian_direct.install(Dispatch(Echo(), Waiting(60))) is False


@pytest.mark.process
def test_a_worker_dispatches_directly_and_says_so(redis_url):
    publish(redis_url)
    with start_server(redis_url, door="direct") as server:
        assert server.totals().value(DIRECT_DISPATCH) == 1
        assert "direct dispatch" not in server.log
    with start_server(redis_url, door="rsgi") as server:
        assert server.totals().value(DIRECT_DISPATCH) == 0
