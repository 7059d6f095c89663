"""The ops port: /livez, /ping, /metrics, and to forget a user. Not for the internet.

A thread of the parent answers, whatever the workers are doing: one request a connection, few
connections at a time, little time for each.
"""

import logging
import socket
import threading
from collections.abc import Callable
from email.message import Message
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import unquote

from server.errors import StoreError
from server.exposition import expose
from server.families import SERVING_GENERATION, STOPPING, WORKER
from server.metrics import totals

SILENCE_S_MAX: Final = 5.0  # a scrape takes milliseconds
CONNECTIONS_MAX: Final = 32  # probes, two Prometheus servers, a person, and room for stuck ones
USER: Final = "/user/"
USER_CHARS_MAX: Final = 256  # as in a request
STOP_POLL_S: Final = 0.1  # how soon it notices that it is to stop

log = logging.getLogger(__name__)


class Reply(NamedTuple):
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Route = Callable[[Message], Reply]
"""Headers in, reply out. What is for operators only checks the ops key first."""


class Forgetting:
    """`DELETE /user/{key}`: nothing is kept of a user any more. For the bearer of the ops key."""

    def __init__(self, ops_key: str, forget: Callable[[str], None]) -> None:
        self._ops_key = ops_key.encode()
        self._forget = forget

    def __call__(self, path: str, headers: Message) -> Reply:
        key = headers.get("authorization") or ""
        if not self._ops_key or not compare_digest(
            key.encode("utf-8", "replace"), b"Bearer " + self._ops_key
        ):
            return Reply(401, b"needs the ops key: authorization: Bearer KEY\n")
        try:
            user = unquote(path.partition("?")[0].removeprefix(USER), errors="strict")
        except UnicodeDecodeError:
            return Reply(400, b"the key is not UTF-8\n")
        if not 1 <= len(user) <= USER_CHARS_MAX:
            return Reply(400, b"a user's key has 1 to %d characters\n" % USER_CHARS_MAX)
        try:
            self._forget(user)
        except StoreError as error:
            log.warning("a user is not forgotten", extra={"detail": str(error)})
            return Reply(503, b"redis is away: ask again\n")
        return Reply(204, b"")


class Ops(ThreadingHTTPServer):
    """Bound when it is made; answers inside `with`."""

    daemon_threads = True
    request_queue_size = 128  # socketserver's 5 makes a burst of connections wait a second for each

    def __init__(
        self,
        host: str,
        port: int,
        run_dir: Path,
        workers: int,
        forgetting: "Forgetting | None" = None,
    ) -> None:
        self._run_dir = run_dir
        self.forgetting = forgetting
        self._workers = [f"{WORKER}-{number}" for number in range(1, workers + 1)]
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self.routes: dict[str, Route] = {
            "/livez": lambda _: Reply(200, b"ok\n"),
            "/ping": self._ping,
            "/metrics": self._metrics,
        }
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def __enter__(self) -> Self:
        threading.Thread(
            target=self.serve_forever, args=(STOP_POLL_S,), name="ops", daemon=True
        ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.server_close()

    def _ping(self, _: Message) -> Reply:
        """Answer for all workers what each one's own /ping says."""
        now = totals(self._run_dir)
        if now.value(STOPPING):
            return Reply(503, b"draining\n")
        slots = [now.slots_of.get(name) for name in self._workers]
        if not all(found and found[SERVING_GENERATION.start] for found in slots):
            return Reply(503, b"waiting for a catalog\n")
        return Reply(200, b"ok\n")

    def _metrics(self, headers: Message) -> Reply:
        return Reply(200, *expose(totals(self._run_dir), headers.get("accept", "")))

    # -- bounds

    def server_bind(self) -> None:
        # Not HTTPServer's own, which asks the DNS for our name and may wait for it.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.exception("ops request failed")


class _Handler(BaseHTTPRequestHandler):
    server: Ops
    timeout = SILENCE_S_MAX
    default_request_version = "HTTP/1.0"  # 0.9 would have a refusal without a status
    server_version = "adcore"
    sys_version = ""

    def do_GET(self) -> None:
        route = self.server.routes.get(self.path.partition("?")[0])
        self._send(route(self.headers) if route else Reply(404, b"no such path\n"))

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        if self.server.forgetting is None or not self.path.startswith(USER):
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)
        else:
            self._send(self.server.forgetting(self.path, self.headers))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # The base class calls a method without a do_ method "not implemented", and that a 501.
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else code
        self.close_connection = True
        self._send(Reply(status, b"refused\n"))

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        if reply.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: a probe a second is no news."""
