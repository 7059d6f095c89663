"""`adcore serve`: the parent of one server's processes.

It reads the settings, makes the run folder, keeps the loader and the lease agent running, answers
on the ops port, and has Granian spawn the workers and replace dead ones. Told to stop, it first
lets the workers say so to everybody (503 on /ping, `Connection: close` on every answer), gives load
balancers time to notice, and only then ends them. No child outlives it, even when it is killed.
"""

import argparse
import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes, TaskImpl
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer, WorkerProcess

from server import config as settings
from server import logs
from server.clock import now_s
from server.config import Config
from server.delivery import tracing
from server.delivery.datacentres import read_ranges
from server.errors import AdcoreError, ConfigError
from server.families import AGENT, DRAINS, ENDS, LOADER, MAIN, STOPPING, WORKER
from server.kept_process import KeptProcess
from server.lifeline import die_with
from server.metrics import Metrics, totals
from server.ops import Forgetting, Ops
from server.run_folder import open_run_folder

EXIT_SETTINGS: Final = 2

# -- Granian's options, each with its reason (figures: two cores, Granian 2.8.7)
BACKLOG: Final = 4096  # connections that wait in the kernel while a worker is busy or restarts
# Counts open connections, not requests: above it clients hang, so it is no way to shed load.
BACKPRESSURE: Final = 8192
RUNTIME_MODE: Final = RuntimeModes.st  # a request crosses fewer threads than with a shared runtime
RUNTIME_THREADS: Final = 1  # two are faster when a worker owns its core, and 14 % slower when not
# Idle keep-alive connections are cut after this too. 60 s is Granian's largest; load balancers must
# let go of theirs earlier, or they send into a closed one.
HEADER_READ_TIMEOUT_MS: Final = 60_000
# Of a request line and its headers: beyond this Granian answers 431 before we hear of it. What is
# larger than its default would wait in memory, once a connection.
HEAD_BYTES_MAX: Final = 32_768
TASK_IMPL: Final = TaskImpl.asyncio  # the one in Rust is 4 % faster and leaks 1.4 kB a request
LOOP: Final = Loops.uvloop  # "auto" would silently prefer another one, were it installed
HTTP_MODE: Final = HTTPModes.http1  # proxies in front speak it, and h2c brings only its own faults

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = logging.getLogger(__name__)


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("serve", help="answer ad requests")
    parser.add_argument("--demo", action="store_true", help="serve the demo's pages too")
    parser.set_defaults(run=serve)


def serve(args: argparse.Namespace) -> int:
    """Serve until a signal: 0 when that went well, 1 when workers crash, 2 for wrong settings."""
    try:
        config = settings.load(os.environ, needs_token_key=True)
        _refuse_taken(config)
        tracing.check(config)
        read_ranges(config.datacentre_ranges)  # its faults, before any process is started
        with ExitStack() as stack:
            return _serve(config, args.demo, stack)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_SETTINGS


def _serve(config: Config, demo: bool, stack: ExitStack) -> int:
    logs.configure(MAIN, config.log_level)
    log.info("settings", extra={"settings": config.redacted()})
    for number in STOP_SIGNALS:
        # Until Granian takes them: leave through every `with`, so that no folder is left behind.
        signal.signal(number, lambda *_: sys.exit(0))
    run_dir = stack.enter_context(open_run_folder(config.run_dir))
    if not config.spool_dir and not demo:
        log.warning(
            "the spool lies in the run folder; set ADCORE_SPOOL_DIR to keep what is billable"
        )
    metrics = Metrics(run_dir, MAIN)
    metrics.started(now_s())
    forgetting = Forgetting(config.ops_key, partial(_forget, config))
    ops = Ops(config.ops_host, config.ops_port, run_dir, config.workers, forgetting)
    stack.enter_context(ops)
    command = ["load", "--run-dir", str(run_dir), "--parent", str(os.getpid())]
    stack.enter_context(KeptProcess(command, partial(metrics.restarted, LOADER)))
    command = ["lease", *command[1:]]
    stack.enter_context(KeptProcess(command, partial(metrics.restarted, AGENT)))
    server = Server(config, metrics)
    try:
        server.serve(
            target_loader=partial(build_app, config, str(run_dir), demo, os.getpid()),
            wrap_loader=False,
        )
    except SystemExit as end:
        # Granian's way to say that workers crash as fast as they are replaced.
        return end.code if isinstance(end.code, int) else 1
    return 0


@cache
def _forgetter(config: Config) -> Callable[[str], None]:
    # Imported when somebody is forgotten: redis-py would make every start 0.1 s later.
    from server.store.users import user_forgetter

    return user_forgetter(config)


def _forget(config: Config, user_key: str) -> None:
    _forgetter(config)(user_key)


