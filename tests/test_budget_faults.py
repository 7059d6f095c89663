"""No account is ever overspent, whatever servers, control and Redis do: seeds, and real faults."""

import shutil
import time
from random import Random

import pytest

from server.pacing.accounts import Account
from server.store import connect
from tests.drill.cluster import RedisPair
from tests.sim.budget_box import BudgetBox
from tests.sim.budget_twin import BudgetTwin
from tests.sim.budget_world import World, run
from tests.test_budget_guards import Book, W, us

pytestmark = pytest.mark.plain


@pytest.mark.parametrize("seed", range(0, 100, 10))
def test_the_twin_never_overspends(seed):
    for each in range(seed, seed + 10):
        run(BudgetTwin(), each)


@pytest.mark.parametrize("seed", range(8))
def test_redis_never_overspends(seed, redis_url):
    client = connect(redis_url)
    client.flushall()
    run(BudgetBox(client), seed, steps=300)
    client.close()


def test_without_faults_all_of_a_budget_is_spent():
    """So the seeds above do come to the end of what there is."""
    for seed in range(12):
        world = World(BudgetTwin(), Random(seed))
        world.faults = []
        line = world.lines[0]
        world.lines = [line._replace(accounts=(Account("l1.impressions", "", 50, 10**6),))]
        world.limits = {("l1.impressions", ""): 50}
        world.control()
        for _ in range(800):
            world.step()
        # What nobody looked at came back and was granted again: the last few may still be out.
        assert 45 * 10**6 <= world.spent["ever", "l1.impressions"] <= 50 * 10**6


# -- a Redis that really ends


@pytest.fixture
def pair(tmp_path_factory):
    pair = RedisPair(tmp_path_factory.mktemp("r"))
    yield pair
    pair.end()


def boxed(pair: RedisPair) -> BudgetBox:
    return BudgetBox(connect(pair.url))


def on_disk() -> None:
    time.sleep(1.1)  # appendfsync everysec


@pytest.mark.parametrize("tail_bytes", [1, 150, 400])
def test_a_torn_log_that_is_started_twice(pair, tail_bytes):
    box = boxed(pair)
    book = Book(box, 60)
    for window in (W, W + 1):
        book.ask(window)
    on_disk()
    pair.kill()
    pair.truncate(tail_bytes)
    pair.restart()
    book.box = box = boxed(pair)
    assert book.ask(W + 2).status == "fenced"
    assert book.ask(W + 4).status == "granted"
    on_disk()
    pair.kill()
    pair.restart()  # which runs the half that the first start had left in the file
    book.box = box = boxed(pair)
    # A byte less than all is found out by Redis itself, which cuts the whole transaction off.
    assert book.ask(W + 5).status == ("fenced" if tail_bytes == 1 else "lost")
    book.exhaust(W + 6)
    if tail_bytes > 1:
        assert box.reset(W - 1, W + 46, ["ever"], us(W + 45)) is None
        for window in range(W, W + 46):
            box.settle(window, {})
        box.open(W + 45, {"ever": {"l1.impressions": book.granted}})
        book.exhaust(W + 47)
    assert book.granted > 15


def test_an_older_copy_of_the_log(pair):
    box = boxed(pair)
    book = Book(box, 40)
    book.ask(W)
    on_disk()
    path = pair.folder / pair.primary / "appendonly.aof"
    shutil.copy(path, path.with_suffix(".old"))
    for window in (W, W + 1, W + 2):
        book.ask(window)
    for _ in range(2):
        pair.kill()
        shutil.copy(path.with_suffix(".old"), path)
        pair.restart()
        book.box = boxed(pair)
        assert book.ask(W + 3).status == "fenced"
    book.exhaust(W + 5)
    assert book.granted > 10


def two_windows_ahead(pair) -> Book:
    """Grants of three windows, of which the replica has the first alone."""
    box = boxed(pair)
    book = Book(box, 40)
    book.ask(W)
    assert box._client.execute_command("WAIT", 1, 5000) == 1
    pair.detach()
    for window in (W + 1, W + 2):
        book.ask(window)
    assert book.granted == 15
    return book


def test_a_failover_to_a_stale_replica(pair):
    book = two_windows_ahead(pair)
    pair.promote()
    book.box = boxed(pair)
    book.exhaust(W + 2)
    assert book.granted > 15


def test_there_and_back_again_is_another_life(pair):
    """A primary that was a replica meanwhile has lost its tail, though its process never ended."""
    book = two_windows_ahead(pair)
    pair.follow()
    pair.command(pair.primary, "REPLICAOF", "NO", "ONE")
    book.exhaust(W + 2)
    assert book.granted > 15


def test_a_primary_cut_off_from_its_replica_grants_nothing(pair):
    box = BudgetBox(connect(pair.url), replicas=1)
    book = Book(box, 40)
    assert box._client.execute_command("WAIT", 1, 5000) == 1
    assert book.ask(W).status == "granted"
    pair.detach()
    assert book.ask(W + 1).status == "alone"


def test_a_flush(pair):
    box = boxed(pair)
    book = Book(box, 60)
    book.ask(W)
    box.flush()
    assert book.ask(W).status == "lost"
    assert box.reset(W - 1, W + 1, ["ever"], us(W)) is None
    book.open()
    book.exhaust(W)
    assert book.granted > 5
