"""The plan in Redis: versions rise, an old leader's plan is not taken, a broken one is refused."""

import msgspec
import pytest

from server.errors import SnapshotError
from server.lease import Plans
from server.store import Keyspace, connect
from server.store.plans import PlanStore

ONE = (1).to_bytes(8, "little")


@pytest.fixture
def store(redis_url):
    store = PlanStore(connect(redis_url), Keyspace())
    yield store
    store.close()


def test_what_was_written_is_read(store):
    assert (store.version(), store.read()) == (0, None)
    first = store.write(100, ONE, ONE, ONE)
    second = store.write(101, ONE, ONE, ONE, multipliers_ppm=ONE)
    plan = store.read()
    assert 0 < first < second == store.version() == plan.version
    assert (plan.made_at_s, plan.ids, plan.multipliers_ppm) == (101, ONE, ONE)
    assert store.write(102, b"", b"", b"") == second + 1
    assert store.read().ids == b""


def test_a_plan_of_before_there_were_multipliers_is_read(store, redis_url):
    with connect(redis_url) as client:
        client.set(Keyspace().plan_current, msgspec.msgpack.encode((1, 1, 1, ONE, ONE, ONE)))
    assert store.read().multipliers_ppm == b""


def test_an_older_version_is_not_written_over_a_newer_one(store, redis_url):
    store.write(100, ONE, ONE, ONE)
    with connect(redis_url) as client:
        # Another leader, which took its number later, was faster.
        client.set(Keyspace().plan_version, 1 << 40)
        assert store.write(101, ONE, ONE, ONE) is None
    assert store.read().made_at_s == 100


@pytest.mark.parametrize(
    "blob",
    [b"nonsense", msgspec.msgpack.encode((2, 1, 1, b"", b"", b"")),
     msgspec.msgpack.encode((1, 1, 1, ONE, b"", ONE)),
     msgspec.msgpack.encode((1, 1, 1, b"x", b"x", b"x")),
     msgspec.msgpack.encode((1, 1, 1, ONE, ONE, ONE, ONE + ONE))],
)  # fmt: skip
def test_a_plan_that_is_no_good_is_refused_and_the_next_one_taken(store, redis_url, tmp_path, blob):
    with connect(redis_url) as client:
        client.set(Keyspace().plan_current, blob)
        client.set(Keyspace().plan_version, 1)
    with pytest.raises(SnapshotError):
        store.read()
    plans = Plans(store, tmp_path)
    assert plans.step()
    assert list(tmp_path.iterdir()) == []
    version = store.write(100, ONE, ONE, ONE)
    assert plans.step()
    assert (tmp_path / "plan").readlink().name == f"plan-{version}-100.bin"


def test_few_plans_are_kept_and_redis_away_is_told(store, redis_url, tmp_path):
    plans = Plans(store, tmp_path)
    for number in range(5):
        store.write(100 + number, ONE, ONE, ONE)
        assert plans.step()
    assert len(list(tmp_path.glob("plan-*.bin"))) == 2
    assert not Plans(PlanStore(connect("unix:///nowhere"), Keyspace()), tmp_path).step()
