"""Frequency caps under load: real servers, a real Redis, users who come to several at once.

    python -m benchmarks.caps            five minutes; a JSON in results/
    python -m benchmarks.caps --quick    the same code in less than one; figures of no worth

Violations are counted from the answers: whoever got an ad once more than its cap allows. Users are
hot on purpose: each comes to all servers within the same millisecond, again and again.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
from msgspec import Struct
from msgspec.structs import replace

from adcore.catalog import Catalog, FrequencyCap
from benchmarks import processes, shop
from benchmarks.bodies import COUNTRY_HEADER, SHAPES, calls
from benchmarks.generator import Load, fire, percentile, post, write_requests
from benchmarks.machine import machine, versions
from server.clock import now_s
from server.families import (
    CAP_BREAKER_OPEN,
    CAP_CHECKS,
    CAP_COUNTS,
    CAP_READ_SECONDS,
    CAP_READS,
    CAP_UNKNOWN,
)
from server.metrics import Totals, totals
from server.store.catalogs import CatalogStore
from server.store.client import connect
from server.store.keyspace import Keyspace
from tests.capped import body, cap, capped_catalog, flights
from tests.redis_server import RedisServer
from tests.tcp_proxy import TcpProxy

RESULTS = Path(__file__).with_name("results")
CAPS = {1: 2, 2: 3, 3: 5, 4: 1, 5: 8}
STRICT = (1,)


class Sizes(Struct, frozen=True, kw_only=True):
    servers: int = 3
    users: int = 1000
    visits: int = 30  # of each user, at every server
    line_items: int = 10_000
    readers: int = 65_536  # of the throughput, each with some five visits, as on a news site
    load_s: float = 6.0
    rounds: int = 3
    fault_s: float = 4.0
    rate: float = 400.0


QUICK = Sizes(servers=2, users=100, line_items=2000, load_s=2.0, rounds=2, fault_s=1.0)


def catalog() -> Catalog:
    """Two line items that matter to a fault, and what remains when all is used up."""
    lines = [
        {"frequency_caps": [cap(most, strict=line in STRICT)], "on_unknown": "deny"}
        for line, most in CAPS.items()
    ]
    return capped_catalog(*lines, {})


# -- clients ---------------------------------------------------------------------------------------


class Client:
    """One connection, one request after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.latencies_ms: list[float] = []
        self.statuses: Counter[int] = Counter()

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self, request: bytes) -> bytes:
        started = time.perf_counter()
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        size = next(
            int(line[15:])
            for line in head.lower().split(b"\r\n")
            if line[:15] == b"content-length:"
        )
        answer = await self._reader.readexactly(size)
        self.latencies_ms.append((time.perf_counter() - started) * 1e3)
        self.statuses[int(head.split()[1])] += 1
        return answer

    def close(self) -> None:
        self._writer.close()


async def hot_users(ports: Sequence[int], sizes: Sizes) -> dict[str, Any]:
    """Have each user come to all servers at once, `visits` times; count what they were shown."""
    shown: Counter[tuple[int, int]] = Counter()
    queue = [user for user in range(sizes.users) for _ in range(sizes.visits)]
    random.Random(1).shuffle(queue)
    clients = [[Client(port) for port in ports] for _ in range(12)]

    async def work(mine: list[Client]) -> None:
        for client in mine:
            await client.open()
        while queue:
            user = queue.pop()
            request = post("/api/v2", body(f"user {user}", slots=1))
            for answer in await asyncio.gather(*(client.ask(request) for client in mine)):
                shown[user, flights(answer)[0] or 0] += 1

    started = time.perf_counter()
    await asyncio.gather(*map(work, clients))
    took_s = time.perf_counter() - started
    every = [client for mine in clients for client in mine]
    for client in every:
        client.close()
    over = dict.fromkeys(CAPS, 0)
    for (_, line), count in shown.items():
        if line in CAPS:
            over[line] += max(0, count - CAPS[line])
    capped = sum(count for (_, line), count in shown.items() if line in CAPS)
    full = sum(shown[user, line] >= CAPS[line] for user in range(sizes.users) for line in CAPS)
    return {
        "requests": sum(shown.values()),
        "requests_a_second": round(sum(shown.values()) / took_s),
        "capped_impressions": capped,
        "caps_used_up": f"{full} of {sizes.users * len(CAPS)}",
        "violations_strict": sum(over[line] for line in STRICT),
        "violations_other": sum(over[line] for line in CAPS if line not in STRICT),
        "violations_ppm": round(1e6 * sum(over.values()) / max(1, capped)),
        "statuses": dict(sum((client.statuses for client in every), Counter())),
    }


