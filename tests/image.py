"""The image as buildah makes it, and containers of it as a kubelet would start them, by podman.

Storage is a folder below build/: nothing is left in the system's, and a second run of the tests
finds the layers of the first.
"""

import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.serving import DEADLINE_S, ROOT, wait_until

FOLDER = ROOT / "build" / "image"
NAME = "localhost/adcore"
TOOLS = ("buildah", "podman", "runc", "mmdebstrap")
# What Debian's cgroups and a machine without systemd take: resources are not what is tested here.
PODMAN = ("podman", "--cgroup-manager", "cgroupfs", "--events-backend", "file")
BUILD_S_MAX = 1200.0
SITE = "opt/adcore/lib/python3.13/site-packages"


def need_tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"NOT INSTALLED: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("NOT INSTALLED: an image is built by root here")


def environ() -> dict[str, str]:
    """The environment in which buildah and podman use our folder."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    conf = FOLDER / "storage.conf"
    conf.write_text(
        f'[storage]\ndriver = "{os.environ.get("STORAGE_DRIVER", "overlay")}"\n'
        f'graphroot = "{FOLDER / "storage"}"\nrunroot = "{FOLDER / "run"}"\n'
    )
    return os.environ | {"CONTAINERS_STORAGE_CONF": str(conf)}


def run(*command: object, timeout_s: float = DEADLINE_S) -> str:
    """A command's stdout; AssertionError with what it wrote when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_s,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@contextmanager
def mounted(name: str = NAME) -> Iterator[Path]:
    """The image's root, to be read."""
    root = run(*PODMAN, "image", "mount", name).strip()
    try:
        yield Path(root)
    finally:
        run(*PODMAN, "image", "unmount", name)


def size_bytes(root: Path) -> int:
    """What the files take, each counted once."""
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        if not path.is_dir() or path.is_symlink():
            found[status.st_ino] = status.st_size
    return sum(found.values())


class Container:
    """`podman run` with what a kubelet makes of a container's securityContext and mounts."""

    def __init__(
        self, security: Mapping[str, Any], mounts: Mapping[Path, str], env: Mapping[str, str]
    ) -> None:
        # The default seccomp profile is podman's own default: nothing to ask for.
        assert security["readOnlyRootFilesystem"]
        assert not security["allowPrivilegeEscalation"]
        options = ["--runtime", "runc", "--network", "host", "--pull", "never", "--read-only"]
        # Podman would put a tmpfs of its own there; a kubelet does not.
        options += ["--read-only-tmpfs=false", "--security-opt", "no-new-privileges"]
        options += ["--user", f"{security['runAsUser']}:{security['runAsGroup']}"]
        options += [f"--cap-drop={name}" for name in security["capabilities"]["drop"]]
        # Without CAP_SYS_RESOURCE on this machine, podman can't keep its own, higher ones.
        options += ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]
        options += [f"--volume={source}:{target}" for source, target in mounts.items()]
        options += [f"--env={name}={text}" for name, text in env.items()]
        self._options = options
        self.id = ""

    def start(self, *arguments: str, name: str = NAME) -> None:
        self.id = run(*PODMAN, "run", "--detach", *self._options, name, *arguments).strip()

    def answer(self, *arguments: str, name: str = NAME) -> str:
        """What it prints until it ends well."""
        return run(*PODMAN, "run", "--rm", *self._options, name, *arguments)

    @property
    def pid(self) -> int:
        return int(self.state()["Pid"])

    def state(self) -> dict[str, Any]:
        (found,) = json.loads(run(*PODMAN, "inspect", self.id))
        return found["State"]

    @property
    def log(self) -> str:
        done = subprocess.run(
            [*PODMAN, "logs", self.id], env=environ(), capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def stop(self) -> int:
        """By the image's own stop signal; the exit code."""
        run(*PODMAN, "stop", "--time", "30", self.id)
        return int(self.state()["ExitCode"])

    def remove(self) -> None:
        if self.id:
            run(*PODMAN, "rm", "--force", "--time", "0", self.id)


def proc_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def age_s(pid: int) -> float:
    """How long ago the process began: its pid's, so of the container's first exec."""
    began_ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])
    up_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return up_s - began_ticks / os.sysconf("SC_CLK_TCK")


def status_of(port: int, path: str) -> int:
    """The status of a GET, 0 when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status
    return 0


def wait_ready(container: Container, *ports: int) -> None:
    def ready() -> bool:
        if container.state()["Status"] != "running":
            raise AssertionError(f"the container ended; its log:\n{container.log}")
        return all(status_of(port, "/ping") == 200 for port in ports)

    wait_until(ready, "the container to be ready")
