"""The load benchmark: our server beside the floor, through real sockets, with real decisions.

    python -m benchmarks.load                      everything, under eight minutes
    python -m benchmarks.load --quick              the same code in a minute; figures of no worth
    python -m benchmarks.load --swap --redis-kill  only these parts
    python -m benchmarks.load --swap --swap-lines 1000000
                                                   a swap of so many line items, in ten minutes

One JSON goes to `results/`; `python -m benchmarks.plot` makes the picture and the tables from it.
"""

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import fmean

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from adcore import Request
from adcore import compile as compile_index
from adcore.catalog import Catalog
from benchmarks import figures, processes, scenarios, shop
from benchmarks.answers import Replayer
from benchmarks.bodies import COUNTRY_HEADER, SHAPES, Call, Shape, calls
from benchmarks.figures import Checksums, Run, Size, Swap
from benchmarks.generator import Load, fire, write_requests
from benchmarks.machine import machine, versions
from benchmarks.scenarios import SwapPlan
from benchmarks.tables import tables
from benchmarks.throughput import Bench, Plan, Requests, Target
from benchmarks.workload import NOW_S
from server import serve
from server.clock import now_s
from server.config import Config
from server.store.catalogs import CatalogStore
from server.store.client import connect
from server.store.keyspace import Keyspace
from tests.redis_server import RedisServer

RESULTS = Path(__file__).with_name("results")
SAMPLED = 64  # answers replayed in the engine, for each size of request
USERS = 2048  # requests of the workload that calls are made from
SETTINGS = {
    "ADCORE_COUNTRY_HEADER": COUNTRY_HEADER,
    "ADCORE_DOOR": os.environ.get("ADCORE_DOOR", Config().door),
    "ADCORE_DRAIN_S": "0",
    "ADCORE_WORKERS": "1",
}


class Sizes(Struct, frozen=True, kw_only=True):
    """How much of everything: one of these is all that a real run and a quick one differ in."""

    throughput: Plan
    swap: SwapPlan
    line_items: int
    kill_rate: float
    kill_seconds: float
    memory_requests: int
    memory_steps: int


FULL = Sizes(
    throughput=Plan(
        name="full",
        rounds=3,
        seconds=2.0,
        warm_up_s=0.5,
        shares=(0.3, 0.5, 0.7, 0.85),
        held_step=1.2,
    ),
    # A third of what one worker holds: what waits, waits for the swap and not for its turn.
    swap=SwapPlan(rate=1500, swaps=3, quiet_s=3.0, line_items=100_000),
    line_items=10_000,
    kill_rate=2000,
    kill_seconds=6.0,
    memory_requests=1_000_000,
    memory_steps=10,
)
QUICK = Sizes(
    throughput=Plan(
        name="quick", rounds=1, seconds=1.0, warm_up_s=0.3, shares=(0.5, 0.7), held_step=1.5
    ),
    swap=SwapPlan(rate=2000, swaps=2, quiet_s=1.0, line_items=10_000),
    line_items=10_000,
    kill_rate=2000,
    kill_seconds=2.0,
    memory_requests=50_000,
    memory_steps=5,
)
SMOKE = Sizes(
    throughput=Plan(
        name="smoke", rounds=1, seconds=0.2, warm_up_s=0.05, shares=(0.7,), held_step=None
    ),
    swap=SwapPlan(rate=300, swaps=1, quiet_s=0.2, line_items=200),
    line_items=200,
    kill_rate=300,
    kill_seconds=0.6,
    memory_requests=1000,
    memory_steps=2,
)
# A large catalog takes a minute to swap: as quiet a machine for six seconds would say little of it.
LONG_QUIET_S = 10.0
PARTS = ("throughput", "swap", "redis-kill", "rss")


class Serving(Struct):
    """Redis with published catalogs, and our server on the last of them."""

    redis: RedisServer
    store: CatalogStore
    generations: list[int]
    target: Target

    def activate_next(self) -> int:
        """Make the generation current that has waited longest; return its number."""
        self.generations.append(self.generations.pop(0))
        self.store.make_current(self.generations[-1])
        return self.generations[-1]


@contextmanager
def serving(folder: Path, catalogs: Iterable[Catalog], line_items: int) -> Iterator[Serving]:
    """`line_items` of the largest catalog bound how long the server may take until it answers."""
    with RedisServer() as redis:
        store = CatalogStore(connect(redis.url), Keyspace())
        publish = partial(store.publish, source="benchmark", now_s=now_s())
        generations = list(map(publish, catalogs))  # which keeps none: one of a million takes 3 GB
        settings = {**SETTINGS, "ADCORE_REDIS_URL": redis.url}
        tree, port = processes.server(folder, settings, line_items)
        try:
            yield Serving(redis, store, generations, Target(tree, port))
        finally:
            tree.stop()
            store.close()


class Prepared(Struct, frozen=True):
    """What one size of request is measured with."""

    calls: list[Call]
    requests: Requests


def prepare(shape: Shape, users: Sequence[Request], folder: Path, seed: int) -> Prepared:
    made = calls(users, shape, seed)
    path = folder / f"{shape.name}.requests"
    write_requests(path, (call.raw() for call in made))
    body_bytes = fmean(len(call.body) for call in made)
    return Prepared(made, Requests(shape.name, path, len(made), body_bytes))