async def steady(port: int, sizes: Sizes, seconds: float, tag: str) -> dict[str, Any]:
    """An open loop of new users at a moderate rate: what a fault costs them."""
    clients = [Client(port) for _ in range(16)]
    for client in clients:
        await client.open()
    free: asyncio.Queue[Client] = asyncio.Queue()
    for client in clients:
        free.put_nowait(client)
    latencies: list[float] = []
    ads: Counter[int] = Counter()

    async def one(number: int, due: float) -> None:
        client = await free.get()
        answer = await client.ask(post("/api/v2", body(f"{tag} {number // 3}")))
        latencies.append((time.perf_counter() - due) * 1e3)
        ads[flights(answer)[0] or 0] += 1
        free.put_nowait(client)

    tasks, started = [], time.perf_counter()
    for number in range(int(seconds * sizes.rate)):
        due = started + number / sizes.rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    for client in clients:
        client.close()
    statuses = sum((client.statuses for client in clients), Counter())
    return {
        "requests": len(latencies),
        "statuses": dict(statuses),
        "5xx": sum(count for status, count in statuses.items() if status >= 500),
        "capped_shown": sum(count for line, count in ads.items() if line in CAPS),
        "p50_ms": round(percentile(latencies, 0.5), 2),
        "p99_ms": round(percentile(latencies, 0.99), 2),
        "max_ms": round(max(latencies), 2),
    }


# -- parts -----------------------------------------------------------------------------------------


def server(stack: ExitStack, folder: Path, url: str, line_items: int) -> tuple[Any, int, Path]:
    run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adcore-caps-")))
    settings = {
        "ADCORE_REDIS_URL": url, "ADCORE_RUN_DIR": str(run_dir), "ADCORE_DRAIN_S": "0",
        "ADCORE_COUNTRY_HEADER": COUNTRY_HEADER, "ADCORE_TOKEN_KEY": "0123456789abcdef" * 4,
    }  # fmt: skip
    tree, port = processes.server(folder, settings, line_items)
    stack.callback(tree.stop)
    while totals(run_dir).value(CAP_BREAKER_OPEN):
        time.sleep(0.05)
    return tree, port, run_dir


def publish(url: str, published: Catalog) -> None:
    store = CatalogStore(connect(url), Keyspace())
    store.publish(published, source="benchmark", now_s=now_s())
    store.close()


