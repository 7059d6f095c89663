"""The real server in processes of its own, for tests of what only processes can show.

with start_server(redis_url, workers=2, drain_s=0.5) as server:
    server.get("/ping").status
"""

import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from adcore.catalog import Catalog
from server.metrics import Totals, totals
from server.store import connect
from server.store.catalogs import CatalogStore
from server.store.keyspace import Keyspace
from tests import catalogs

ROOT = Path(__file__).parent.parent
DEADLINE_S = 60.0  # for anything that is to happen: two shared cores may be slow


class Response(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class ServerProcess:
    """`adcore serve` on free ports. Its processes are ended by their own ids, whatever happens."""

    def __init__(self, folder: Path, redis_url: str, settings: dict[str, object]) -> None:
        self.port, self.ops_port = free_ports()
        self.run_dir = folder / "run"
        self.spool_dir = folder / "spool"
        self._log = folder / "log"
        arguments = ["--demo"] if settings.pop("demo", False) else []
        self.settings = {
            "redis_url": redis_url,
            "port": self.port,
            "ops_port": self.ops_port,
            "base_url": f"http://127.0.0.1:{self.port}",
            "run_dir": self.run_dir,
            "spool_dir": self.spool_dir,
            "token_key": secrets.token_hex(32),
            "drain_s": 0,
            **settings,
        }
        inherited = {name: text for name, text in os.environ.items() if name[:7] != "ADCORE_"}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "server", "serve", *arguments],
                cwd=ROOT,
                env=inherited | environ_of(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def connect(self, port: int | None = None) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=DEADLINE_S)

    def get(self, path: str, headers: dict[str, str] | None = None, port: int = 0) -> Response:
        return self.request("GET", path, None, headers, port)

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> Response:
        return self.request("POST", path, body, headers)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str] | None = None,
        port: int = 0,
    ) -> Response:
        """One request on a connection of its own."""
        connection = self.connect(port)
        try:
            connection.request(method, path, body, headers or {})
            return read(connection)
        finally:
            connection.close()

    def status(self, path: str = "/ping", port: int = 0) -> int:
        """The status of a GET, 0 when nobody answers."""
        try:
            return self.get(path, port=port).status
        except (OSError, http.client.HTTPException):
            return 0

    def wait_ready(self) -> None:
        self.wait(
            # Every worker has a snapshot; and one listens, which Granian does last.
            lambda: self.status("/ping", self.ops_port) == 200 and self.status("/ping") == 200,
            "the server to be ready",
        )

    def wait(self, condition: Callable[[], object], what: str) -> None:
        def alive_and_true() -> object:
            assert self.process.poll() is None, f"the server ended while waiting for {what}"
            return condition()

        try:
            wait_until(alive_and_true, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; its log:\n{self.log}") from None

    def workers(self) -> set[int]:
        """The workers' process ids."""
        return {pid for pid, command in self._children() if b"multiprocessing.spawn" in command}

    def loaders(self) -> set[int]:
        return {pid for pid, command in self._children() if b"\0load\0" in command}

    def agents(self) -> set[int]:
        return {pid for pid, command in self._children() if b"\0lease\0" in command}

    def _children(self) -> Iterator[tuple[int, bytes]]:
        for pid in children_of(self.process.pid):
            try:
                yield pid, Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue  # it ended meanwhile

    def totals(self) -> Totals:
        """What all processes have counted."""
        return totals(self.run_dir)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal()
        return self.process.wait(DEADLINE_S)

    def end(self) -> None:
        """Make sure that no process is left, even when children outlive their parent."""
        children = {pid for pid, _ in self._children()} if self.process.poll() is None else set()
        self.process.kill()
        self.process.wait()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def start_server(
    redis_url: str, *, ready: bool = True, **settings: object
) -> Iterator[ServerProcess]:
    """A server that answers /ping with 200, unless not `ready`. Settings are Config's fields."""
    folder = Path(tempfile.mkdtemp(prefix="adcore-test-"))
    try:
        server = ServerProcess(folder, redis_url, settings)
        try:
            if ready:
                server.wait_ready()
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(redis_url: str, catalog: Catalog | None = None) -> int:
    """Publish a catalog, by default the smallest one; its generation."""
    store = CatalogStore(connect(redis_url), Keyspace())
    try:
        return store.publish(catalog or catalogs.minimal(), source="test", now_s=int(time.time()))
    finally:
        store.close()


def environ_of(settings: dict[str, object]) -> dict[str, str]:
    return {
        f"ADCORE_{name.upper()}": " ".join(value) if isinstance(value, tuple) else str(value)
        for name, value in settings.items()
    }


def read(connection: http.client.HTTPConnection) -> Response:
    response = connection.getresponse()
    return Response(response.status, response.headers, response.read())


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"waited {deadline_s:g} s for {what}"
        time.sleep(0.02)


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def children_of(pid: int) -> list[int]:
    """Direct children, of every thread of the process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found