def measure(sizes: Sizes, parts: Sequence[str], seed: int) -> Run:
    """Measure the named parts, one after the other: never two at once."""
    started, started_s = datetime.now(UTC), time.monotonic()
    facts = machine()  # first: its load average is the machine's, not ours
    with tempfile.TemporaryDirectory(prefix="adcore-load-") as name:
        folder = Path(name)
        users = shop.users(USERS, seed)
        prepared = [prepare(shape, users, folder, seed) for shape in SHAPES]
        swap = _swap(sizes.swap, prepared[0], folder, seed) if "swap" in parts else None
        catalog = shop.catalog(sizes.line_items, seed)
        replayer = Replayer(compile_index(catalog), Config(country_header=COUNTRY_HEADER))
        with serving(folder, [catalog], sizes.line_items) as server:
            checksums = _checksums(replayer, prepared, server.target.port)
            throughput = memory = redis_kill = None
            if "throughput" in parts:
                throughput = tuple(_throughput(sizes, server, it, folder, seed) for it in prepared)
            if "rss" in parts:
                memory = scenarios.memory(
                    server.target, prepared[0].requests, sizes.memory_requests, sizes.memory_steps
                )
            if "redis-kill" in parts:  # the last: nothing publishes after it
                redis_kill = scenarios.redis_kill(
                    server.target,
                    server.redis.stop,
                    prepared[0].requests,
                    folder,
                    sizes.kill_rate,
                    sizes.kill_seconds,
                )
    return Run(
        schema_version=figures.SCHEMA_VERSION,
        started_at=started.isoformat(timespec="seconds"),
        duration_s=round(time.monotonic() - started_s, 1),
        plan=sizes.throughput.name,
        seed=seed,
        line_items=sizes.line_items,
        machine=facts,
        versions=versions(),
        flags={
            "granian": _granian_options(),
            "settings": SETTINGS,
            "sizes": msgspec.json.decode(msgspec.json.encode(sizes)),
        },
        checksums=checksums,
        throughput=throughput,
        swap=swap,
        redis_kill=redis_kill,
        memory=memory,
    )


def _granian_options() -> dict[str, str]:
    """The constants of `server/serve.py`, which the floor runs with too."""
    names = ("BACKLOG", "BACKPRESSURE", "RUNTIME_MODE", "RUNTIME_THREADS", "TASK_IMPL", "LOOP")
    return {name.lower(): str(getattr(serve, name)) for name in names}


def _throughput(sizes: Sizes, server: Serving, prepared: Prepared, folder: Path, seed: int) -> Size:
    """Ours beside servers whose answer is as long as ours are on average for the same requests."""
    answers = fire(
        Load(
            port=server.target.port,
            requests=prepared.requests.path,
            rate=0,
            seconds=10,
            requests_max=prepared.requests.variants,
            warm_up_s=0,
        )
    )
    answer_bytes = answers.body_bytes // max(1, answers.answered)
    with ExitStack() as stack:
        targets = {"ours": server.target}
        for who, launch in (("floor", processes.floor), ("bare", processes.bare)):
            tree, port = launch(folder, answer_bytes)
            stack.callback(tree.stop)
            targets[who] = Target(tree, port)
        return Bench(sizes.throughput, targets, prepared.requests, seed).run()


def _swap(plan: SwapPlan, prepared: Prepared, folder: Path, seed: int) -> Swap:
    catalogs = (shop.catalog(plan.line_items, seed + number) for number in range(2))
    with serving(folder, catalogs, plan.line_items) as server:
        return scenarios.swap(plan, server.target, prepared.requests, folder, server.activate_next)


def _checksums(replayer: Replayer, prepared: Sequence[Prepared], port: int) -> Checksums:
    """Of what is asked and of what is decided; and the server's own answers, replayed."""
    asked = hashlib.sha256(b"".join(call.raw() for it in prepared for call in it.calls))
    sample = {it.requests.name: it.calls[:SAMPLED] for it in prepared}
    return Checksums(
        requests=asked.hexdigest(),
        answers={name: replayer.checksum(made, NOW_S) for name, made in sample.items()},
        sampled=sum(len(made) for made in sample.values()),
        ads=sum(replayer.verify(port, made) for made in sample.values()),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for part in PARTS:
        parser.add_argument(f"--{part}", dest="parts", action="append_const", const=part)
    parser.add_argument(
        "--swap-lines", type=int, help="line items of the catalogs that are swapped"
    )
    parser.add_argument("--quick", action="store_true", help="a minute; the figures say nothing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="the result's file")
    asked = parser.parse_args(arguments)
    sizes = QUICK if asked.quick else FULL
    parts = [f"{part}-" for part in asked.parts or ()]
    if asked.swap_lines:
        swap = replace(sizes.swap, line_items=asked.swap_lines, quiet_s=LONG_QUIET_S)
        sizes = replace(sizes, swap=swap)
        parts.append(f"{asked.swap_lines}-")
    run = measure(sizes, asked.parts or PARTS, asked.seed)
    path = asked.out or RESULTS / f"load-{run.plan}-{''.join(parts)}{run.started_at[:10]}.json"
    figures.write(path, run)
    print(tables(run))
    print(f"\nwrote {path} after {run.duration_s:.0f} s")


if __name__ == "__main__":
    main()
