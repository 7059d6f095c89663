"""Probes, as the kubelet sends them: a new connection each, and an answer within its time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from tests.podsim.manifest import Probe
from tests.podsim.processes import succeeds

OK = range(200, 400)


async def status_of(host: str, port: int, path: str) -> int:
    """The status of a GET; OSError or EOFError when there is none."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        head = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: kube-probe/1.36\r\n"
        writer.write(f"{head}connection: close\r\n\r\n".encode())
        return int((await reader.readline()).split(b" ", 2)[1])
    except IndexError:
        raise EOFError from None
    finally:
        writer.transport.abort()


async def is_well(probe: Probe, environ: dict[str, str], log: Path) -> bool:
    with suppress(OSError, EOFError, ValueError, TimeoutError):
        async with asyncio.timeout(probe.timeout_s):
            if probe.kind == "exec":
                return await succeeds(probe.command, environ, log)
            if probe.kind == "tcpSocket":
                _, writer = await asyncio.open_connection(probe.host, probe.port)
                writer.transport.abort()
                return True
            return await status_of(probe.host, probe.port, probe.path) in OK
    return False


async def watch(
    probe: Probe, ask: Callable[[], Awaitable[bool]], say: Callable[[bool], None]
) -> None:
    """Probe for ever; `say` how it is once enough probes in a row agree."""
    await asyncio.sleep(probe.delay_s)
    row, last = 0, None
    while True:
        found = await ask()
        row = row + 1 if found == last else 1
        last = found
        if row >= (probe.successes if found else probe.failures):
            say(found)
        await asyncio.sleep(probe.period_s)
