"""`adcore control` in processes of its own, for tests of what only processes can show."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.serving import DEADLINE_S, ROOT, environ_of, free_ports, wait_until


class Control:
    """One process. It is ended by its own id, whatever happens."""

    def __init__(self, folder: Path, redis_url: str, name: str = "control", **more: object) -> None:
        self._log = folder / f"{name}.log"
        self.ops_port, _ = free_ports()
        settings = {"redis_url": redis_url, "ops_port": self.ops_port, **more}
        inherited = {name: text for name, text in os.environ.items() if name[:7] != "ADCORE_"}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "server", "control"],
                cwd=ROOT,
                env=inherited | environ_of(settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def is_named(self, leader: str) -> bool:
        return leader.split(":")[-2:-1] == [str(self.process.pid)]

    def wait_for(self, text: str, count: int = 1) -> None:
        def is_there() -> bool:
            assert self.process.poll() is None, self.log
            return self.log.count(text) >= count

        wait_until(is_there, f"{text!r} in the log")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