def _refuse_taken(config: Config) -> None:
    """Refuse a port in use: Granian would share it, and each server get half of the requests."""
    faults = []
    for name in ("", "ops_"):
        host, port = getattr(config, f"{name}host"), getattr(config, f"{name}port")
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                faults.append(f"ADCORE_{name.upper()}PORT: {host} {port}: {error.strerror}")
    if faults:
        raise ConfigError("\n".join(faults))


# -- the workers -----------------------------------------------------------------------------------


def build_app(config: Config, run_dir: str, demo: bool, parent: int, worker: str) -> Any:
    """Make a worker's application, in the worker. What fails here fails again: the server ends."""
    die_with(parent)
    # A Ctrl-C goes to the terminal's whole group; the parent alone decides when workers end.
    os.setpgid(0, 0)
    logs.configure(worker, config.log_level)
    asyncio.get_event_loop().call_soon(_heed_lost_signal, Path(run_dir))
    # Imported here: the parent needs none of it.
    from server.worker import build

    try:
        return build(config, run_dir, worker, demo)
    except Exception as error:
        log.critical("worker can't start", exc_info=not isinstance(error, AdcoreError))
        raise SystemExit(1) from None


def _heed_lost_signal(run_dir: Path) -> None:
    """End as told before the loop's first turn: uvloop drops signals that come before it.

    Without this the parent waits out the kill timeout, and the worker leaves without a flush.
    """
    if totals(run_dir).value(STOPPING) == ENDS:
        os.kill(os.getpid(), signal.SIGTERM)


class Server(MPServer):
    """Granian with worker names that survive a respawn, a drain, and a count of respawns."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        # Workers are new processes, not forks: a fork would copy our threads' locks as they stand.
        multiprocessing.set_start_method("spawn", force=True)
        super().__init__(
            "server.worker",
            address=config.host,
            port=config.port,
            interface=Interfaces.ASGI if config.door == "asgi" else Interfaces.RSGI,
            workers=config.workers,
            runtime_threads=RUNTIME_THREADS,
            runtime_mode=RUNTIME_MODE,
            loop=LOOP,
            task_impl=TASK_IMPL,
            http=HTTP_MODE,
            websockets=False,
            backlog=BACKLOG,
            backpressure=BACKPRESSURE,
            http1_settings=HTTP1Settings(
                header_read_timeout=HEADER_READ_TIMEOUT_MS, max_buffer_size=HEAD_BYTES_MAX
            ),
            log_level=LogLevels(config.log_level),
            log_dictconfig=logs.settings(MAIN, config.log_level),
            log_access=False,  # costs a third of the throughput
            respawn_failed_workers=True,  # else one lost worker ends the server
            workers_kill_timeout=config.kill_timeout_s,  # else one hanging client blocks the end
        )
        self._drain_s = config.drain_s
        self._counted = metrics
        self._hurry = threading.Event()

    def startup(self, *arguments: Any) -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=self._hear, args=(reader,), name="signals", daemon=True).start()
        super().startup(*arguments)  # type: ignore[no-untyped-call]

    def _hear(self, reader: int) -> None:
        """Act on signals, whose numbers the interpreter writes to a pipe as they come.

        Python's own handlers run when the main thread happens to wake up. Under load a signal may
        reach another thread, and then the main one, waiting as Granian has it wait, never does.
        """
        while number := os.read(reader, 1):
            if number[0] in STOP_SIGNALS:
                if self.interrupt_signal:  # the second one: somebody is in a hurry
                    self._hurry.set()
                self.interrupt_signal = True
                self.main_loop_interrupt.set()

    def signal_handler_interrupt(self, *arguments: Any, **options: Any) -> None:
        """Leave it to `_hear`."""

    # Granian's reload on SIGHUP has two workers of one name write one file for a while.
    signal_handler_reload = signal_handler_interrupt

    def _spawn_worker(
        self, idx: int, target: Any, callback_loader: Any, socket_loader: Any = None
    ) -> WorkerProcess:
        return super()._spawn_worker(idx, target, partial(callback_loader, f"{WORKER}-{idx + 1}"))

    def _respawn_workers(self, workers: list[int], *arguments: Any, **options: Any) -> None:
        self._counted.restarted(WORKER, len(workers))
        super()._respawn_workers(workers, *arguments, **options)
        if self.interrupt_signal:
            # Granian clears the event before it respawns, and with it a signal of that moment.
            self.main_loop_interrupt.set()

    def _serve_loop(self, *arguments: Any) -> None:
        super()._serve_loop(*arguments)  # type: ignore[no-untyped-call]
        if self.interrupt_signal:
            log.info("draining", extra={"drain_s": self._drain_s})
            self._counted.stopping(DRAINS)
            self._hurry.wait(self._drain_s)

    def _stop_workers(self) -> None:
        self._counted.stopping(ENDS)
        super()._stop_workers()  # type: ignore[no-untyped-call]
