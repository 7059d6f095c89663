"""A process that asks for ads through the balancer, and fires the impression of each ad it gets.

python -m tests.podsim.load ADDRESS PORT REQUESTS_A_SECOND SEED RECORDS

Open loop, over kept connections: a page's moment does not depend on answers. A few pages begin
together, as often as the clock ticks: what is measured here are failures, and each process that has
to wake up for one request only costs more of the two cores than the request does. What is not
answered with 2xx counts as failed, and an impression is then sent again until it is: the ledger
must have each one once. RECORDS gets (begun, ended, status) of every request, status 0 for no
answer. At SIGTERM no new pages begin; it prints what it has shown as JSON.
"""

import asyncio
import json
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import uvloop

from server.lifeline import die_with
from tests.exchange import Connection, exchange

SHOWN: Final = 0.25  # of the ads: an impression costs the machine more than an answer
TICK_S: Final = 0.01
# Open at a time. A machine that is overloaded by others gets fewer requests, not ever more of them.
OPEN_MAX: Final = 300
BEHIND_S_MAX: Final = 1.0
SITE: Final = 10
ANSWER_S_MAX: Final = 60.0  # longer than any proxy on the way waits
AGAIN_S: Final = 0.2
SHOWN_S: Final = (0.05, 0.5)  # from an answer to its impression

_RECORD = struct.Struct("<ddI")


class Request(NamedTuple):
    begun_s: float  # of the machine's monotonic clock
    ended_s: float
    status: int

    @property
    def has_failed(self) -> bool:
        return not 200 <= self.status < 300


def read(path: Path) -> Iterator[Request]:
    content = path.read_bytes()
    whole = len(content) - len(content) % _RECORD.size
    for fields in _RECORD.iter_unpack(content[:whole]):
        yield Request(*fields)


class Client:
    def __init__(self, address: str, port: int, records: Path) -> None:
        self._place = (address, port)
        self._records = records.open("wb", buffering=_RECORD.size * 64)
        self._idle: list[Connection] = []

    async def send(self, method: str, path: str, headers: str, body: bytes) -> tuple[int, bytes]:
        begun_s = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                status, answer = await self._once(method, path, headers, body)
        except (OSError, EOFError, TimeoutError, ValueError):
            status, answer = 0, b""
        self._records.write(_RECORD.pack(begun_s, time.monotonic(), status))
        return status, answer

    async def _once(self, method: str, path: str, headers: str, body: bytes) -> tuple[int, bytes]:
        connection = self._idle.pop() if self._idle else await asyncio.open_connection(*self._place)
        status, answer, kept = await exchange(connection, method, path, headers, body)
        if kept:
            self._idle.append(connection)
        return status, answer

    def close(self) -> None:
        self._records.close()


class Visitors:
    def __init__(self, client: Client, seed: int) -> None:
        self.pages = self.shown = 0
        self._client = client
        self._dice = random.Random(f"visitors {seed}")

    async def run(self, rate: float, ending: asyncio.Event) -> None:
        tasks: set[asyncio.Task[None]] = set()
        intended_s = time.monotonic()
        while not ending.is_set():
            await asyncio.sleep(TICK_S)
            intended_s = max(intended_s, time.monotonic() - BEHIND_S_MAX)
            while intended_s < time.monotonic() and len(tasks) < OPEN_MAX:
                intended_s += self._dice.expovariate(rate / (1 + SHOWN))
                task = asyncio.create_task(self._page())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _page(self) -> None:
        self.pages += 1
        number = self.pages
        placement = {"divName": "a", "siteId": SITE, "adTypes": [1], "count": 1}
        body = json.dumps({"placements": [placement]}).encode()
        headers = (
            f"user-agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 podsim/{number}\r\n"
            f"x-forwarded-for: 81.{number >> 8 & 255}.{number & 255}.1\r\n"
            "content-type: application/json\r\n"
        )
        status, answer = await self._client.send("POST", "/api/v2", headers, body)
        if status != 200:
            return
        ads: list[dict[str, Any]] = json.loads(answer)["decisions"]["a"] or []
        for ad in ads:
            if self._dice.random() < SHOWN:
                await self._show(ad["impressionUrl"], headers)

    async def _show(self, url: str, headers: str) -> None:
        await asyncio.sleep(self._dice.uniform(*SHOWN_S))
        parts = urlsplit(url)
        status = 0
        while not 200 <= status < 300:
            if status:
                await asyncio.sleep(AGAIN_S)
            status, _ = await self._client.send("GET", f"{parts.path}?{parts.query}", headers, b"")
        self.shown += 1


async def run(address: str, port: int, rate: float, seed: int, records: Path) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    client = Client(address, port, records)
    visitors = Visitors(client, seed)
    await visitors.run(rate, ending)
    client.close()
    print(json.dumps({"pages": visitors.pages, "shown": visitors.shown}))


if __name__ == "__main__":
    die_with(os.getppid())
    address, port, rate, seed, records = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(address, int(port), float(rate), int(seed), Path(records)))
