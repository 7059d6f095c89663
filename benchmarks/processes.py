"""The processes of a run: started, placed on cores, watched through /proc, ended by their pid."""

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from benchmarks.generator import build

READY_S: Final = 120.0  # a shared machine may be slow to start a few processes
# Checked, indexed, rendered and mapped: seven times what one takes while a worker is under load.
LINE_ITEM_S: Final = 5e-4
STOP_S: Final = 30.0
_POLL_S: Final = 0.05
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_ROOT: Final = Path(__file__).resolve().parents[1]


class Tree:
    """A child process and all that it started."""

    def __init__(self, command: Iterable[str], environ: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [*command], env={**_bare_environ(), **environ}, cwd=_ROOT, stdout=out, stderr=out
            )
        self._log = log

    def pids(self) -> list[int]:
        """Every process of the tree, parents first."""
        pids = [self.process.pid]
        for pid in pids:  # grows while it is walked
            for task in _tasks(pid):
                pids += (int(child) for child in _read(task / "children").split())
        return pids

    def pin(self, *cores: int) -> None:
        """Let the tree run on these cores only, threads and processes that it starts later too."""
        for pid in self.pids():
            for task in _tasks(pid):
                os.sched_setaffinity(int(task.name), cores)

    def cpu_s(self) -> float:
        return cpu_s(self.pids())

    def rss_bytes(self) -> int:
        """Resident memory, pages that processes share counted for each of them."""
        return sum(int(_stat(pid)[21]) for pid in self.pids()) * _PAGE_BYTES

    def check(self) -> None:
        if self.process.poll() is not None:
            text = self._log.read_text(errors="replace")[-4000:]
            raise RuntimeError(
                f"{self.process.args!r} ended with {self.process.returncode}:\n{text}"
            )

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to every process of the tree that is still there after STOP_S."""
        pids = self.pids()
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()


def _bare_environ() -> dict[str, str]:
    """Ours, without settings that would change what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ADCORE_")}


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of processes that are there: the scheduler's own sum, in ticks."""
    return sum(sum(map(int, _stat(pid)[11:13])) for pid in pids) / _TICKS_PER_S


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on, which follow the name in parentheses."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return fields or ["0"] * 50


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def loading_s(line_items: int) -> float:
    """How long a server may take to serve so many line items, or to take up another catalog."""
    return READY_S + LINE_ITEM_S * line_items


def server(folder: Path, settings: Mapping[str, str], line_items: int) -> tuple[Tree, int]:
    """Our server as it ships, with the catalog in the Redis that `settings` name; and its port."""
    port = free_port()
    environ = {
        "ADCORE_PORT": str(port),
        "ADCORE_OPS_PORT": str(free_port()),
        "ADCORE_BASE_URL": f"http://127.0.0.1:{port}",
        "ADCORE_TOKEN_KEY": secrets.token_hex(32),
        "ADCORE_LOG_LEVEL": "warning",
        **settings,
    }
    tree = Tree([sys.executable, "-m", "server", "serve"], environ, folder / "server.log")
    _until(tree, lambda: _status(port, "/ping") == 200, loading_s(line_items))
    return tree, port


def floor(folder: Path, answer_bytes: int) -> tuple[Tree, int]:
    """The app of `floor_app`; and its port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.floor_app", "--port", str(port)]
    tree = Tree([*command, "--answer-bytes", str(answer_bytes)], {}, folder / "floor.log")
    _until(tree, lambda: _status(port, "/") == 200)
    return tree, port


def bare(folder: Path, answer_bytes: int) -> tuple[Tree, int]:
    """The server that does nothing, in C; and its port."""
    port = free_port()
    tree = Tree([str(build("bare")), str(port), str(answer_bytes)], {}, folder / "bare.log")
    _until(tree, lambda: _status(port, "/") == 200)
    return tree, port


def _until(tree: Tree, ready: Callable[[], bool], ready_s: float = READY_S) -> None:
    deadline_s = time.monotonic() + ready_s
    while not ready():
        tree.check()
        if time.monotonic() > deadline_s:
            tree.stop()
            raise TimeoutError(f"{tree.process.args!r} is not ready after {ready_s} s")
        time.sleep(_POLL_S)


def _status(port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
