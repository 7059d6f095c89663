"""The load generator as Python sees it: `olg.c`, compiled when its source is newer."""

import os
import shutil
import signal
import subprocess
from array import array
from collections.abc import Iterable, Iterator
from math import ceil
from pathlib import Path

import msgspec
from msgspec import Struct

FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror")
CONNECTIONS = 64
GRACE_S = 15.0  # beyond warm-up, window and drain: starting, and sorting a million latencies


class Percentiles(Struct, frozen=True):
    """In milliseconds, nearest rank over every request of the window."""

    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float


class Statuses(
    Struct, frozen=True, rename={"ok": "2xx", "moved": "3xx", "refused": "4xx", "failed": "5xx"}
):
    ok: int
    moved: int
    refused: int
    failed: int
    other: int


class Window(Struct, frozen=True, forbid_unknown_fields=True):
    """One run of the generator; `rate` and the percentiles leave the warm-up out, counts do not."""

    rate_asked: float  # 0: closed loop
    rate: float  # answers a second
    seconds: float
    window: int
    sent: int
    answered: int
    unanswered: int
    errors: int
    reconnects: int
    body_bytes: int
    status: Statuses
    latency_ms: Percentiles  # from the intended send time
    service_ms: Percentiles  # from the send: what a closed loop would have reported
    client_cpu_s: float

    @property
    def faults(self) -> int:
        """Requests that did not get a 2xx answer, for whatever reason."""
        return self.answered - self.status.ok + self.unanswered


class Load(Struct, frozen=True, kw_only=True):
    """What to send; both bounds must be said."""

    port: int
    requests: Path
    rate: float  # requests a second; 0: closed loop, as fast as answers come
    seconds: float
    requests_max: int
    warm_up_s: float = 0.5
    connections: int = CONNECTIONS
    seed: int = 1
    records: Path | None = None
    core: int | None = None


def build(name: str = "olg") -> Path:
    """Compile `name`.c of this folder, unless that has been done."""
    source = Path(__file__).with_name(f"{name}.c")
    binary = source.with_suffix("")
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
        # Beside the target, then renamed: two builds at once never run a half-written file.
        fresh = binary.with_name(f"{name}.{os.getpid()}")
        subprocess.run([compiler, *FLAGS, "-o", fresh, source, "-lm"], check=True)
        fresh.replace(binary)
    return binary


def start(load: Load) -> "subprocess.Popen[bytes]":
    """A run on its way; `finish` waits for it."""
    command: list[str | Path] = [build(), "-p", str(load.port), "-q", load.requests]
    command += ["-r", str(load.rate), "-d", str(load.seconds), "-n", str(load.requests_max)]
    command += ["-w", str(load.warm_up_s), "-c", str(load.connections), "-S", str(load.seed)]
    if load.records is not None:
        command += ["-o", load.records]
    # A child runs where the thread that started it may run.
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores if load.core is None else {load.core})
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE)
    finally:
        os.sched_setaffinity(0, cores)


def interrupt(run: "subprocess.Popen[bytes]") -> None:
    """End the window now; `finish` then has the figures of what was sent."""
    run.send_signal(signal.SIGINT)


def finish(run: "subprocess.Popen[bytes]", load: Load) -> Window:
    try:
        out, _ = run.communicate(timeout=load.warm_up_s + load.seconds + GRACE_S)
    finally:
        run.kill()  # nothing, unless the wait was given up
    if run.returncode:
        raise RuntimeError(f"the load generator ended with {run.returncode}")
    return msgspec.json.decode(out, type=Window)


def fire(load: Load) -> Window:
    return finish(start(load), load)


class Records:
    """What `Load.records` holds: three columns, in nanoseconds of the monotonic clock."""

    def __init__(self, load: Load) -> None:
        assert load.records is not None
        flat = array("Q", load.records.read_bytes())
        self._intended, self._sent, self._answered = flat[0::3], flat[1::3], flat[2::3]
        self._from_ns = self._intended[0] + int(load.warm_up_s * 1e9)

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """Intended, sent, answered; 0: never."""
        return zip(self._intended, self._sent, self._answered, strict=True)

    def latencies_ms(self, from_ns: int, until_ns: int) -> tuple[list[float], list[float]]:
        """Latencies of requests meant for that time, and of all others after the warm-up.

        Requests without an answer are left out: they are faults, and counted as such.
        """
        inside: list[float] = []
        outside: list[float] = []
        for intended, _, answered in self.rows():
            if answered and intended >= self._from_ns:
                wanted = inside if from_ns <= intended < until_ns else outside
                wanted.append((answered - intended) / 1e6)
        return inside, outside


def percentile(values: list[float], share: float) -> float:
    """Nearest rank, as the generator's own."""
    return sorted(values)[max(0, ceil(len(values) * share) - 1)]


def write_requests(path: Path, requests: Iterable[bytes]) -> None:
    """The generator's input: whole HTTP requests, each after its length and a newline."""
    path.write_bytes(b"".join(b"%d\n%b" % (len(request), request) for request in requests))


def post(path: str, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A whole HTTP/1.1 request."""
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    head += [f"{name}: {value}" for name, value in headers]
    head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
