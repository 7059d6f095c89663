"""The load generator tells the truth: counts what it sends, charges what waits, stops when it must.

Nothing here looks at how fast anything was.
"""

import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import Queue

import msgspec
import pytest

from benchmarks import generator
from benchmarks.generator import Load, Records, fire, percentile

pytestmark = pytest.mark.plain

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@contextmanager
def answering(answer: Callable[[int], bytes]) -> Iterator[int]:
    """A server that answers the n-th request with `answer(n)`; b"" hangs up. Yields its port."""
    numbers = count()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(65_536):
                sent = answer(next(numbers))
                if not sent:
                    return
                self.request.sendall(sent)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def requests_path(tmp_path: Path) -> Path:
    path = tmp_path / "requests"
    generator.write_requests(path, [generator.post("/", b"a"), generator.post("/", b"bc")])
    return path


def one_connection(port: int, requests_path: Path, **changes: object) -> Load:
    base = Load(
        port=port,
        requests=requests_path,
        rate=0,
        seconds=5,
        requests_max=40,
        warm_up_s=0,
        connections=1,
        records=requests_path.with_name("records"),
    )
    return msgspec.structs.replace(base, **changes)


def test_every_answer_is_counted_by_its_status(requests_path: Path) -> None:
    lines = [b"200 OK", b"204 No Content", b"302 Found", b"400 Bad Request", b"503 Unavailable"]

    def answer(number: int) -> bytes:
        line = lines[number % 5]
        return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (line, 3 * (number % 5 != 1)) + (
            b"xyz" if number % 5 != 1 else b""
        )

    with answering(answer) as port:
        window = fire(one_connection(port, requests_path))
    status = window.status
    assert (status.ok, status.moved, status.refused, status.failed) == (16, 8, 8, 8)
    assert (window.sent, window.answered, window.errors) == (40, 40, 0)
    assert window.body_bytes == 3 * 32
    assert window.faults == 24


@pytest.mark.parametrize("rate", [0, 100_000], ids=["closed", "open"])
def test_no_more_requests_than_asked_for(requests_path: Path, rate: float) -> None:
    with answering(lambda number: OK) as port:
        window = fire(one_connection(port, requests_path, rate=rate, connections=16))
    assert (window.sent, window.answered, window.faults) == (40, 40, 0)


def test_a_lost_request_is_a_fault_and_no_other_gets_its_answer(requests_path: Path) -> None:
    with answering(lambda number: b"" if number % 4 == 3 else OK) as port:
        window = fire(one_connection(port, requests_path))
    assert (window.answered, window.errors, window.reconnects) == (30, 10, 10)
    assert (window.unanswered, window.faults) == (10, 10)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\n\r\n", b"nonsense\r\n\r\n", OK + OK], ids=["unsized", "", "two"]
)
def test_an_answer_that_is_none_is_a_fault(requests_path: Path, answer: bytes) -> None:
    with answering(lambda number: answer if number == 5 else OK) as port:
        window = fire(one_connection(port, requests_path))
    assert (window.errors, window.faults) == (1, 1)


def test_an_answer_may_come_in_pieces(requests_path: Path) -> None:
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000
    with answering(lambda number: large) as port:
        window = fire(one_connection(port, requests_path))
    assert window.body_bytes == 40 * 200_000
    assert window.faults == 0


def test_latency_counts_from_the_intended_time(requests_path: Path) -> None:
    """The server stalls once; whoever should have been sent meanwhile has waited."""
    stall = threading.Event()

    def answer(number: int) -> bytes:
        if number == 20:
            stall.wait(0.1)
        return OK

    with answering(answer) as port:
        asked = one_connection(port, requests_path, rate=2000, requests_max=400)
        window = fire(asked)
    assert window.faults == 0
    late = [sent - intended for intended, sent, _ in Records(asked).rows()]
    # 200 should have gone out during the stall; a slow machine can only add to these.
    assert sum(wait > 50e6 for wait in late) > 20
    assert window.latency_ms.p90 > 50 > window.service_ms.p50


def test_arrivals_depend_on_the_seed_alone(requests_path: Path) -> None:
    def arrivals(seed: int, delay: bool) -> list[int]:
        def answer(number: int) -> bytes:
            threading.Event().wait(0.002 * delay)
            return OK

        with answering(answer) as port:
            asked = one_connection(port, requests_path, rate=1000, requests_max=50, seed=seed)
            fire(asked)
        intended = [intended for intended, _, _ in Records(asked).rows()]
        return [at - intended[0] for at in intended]

    assert arrivals(1, False) == arrivals(1, True)
    assert arrivals(1, False) != arrivals(2, False)


def test_percentiles_are_those_of_the_records(requests_path: Path) -> None:
    with answering(lambda number: OK) as port:
        asked = one_connection(port, requests_path, rate=1000, requests_max=300)
        window = fire(asked)
    inside, outside = Records(asked).latencies_ms(0, 1)
    assert (len(inside), len(outside)) == (0, 300)
    for share, told in ((0.5, window.latency_ms.p50), (0.99, window.latency_ms.p99)):
        assert percentile(outside, share) == pytest.approx(told, abs=1e-4)


@pytest.mark.parametrize(
    "missing", ["-p", "-q", "-r", "-d", "-n"], ids=["port", "file", "rate", "length", "count"]
)
def test_a_load_without_bounds_is_refused(requests_path: Path, missing: str) -> None:
    options = {"-p": "1", "-q": str(requests_path), "-r": "1", "-d": "1", "-n": "1"}
    del options[missing]
    words = [word for option in options.items() for word in option]
    done = subprocess.run([generator.build(), *words], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"usage" in done.stderr


@pytest.mark.parametrize("option", [("-n", "1e9"), ("-d", "nan"), ("-p", "0"), ("-H", "10.0.0.1")])
def test_an_option_out_of_bounds_is_refused(requests_path: Path, option: tuple[str, str]) -> None:
    words = ["-p", "1", "-q", str(requests_path), "-r", "1", "-d", "1", "-n", "1", *option]
    assert subprocess.run([generator.build(), *words], capture_output=True).returncode == 2


def test_an_interrupted_run_reports_what_it_sent(requests_path: Path) -> None:
    """The tenth request interrupts it: whatever was sent by then is answered and counted."""
    runs: Queue[subprocess.Popen[bytes]] = Queue()

    def answer(number: int) -> bytes:
        if number == 10:
            generator.interrupt(runs.get())
        return OK

    with answering(answer) as port:
        asked = one_connection(port, requests_path, rate=100, requests_max=10_000, seconds=100)
        run = generator.start(asked)
        runs.put(run)
        window = generator.finish(run, asked)
    assert 10 < window.sent == window.answered < 10_000
    assert window.seconds < 100
