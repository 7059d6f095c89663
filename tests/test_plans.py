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
    assert store.write(100, ONE, ONE, ONE) == 1
    assert store.write(101, b"", b"", b"") == 2
    plan = store.read()
    assert (store.version(), plan.version, plan.made_at_s, plan.ids) == (2, 2, 101, b"")


def test_an_older_version_is_not_written_over_a_newer_one(store, redis_url):
    store.write(100, ONE, ONE, ONE)
    with connect(redis_url) as client:
        # Another leader, which took its number later, was faster.
        client.set(Keyspace().plan_version, 9)
        assert store.write(101, ONE, ONE, ONE) is None
    assert store.read().made_at_s == 100


@pytest.mark.parametrize(
    "blob",
    [b"nonsense", msgspec.msgpack.encode((2, 1, 1, b"", b"", b"")),
     msgspec.msgpack.encode((1, 1, 1, ONE, b"", ONE)),
     msgspec.msgpack.encode((1, 1, 1, b"x", b"x", b"x"))],
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
    store.write(100, ONE, ONE, ONE)
    store.write(100, ONE, ONE, ONE)
    assert plans.step()
    assert (tmp_path / "plan").readlink().name == "plan-2-100.bin"


def test_few_plans_are_kept_and_redis_away_is_told(store, redis_url, tmp_path):
    plans = Plans(store, tmp_path)
    for number in range(5):
        store.write(100 + number, ONE, ONE, ONE)
        assert plans.step()
    assert len(list(tmp_path.glob("plan-*.bin"))) == 2
    assert not Plans(PlanStore(connect("unix:///nowhere"), Keyspace()), tmp_path).step()
