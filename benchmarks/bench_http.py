"""What a request costs beside HTTP: reading the body, writing the answer, and the whole core.

The core is the one that a worker runs, on a snapshot file as the loader writes it. `load.py`
measures the same with HTTP around it. ADCORE_BENCH_LINES=10000 for figures: the smoke size only
shows that it works.
"""

import os
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from adcore.catalog import Goal
from benchmarks import shop
from benchmarks.answers import Replayer
from benchmarks.bodies import API, COUNTRY_HEADER, SHAPES, Call, calls
from server.clock import monotonic_ns
from server.config import Config
from server.delivery import bundle, kevel
from server.delivery.answer import DECISION_ID_BYTES, Moment, Writer
from server.delivery.core import Core
from server.delivery.datacentres import Ranges
from server.delivery.http import Ask, GivenHeaders
from server.delivery.leasing import WINDOW_NS, LeaseTable
from server.delivery.robots import Robots
from server.delivery.snapshot import LEASES, Holder
from server.delivery.spool import Spool
from server.delivery.tally import Tally
from server.delivery.tracking import Tracker
from server.metrics import Metrics
from tests.delivery import BASE_URL, NOW_S, make_keyring, no_users, write_bundle

LINES = int(os.environ.get("ADCORE_BENCH_LINES", "500"))
SEED = 1
UNITS = 10**9  # of each line item: more than a benchmark takes
CALLS = 64
CONFIG = Config(country_header=COUNTRY_HEADER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_bundle(folder / "snapshot.bin", shop.catalog(LINES, SEED))
    bundle.make_current(folder, "snapshot.bin")
    return folder


@pytest.fixture(scope="module")
def holder(folder: Path) -> Holder:
    holder = Holder(folder)
    assert holder.poll(NOW_S)
    return holder


@pytest.fixture(scope="module")
def core(folder: Path, holder: Holder) -> Core:
    return core_of(folder, holder)


@pytest.fixture(scope="module")
def leased_core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    """The same, where every line item serves on a lease only, and has one."""
    folder = tmp_path_factory.mktemp("leased")
    goal = Goal(unit="impressions", total=UNITS)
    catalog = shop.catalog(LINES, SEED)
    leased = tuple(replace(item, goal=goal) for item in catalog.line_items)
    write_bundle(folder / "snapshot.bin", replace(catalog, line_items=leased))
    bundle.make_current(folder, "snapshot.bin")
    table = LeaseTable(folder / LEASES, create=True)
    window = monotonic_ns() // WINDOW_NS + 1000  # none ends while this runs
    for item in leased:
        table.put(table.insert(item.id), window, UNITS)
    table.announce()
    holder = Holder(folder)
    assert holder.poll(NOW_S)
    return core_of(folder, holder)


def core_of(folder: Path, holder: Holder) -> Core:
    metrics = Metrics(folder, "worker-0")
    spool = Spool(folder / "spool", "worker0", now_s=NOW_S, bytes_max=1 << 30)
    tracker = Tracker(
        make_keyring(),
        spool,
        holder.click_url,
        holder.lookbacks,
        metrics.tracked,
        Robots(),
        Ranges(),
    )
    return Core(CONFIG, holder, make_keyring(), tracker, Tally(metrics), {}, no_users(metrics))


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: shape.name.replace(" ", ""))
def made(request: pytest.FixtureRequest) -> list[Call]:
    return calls(shop.users(CALLS, SEED), request.param, SEED, count=CALLS)


def in_turn(function: Callable[[Any], Any], values: list[Any]) -> Callable[[], Any]:
    """Another value at each call: one value over and over would be timed in a warm cache."""
    turn = cycle(values)
    return lambda: function(next(turn))


def test_bench_decode(benchmark: Any, made: list[Call]) -> None:
    asked = benchmark(in_turn(kevel.parse, [call.body for call in made]))
    assert asked.placements


def test_bench_encode(benchmark: Any, made: list[Call], holder: Holder) -> None:
    """Writing an answer of real winners, two signed links an ad."""
    assert holder.snapshot is not None
    snapshot, moment = holder.snapshot, Moment(bytes(DECISION_ID_BYTES), NOW_S, preview=False)
    writer = Writer(make_keyring(), BASE_URL)
    replayer = Replayer(snapshot.index, CONFIG)
    pairs = [
        (kevel.parse(call.body), replayer.picks(call, NOW_S, number)[1])
        for number, call in enumerate(made)
    ]
    body = benchmark(in_turn(lambda pair: writer.write(pair[0], pair[1], snapshot, moment), pairs))
    assert msgspec.json.decode(body)["decisions"]


def test_bench_core(benchmark: Any, made: list[Call], core: Core) -> None:
    """Bytes to bytes: all that our own code does for a request, admission and counting included."""
    time_core(benchmark, made, core)


def test_bench_core_on_leases(benchmark: Any, made: list[Call], leased_core: Core) -> None:
    """The same, with a unit taken for each winner."""
    time_core(benchmark, made, leased_core)
    assert not leased_core.leases_refused()


def time_core(benchmark: Any, made: list[Call], core: Core) -> None:
    def decide(asked: tuple[Ask, bytes]) -> int:
        ask, body = asked
        return (core.admit(ask) or core.decide(ask, body)).status

    asks = [(ask_of(call), call.body) for call in made]
    assert {decide(asked) for asked in asks} == {200}
    assert benchmark(in_turn(decide, asks)) == 200


def ask_of(call: Call) -> Ask:
    headers = (*call.headers, ("host", "ads.example"), ("content-type", "application/json"))
    length = ("content-length", str(len(call.body)))
    return Ask("POST", API, "", GivenHeaders((*headers, length)), "127.0.0.1")
