"""A container's processes: started in a session of their own, so that none can be overlooked."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]


START_NICE = 10


async def start(
    command: tuple[str, ...], environ: dict[str, str], log: Path, nice: int = 0
) -> asyncio.subprocess.Process:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *(("nice", "-n", str(nice)) if nice else ()),
            *command,
            cwd=ROOT,
            env=inherited | environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def processes_of(session: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                # Behind the name, which may hold anything: state, parent, group, session.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    yield int(entry.name)


def kill_all(session: int) -> None:
    """End what the process with this id and its descendants have left, as its cgroup's end does."""
    for pid in processes_of(session):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def hurry(session: int) -> None:
    """Let what began behind others have its full share; without the right to it all stay behind."""
    for pid in processes_of(session):
        with suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                os.setpriority(os.PRIO_PROCESS, int(task), 0)


async def succeeds(command: tuple[str, ...], environ: dict[str, str], log: Path) -> bool:
    """Run it to its end; it is killed when we are no longer wanted to wait."""
    process = await start(command, environ, log)
    try:
        return await process.wait() == 0
    finally:
        if process.returncode is None:
            kill_all(process.pid)
            await process.wait()
