"""A process that asks pods for ads and shows them, open loop, as pages do behind a balancer.

python -m tests.drill.shopper SEED RATE PATIENCE_S PORT...

Of the ads it is given some are shown at once, some after minutes, some so late that nobody pays,
some twice and some never; none later than PATIENCE_S. What gets no answer is sent again, to another
pod: each showing counts for somebody. At SIGTERM no new requests begin; it waits for what is on its
way, and prints what happened as JSON.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from typing import Any, Final
from urllib.parse import urlsplit

from server.lifeline import die_with
from tests.drill.traffic import Client

SHOWN: Final = 0.85  # of all ads: research/delivery.md reckons with so many
TWICE: Final = 0.05
WHEN_S: Final = ((0.90, 0.1, 2.0), (0.06, 2.0, 60.0), (0.03, 60.0, 118.0), (0.01, 121.0, 150.0))
"""Which part of the showings comes after how many seconds, from and to."""
ADS: Final = 5  # asked for in one request
SITE: Final = 10


class Shopper:
    def __init__(self, seed: int, client: Client, patience_s: float) -> None:
        self.given: Counter[int] = Counter()  # by line item
        self.empty = 0
        self.latencies_ms: list[float] = []
        self._dice = random.Random(f"shopper {seed}")
        self._client = client
        self._patience_s = patience_s
        self._number = 0

    async def run(self, rate: float, ending: asyncio.Event) -> None:
        tasks: set[asyncio.Task[None]] = set()
        intended_s = time.monotonic()
        while not ending.is_set():
            intended_s += self._dice.expovariate(rate)
            await asyncio.sleep(max(0, intended_s - time.monotonic()))
            task = asyncio.create_task(self._page(intended_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    def asked(self, number: int) -> dict[str, Any]:
        """What page `number` asks for."""
        placement = {"divName": "a", "siteId": SITE, "adTypes": [1], "count": ADS}
        return {"placements": [placement]}

    def answered(self, number: int, lines: list[int]) -> None:
        """For those who watch more closely: what it got."""

    def more(self) -> dict[str, Any]:
        """What else there is to tell."""
        return {}

    async def _page(self, intended_s: float) -> None:
        self._number += 1
        number, dice = self._number, self._dice
        body = json.dumps(self.asked(number)).encode()
        headers = (
            f"user-agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 drill/{number}\r\n"
            f"x-forwarded-for: 10.{number >> 8 & 255}.{number & 255}.1\r\n"
        )
        answer = await self._client.send("POST", "/api/v2", headers, body, dice.randrange(64))
        self.latencies_ms.append((time.monotonic() - intended_s) * 1000)
        ads: list[dict[str, Any]] = json.loads(answer)["decisions"]["a"]
        self.answered(number, [ad["flightId"] for ad in ads])
        self.empty += not ads
        shown = []
        for ad in ads:
            self.given[ad["flightId"]] += 1
            if dice.random() < SHOWN:
                parts = urlsplit(ad["impressionUrl"])
                shown.append(self._show(f"{parts.path}?{parts.query}", headers))
        await asyncio.gather(*shown)

    async def _show(self, path: str, headers: str) -> None:
        dice = self._dice
        _, first_s, last_s = dice.choices(WHEN_S, [part for part, _, _ in WHEN_S])[0]
        await asyncio.sleep(min(dice.uniform(first_s, last_s), self._patience_s))
        for _ in range(2 if dice.random() < TWICE else 1):
            await self._client.send("GET", path, headers, b"", dice.randrange(64))


async def run(
    kind: type[Shopper], seed: int, rate: float, patience_s: float, ports: list[int]
) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    client = Client(ports)
    shopper = kind(seed, client, patience_s)
    await shopper.run(rate, ending)
    latencies = sorted(shopper.latencies_ms)
    print(
        json.dumps(
            {
                "pages": len(latencies),
                "pages_without_ads": shopper.empty,
                "ads": shopper.given.total(),
                "given": shopper.given,
                "statuses": client.statuses,
                "retried": client.retries,
                "answer_ms_p50": latencies[len(latencies) // 2],
                "answer_ms_p99": latencies[len(latencies) * 99 // 100],
                **shopper.more(),
            }
        )
    )


def main(kind: type[Shopper]) -> None:
    die_with(os.getppid())
    seed, rate, patience_s, *ports = sys.argv[1:]
    numbers = [int(port) for port in ports]
    asyncio.run(run(kind, int(seed), float(rate), float(patience_s), numbers))


if __name__ == "__main__":
    main(Shopper)