def counts(found: Sequence[Totals]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for family in (CAP_READS, CAP_CHECKS, CAP_COUNTS, CAP_UNKNOWN):
        told[family.name] = {
            result: sum(it.value(family, result) for it in found)
            for result in family.labels["result"]
        }
    quantiles = [it.quantile_ns(CAP_READ_SECONDS, 0.99) for it in found]
    told["read_p99_ms"] = [round(it / 1e6, 3) for it in quantiles if it is not None]
    return told


def violations(sizes: Sizes, folder: Path) -> dict[str, Any]:
    with RedisServer() as store, ExitStack() as stack:
        publish(store.url, catalog())
        servers = [server(stack, folder, store.url, 10) for _ in range(sizes.servers)]
        told = asyncio.run(hot_users([port for _, port, _ in servers], sizes))
        found = counts([totals(run_dir) for _, _, run_dir in servers])
        with redis.Redis.from_url(store.url) as client:
            keys: Any = client.keys("*:user:*")
            sample = [int(client.memory_usage(key) or 0) for key in keys[:200]]
        return told | {
            "servers": sizes.servers,
            "counts": found,
            "bytes_a_user": round(statistics.fmean(sample)),
        }


def faults(sizes: Sizes, folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = {}
    with RedisServer() as store, ExitStack() as stack:
        publish(store.url, catalog())
        proxy = stack.enter_context(TcpProxy(str(store.socket_path)))
        _, port, run_dir = server(stack, folder, proxy.url, 10)

        def part(name: str, turn: Callable[[], object], back: Callable[[], object]) -> None:
            turn()
            told[name] = asyncio.run(steady(port, sizes, sizes.fault_s, name))
            back()
            time.sleep(2.5)

        def nothing() -> None:
            pass

        part("well", nothing, nothing)
        told["well"]["read_p99_ms"] = counts([totals(run_dir)])["read_p99_ms"]
        part("stopped", store.pause, store.resume)
        part("slow by 100 ms", lambda: proxy.turn("delay"), lambda: proxy.turn("pass"))
        part("loading", lambda: proxy.turn("loading"), lambda: proxy.turn("pass"))
        part("killed", store.stop, store.start)
        part("back", nothing, nothing)
        told["counts"] = counts([totals(run_dir)])
    return told


def throughput(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """A server without caps beside one with caps on half of the line items, in turns."""
    plain = shop.catalog(sizes.line_items, 1)
    capped = replace(
        plain,
        line_items=tuple(
            replace(it, frequency_caps=(FrequencyCap(3, 86_400),)) if it.id % 2 else it
            for it in plain.line_items
        ),
    )
    requests = folder / "caps.requests"
    made = calls(shop.users(2048, 1), SHAPES[0], 1, sizes.readers)
    write_requests(requests, (it.raw() for it in made))
    rates: dict[str, list[float]] = {"plain": [], "capped": []}
    cpu_us: dict[str, list[float]] = {"plain": [], "capped": []}
    with ExitStack() as stack:
        servers = {}
        for name, published in (("plain", plain), ("capped", capped)):
            store = stack.enter_context(RedisServer())
            publish(store.url, published)
            tree, port, run_dir = server(stack, folder, store.url, sizes.line_items)
            tree.pin(0)
            servers[name] = tree, port
        for _ in range(sizes.rounds):
            for name, (tree, port) in servers.items():
                load = Load(
                    port=port, requests=requests, rate=0, seconds=sizes.load_s,
                    requests_max=10_000_000, core=1,
                )  # fmt: skip
                before_s = tree.cpu_s()
                window = fire(load)
                assert window.faults == 0, window
                rates[name].append(window.rate)
                cpu_us[name].append(round((tree.cpu_s() - before_s) * 1e6 / window.answered, 1))
        found = counts([totals(run_dir)])
    medians = {name: statistics.median(it) for name, it in rates.items()}
    ratio = round(medians["capped"] / medians["plain"], 3)
    return {"rates": rates, "cpu_us": cpu_us, "ratio": ratio, "counts": found}


PARTS = {"violations": violations, "faults": faults, "throughput": throughput}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args(arguments)
    sizes = QUICK if asked.quick else Sizes()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    run: dict[str, Any] = {
        "started_at": started,
        "sizes": {f: getattr(sizes, f) for f in Sizes.__struct_fields__},
    }
    with tempfile.TemporaryDirectory(prefix="adcore-caps-") as name:
        for part in asked.part or PARTS:
            run[part] = PARTS[part](sizes, Path(name))
            print(part, json.dumps(run[part], indent=1), flush=True)
    run |= {"machine": machine() | versions()}
    path = asked.out or RESULTS / f"caps-{started[:10]}.json"
    path.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main()
