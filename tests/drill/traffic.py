"""A process that loads the pods' tracking routes, open loop: as browsers do, through a balancer.

python -m tests.drill.traffic SEED RATE TOKEN_KEY LINE CREATIVE SITE CLICK_URL JOURNAL PORT...

Requests have an intended time that no answer moves. One that gets no answer (refused, reset, cut)
is sent again, to the next pod, until it gets one: the client that never gives up. At SIGTERM no new
ones begin; then it prints what happened as JSON.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final

from server.delivery.tokens import Keyring, Served, destination_digest, placement_digest
from server.lifeline import die_with
from tests.drill import truth
from tests.drill.truth import Journal, Row
from tests.exchange import Connection, exchange

ANSWER_S_MAX: Final = 6.0  # a stopped server is no dead one; then another pod is asked
PAUSE_S: Final = 0.05
PRICE_MICROS: Final = 8_000_000


class Client:
    """Connections to the pods, kept alive."""

    def __init__(self, ports: list[int]) -> None:
        self.statuses: Counter[int] = Counter()
        self.retries: Counter[str] = Counter()
        self._ports = ports
        self._idle: dict[int, list[Connection]] = defaultdict(list)

    async def get(self, path: str, headers: str, pod: int) -> None:
        """Ask until there is an answer below 500."""
        await self.send("GET", path, headers, b"", pod)

    async def send(self, method: str, path: str, headers: str, body: bytes, pod: int) -> bytes:
        """Send until there is an answer below 500; its body."""
        while True:
            port = self._ports[pod % len(self._ports)]
            try:
                async with asyncio.timeout(ANSWER_S_MAX):
                    status, answer = await self._once(port, method, path, headers, body)
            except (OSError, EOFError, TimeoutError) as error:
                self.retries[type(error).__name__] += 1
            else:
                self.statuses[status] += 1
                if status < 500:
                    return answer
            pod += 1
            await asyncio.sleep(PAUSE_S)

    async def _once(
        self, port: int, method: str, path: str, headers: str, body: bytes
    ) -> tuple[int, bytes]:
        idle = self._idle[port]
        connection = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        if body:
            headers += "content-type: application/json\r\n"
        status, answer, kept = await exchange(connection, method, path, headers, body)
        if kept:
            idle.append(connection)
        return status, answer


class Traffic:
    """Ads shown: an impression each, some twice, and of some a click."""

    def __init__(
        self, seed: int, keyring: Keyring, served: Served, url: str, journal: Path
    ) -> None:
        self.latencies_ms: list[float] = []
        self._dice = random.Random(f"traffic {seed}")
        self._keyring = keyring
        self._served = served
        self._destination = destination_digest(url)
        self._journal = Journal(journal)
        self._number = 0

    async def run(self, client: Client, rate: float, ending: asyncio.Event) -> None:
        tasks: set[asyncio.Task[None]] = set()
        intended_s = time.monotonic()
        while not ending.is_set():
            intended_s += self._dice.expovariate(rate)
            await asyncio.sleep(max(0, intended_s - time.monotonic()))
            task = asyncio.create_task(self._ad(client, intended_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _ad(self, client: Client, intended_s: float) -> None:
        self._number += 1
        number, dice = self._number, self._dice
        served = self._served._replace(issued_s=int(time.time()), id=dice.randbytes(16))
        click, impression = self._keyring.sign_shown(served, self._destination)
        shown = Row(
            served.id, truth.IMPRESSION, 0, 0, 0, *served[2:5], served.issued_s, PRICE_MICROS
        )
        rows, paths = [shown], [b"/i.gif?e=" + impression]
        if dice.random() < 0.1:
            rows, paths = rows * 2, paths * 2
        if dice.random() < 0.2:
            rows.append(shown._replace(kind=truth.CLICK))
            paths.append(b"/r?e=" + click)
        self._journal.intend(rows)
        headers = (
            f"user-agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 drill/{number}\r\n"
            f"x-forwarded-for: 10.{number >> 8 & 255}.{number & 255}.1\r\n"
        )
        for path in paths:
            await client.get(path.decode(), headers, dice.randrange(64))
            self._journal.sent()
            self.latencies_ms.append((time.monotonic() - intended_s) * 1000)
            intended_s = time.monotonic()


async def run(seed: int, rate: float, traffic: Traffic, ports: list[int]) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    client = Client(ports)
    await traffic.run(client, rate, ending)
    latencies = sorted(traffic.latencies_ms)
    print(
        json.dumps(
            {
                "requests": len(latencies),
                "statuses": client.statuses,
                "retried": client.retries,
                "answer_ms_p50": latencies[len(latencies) // 2],
                "answer_ms_p99": latencies[len(latencies) * 99 // 100],
            }
        )
    )


def main(seed: str, rate: str, key: str, *rest: str) -> None:
    line, creative, site, url, journal, *ports = rest
    served = Served(
        issued_s=0,
        id=b"",
        line_item_id=int(line),
        creative_id=int(creative),
        site_id=int(site),
        price_micros=PRICE_MICROS,
        placement=placement_digest("drill"),
    )
    traffic = Traffic(int(seed), Keyring(key.encode()), served, url, Path(journal))
    asyncio.run(run(int(seed), float(rate), traffic, [int(port) for port in ports]))


if __name__ == "__main__":
    die_with(os.getppid())
    main(*sys.argv[1:])
