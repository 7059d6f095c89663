"""A generation in Redis is read back as it was published, or refused with the reason."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adcore.catalog import SCHEMA_VERSION, Catalog, Html
from server.errors import CatalogError, SnapshotError, StoreError
from server.store import Keyspace, catalogs, connect
from server.store.catalogs import CatalogStore
from tests.catalogs import minimal
from tests.redis_server import RedisServer
from tests.worlds import worlds

pytestmark = pytest.mark.plain

KEYS = Keyspace("test")
REUSED_REDIS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def store(redis_url: str) -> Iterator[CatalogStore]:
    store = CatalogStore(connect(redis_url), KEYS)
    yield store
    store.close()


def named(name: str) -> Catalog:
    catalog = minimal()
    return msgspec.structs.replace(
        catalog, account=msgspec.structs.replace(catalog.account, name=name)
    )


def many_line_items(count: int) -> Catalog:
    catalog = minimal()
    items = tuple(
        msgspec.structs.replace(catalog.line_items[0], id=number) for number in range(1, count + 1)
    )
    return msgspec.structs.replace(catalog, line_items=items)


# -- round trip


def test_an_empty_redis_has_no_generation(store):
    assert store.current() is None
    assert store.generations() == []


def test_what_is_published_is_current_and_comes_back(store):
    first = store.publish(named("first"), source="a.yaml", now_s=100)
    second = store.publish(named("second"), source="b.yaml", now_s=200)
    assert second > first
    assert store.current() == second
    assert store.load(first) == named("first")
    assert store.load(second) == named("second")
    meta = store.meta(second)
    assert (meta.source, meta.published_at_s) == ("b.yaml", 200)
    assert meta.counts["line_items"] == 2
    assert [meta.generation for meta in store.generations()] == [second, first]


@REUSED_REDIS
@given(worlds())
def test_every_world_comes_back(store, world):
    assume(world.catalog.line_items)
    generation = store.publish(world.catalog, source="world", now_s=0)
    assert store.load(generation) == world.catalog


@pytest.mark.parametrize("count", [1, 511, 512, 513, 1025])
def test_a_chunk_has_at_most_512_records(store, count):
    generation = store.publish(many_line_items(count), source="", now_s=0)
    sizes = [chunk.records for chunk in store.meta(generation).chunks if chunk.kind == "line_items"]
    assert sum(sizes) == count
    assert len(sizes) == -(-count // 512)
    assert max(sizes) <= 512
    assert store.load(generation) == many_line_items(count)


def test_a_chunk_has_at_most_a_mebibyte(store, client):
    catalog = minimal()
    html = Html(body="x" * 65_536)
    creatives = tuple(
        msgspec.structs.replace(catalog.creatives[0], id=number, content=html)
        for number in range(1, 41)
    )
    catalog = msgspec.structs.replace(catalog, creatives=creatives)
    generation = store.publish(catalog, source="", now_s=0)
    chunks = store.meta(generation).chunks
    written = [client.get(KEYS.chunk(generation, number)) for number in range(len(chunks))]
    assert [len(chunk) for chunk in written] == [chunk.size_bytes for chunk in chunks]
    assert max(map(len, written)) <= 1 << 20
    assert sum(chunk.kind == "creatives" for chunk in chunks) == 3
    assert store.load(generation) == catalog


def test_the_digest_is_of_the_content(store):
    metas = [
        store.meta(store.publish(named(name), source=name, now_s=0)) for name in ("a", "b", "a")
    ]
    assert metas[0].digest == metas[2].digest != metas[1].digest


def test_generations_of_two_prefixes_do_not_meet(store, redis_url):
    other = CatalogStore(connect(redis_url), Keyspace("other"))
    store.publish(minimal(), source="", now_s=0)
    assert other.current() is None
    other.close()


def test_all_keys_lie_in_one_slot_of_a_cluster(store, client):
    store.publish(minimal(), source="", now_s=0)
    for key in client.scan_iter():
        assert key.startswith(b"test:{catalog}:")


# -- what a failure leaves behind


def test_an_empty_catalog_is_refused(store):
    first = store.publish(minimal(), source="", now_s=0)
    with pytest.raises(CatalogError, match="no line items"):
        store.publish(msgspec.structs.replace(minimal(), line_items=()), source="", now_s=0)
    assert store.current() == first


def test_a_record_larger_than_a_chunk_is_refused(store, monkeypatch):
    first = store.publish(minimal(), source="", now_s=0)
    monkeypatch.setattr(catalogs, "CHUNK_BYTES_MAX", 100)
    with pytest.raises(CatalogError, match=r"line_items\[0\]: larger than 100 bytes"):
        store.publish(minimal(), source="", now_s=0)
    assert store.current() == first


class DyingClient(redis.Redis):
    """Kills its own process instead of writing for the `lives`th time."""

    lives = 0

    def set(self, *args, **options):
        DyingClient.lives -= 1
        if DyingClient.lives == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().set(*args, **options)


def publish_and_die(url: str, lives: int) -> None:
    DyingClient.lives = lives
    CatalogStore(DyingClient.from_url(url), KEYS).publish(named("dead"), source="", now_s=0)


@pytest.mark.parametrize("lives", [1, 2, 5, 10])
def test_a_publisher_killed_between_chunks_changes_nothing(store, client, redis_url, lives):
    first = store.publish(named("first"), source="", now_s=0)
    before = set(client.keys())
    publisher = get_context("spawn").Process(target=publish_and_die, args=(redis_url, lives))
    publisher.start()
    publisher.join()
    assert publisher.exitcode == -signal.SIGKILL
    assert store.current() == first
    assert store.load(first) == named("first")
    assert [meta.generation for meta in store.generations()] == [first]
    # What was written goes by itself, what is published stays.
    left = set(client.keys()) - before
    assert len(left) == lives - 1
    assert all(client.ttl(key) > 0 for key in left)
    assert all(client.ttl(key) == -1 for key in before)


def test_a_chunk_lost_before_the_switch_is_noticed(store, client, monkeypatch):
    first = store.publish(minimal(), source="", now_s=0)
    switch = store._switch

    def lose_a_chunk(meta):
        client.delete(KEYS.chunk(meta.generation, 1))
        return switch(meta)

    monkeypatch.setattr(store, "_switch", lose_a_chunk)
    with pytest.raises(StoreError, match="lost chunks"):
        store.publish(minimal(), source="", now_s=0)
    assert store.current() == first


# -- damage


def reason(store: CatalogStore, generation: int) -> str:
    with pytest.raises(SnapshotError) as refused:
        store.load(generation)
    assert refused.value.reason in catalogs.REASONS
    return refused.value.reason


@REUSED_REDIS
@given(st.data())
def test_a_flipped_bit_is_never_served(store, client, data):
    generation = store.publish(minimal(), source="source", now_s=0)
    chunks = len(store.meta(generation).chunks)
    keys = KEYS.keys_of(generation, 1 + chunks)
    key = data.draw(st.sampled_from(keys))
    content = bytearray(client.get(key))
    # The meta's length grows with the generation's number, so the range must not depend on it.
    bit = data.draw(st.integers(0, 1 << 20)) % (8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    client.set(key, bytes(content))
    if key != KEYS.meta(generation):
        assert reason(store, generation) == "checksum"
        return
    # The meta's source and time have no bearing on what is served.
    with suppress(SnapshotError):
        assert store.load(generation) == minimal()


def test_every_chunk_is_needed_and_checked(store, client):
    generation = store.publish(minimal(), source="", now_s=0)
    for number in range(len(store.meta(generation).chunks)):
        key = KEYS.chunk(generation, number)
        content = client.get(key)
        for wrong, expected in ((content[:-1], "checksum"), (content + b"\0", "checksum")):
            client.set(key, wrong)
            assert reason(store, generation) == expected
        client.delete(key)
        assert reason(store, generation) == "missing"
        client.set(key, content)
    assert store.load(generation) == minimal()


def test_a_generation_that_never_was_is_missing(store):
    assert reason(store, 7) == "missing"


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, SCHEMA_VERSION - 1])
def test_another_schema_is_refused_before_anything_else_of_it_is_read(store, client, version):
    generation = store.publish(minimal(), source="", now_s=0)
    future = {"schema_version": version, "chunks": "in another form"}
    client.set(KEYS.meta(generation), msgspec.msgpack.encode(future))
    assert reason(store, generation) == "schema"
    with pytest.raises(SnapshotError, match="schema"):
        store.make_current(generation)


@pytest.mark.parametrize(
    "content", [b"", b"\xc1", b"\x80", b"\x81\xa1\xff\x01", msgspec.msgpack.encode([1])]
)
def test_a_meta_that_is_none_does_not_decode(store, client, content):
    generation = store.publish(minimal(), source="", now_s=0)
    client.set(KEYS.meta(generation), content)
    assert reason(store, generation) == "decode"


def test_a_chunk_that_is_intact_but_not_of_its_kind_does_not_decode(store, client):
    generation = store.publish(minimal(), source="", now_s=0)
    meta = store.meta(generation)
    for kind in ("creatives", "nonsense"):
        chunks = [
            msgspec.structs.replace(chunk, kind=kind) if chunk.kind == "line_items" else chunk
            for chunk in meta.chunks
        ]
        wrong = msgspec.structs.replace(meta, chunks=tuple(chunks))
        client.set(KEYS.meta(generation), msgspec.msgpack.encode(wrong))
        assert reason(store, generation) == "decode"


def test_current_that_is_no_number_is_an_error(store, client):
    client.set(KEYS.current, "latest")
    with pytest.raises(StoreError, match="no number"):
        store.current()


# -- keeping ten, going back


def test_the_last_ten_generations_are_kept_and_nothing_of_the_others(store, client):
    generations = [store.publish(named(f"n{n}"), source="", now_s=n) for n in range(13)]
    kept = [meta.generation for meta in store.generations()]
    assert kept == generations[:-11:-1]
    assert [store.load(generation).account.name for generation in kept] == [
        f"n{n}" for n in range(12, 2, -1)
    ]
    keys = 3 + sum(1 + len(store.meta(generation).chunks) for generation in kept)
    assert client.dbsize() == keys
    assert reason(store, generations[2]) == "missing"


def test_generations_of_another_schema_are_trimmed_too(store, client):
    first = store.publish(minimal(), source="", now_s=0)
    client.set(KEYS.meta(first), msgspec.msgpack.encode({"schema_version": SCHEMA_VERSION + 1}))
    for _ in range(10):
        store.publish(minimal(), source="", now_s=0)
    assert not [key for key in client.scan_iter() if f":{first}:".encode() in key]
    assert len(store.generations()) == 10


def test_rolling_back_makes_an_older_generation_current_and_keeps_the_newer(store):
    generations = [store.publish(named(f"n{n}"), source="", now_s=0) for n in range(10)]
    store.make_current(generations[0])
    assert store.current() == generations[0]
    assert len(store.generations()) == 10
    # The next publish leaves ten, without the oldest, and is current itself.
    newest = store.publish(named("new"), source="", now_s=0)
    assert store.current() == newest
    assert reason(store, generations[0]) == "missing"
    assert len(store.generations()) == 10


def test_rolling_back_to_what_is_not_whole_is_refused(store, client):
    first, second = (store.publish(minimal(), source="", now_s=0) for _ in range(2))
    client.delete(KEYS.chunk(first, 3))
    for generation in (first, 99):
        with pytest.raises(SnapshotError) as refused:
            store.make_current(generation)
        assert refused.value.reason == "missing"
    assert store.current() == second


def test_current_is_not_trimmed_when_a_slow_publisher_is_last(store, client, monkeypatch):
    """It drew its number first and finished after twelve others: it is old, and it is current."""
    switch = store._switch

    def overtaken(meta):
        monkeypatch.setattr(store, "_switch", switch)
        for _ in range(12):
            store.publish(named("fast"), source="", now_s=0)
        return switch(meta)

    monkeypatch.setattr(store, "_switch", overtaken)
    slow = store.publish(named("slow"), source="", now_s=0)
    assert store.current() == slow
    assert store.load(slow) == named("slow")
    store.make_current(slow)  # which finds it listed, older than ten others
    assert store.load(slow) == named("slow")
    # With the next publish two go at once, and nothing of them stays.
    store.publish(named("next"), source="", now_s=0)
    assert len(store.generations()) == 10
    assert client.exists(*KEYS.keys_of(slow, 10)) == 0


def test_scripts_forgotten_by_redis_are_sent_again(store, client):
    store.publish(minimal(), source="", now_s=0)
    client.script_flush()
    assert store.publish(minimal(), source="", now_s=0) == store.current()


# -- several at once


def test_concurrent_publishers_each_get_a_whole_generation(store, redis_url):
    names = [f"publisher {number}" for number in range(4)]
    published: dict[int, str] = {}

    def publish(name: str) -> None:
        own = CatalogStore(connect(redis_url), KEYS)
        for _ in range(2):
            published[own.publish(named(name), source=name, now_s=0)] = name
        own.close()

    threads = [threading.Thread(target=publish, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(published) == 8
    assert store.current() in published
    for generation, name in published.items():
        assert store.load(generation).account.name == name


# -- waiting


def assert_woken(store: CatalogStore, url: str) -> None:
    """Fail unless a publish ends `store.wait` long before its time is over."""
    publisher = CatalogStore(connect(url), KEYS)

    def publish_once_somebody_listens() -> None:
        while publisher._client.pubsub_numsub(KEYS.published)[0][1] == 0:
            time.sleep(0.005)
        publisher.publish(minimal(), source="", now_s=0)

    thread = threading.Thread(target=publish_once_somebody_listens)
    thread.start()
    started_s = time.monotonic()
    store.wait(60)
    assert time.monotonic() - started_s < 30
    thread.join()
    publisher.close()


def test_wait_returns_when_somebody_publishes(store, redis_url):
    assert_woken(store, redis_url)
    assert store.current() == 1


def test_wait_returns_without_news_too(store):
    started_s = time.monotonic()
    store.wait(0.05)
    assert time.monotonic() - started_s >= 0.05


def test_everything_says_that_redis_is_away_and_works_when_it_is_back():
    with RedisServer() as server:
        store = CatalogStore(connect(server.url), KEYS)
        store.publish(minimal(), source="", now_s=0)
        store.wait(0.01)
        server.stop()
        for ask in (
            store.current,
            store.generations,
            lambda: store.load(1),
            lambda: store.publish(minimal(), source="", now_s=0),
            lambda: store.make_current(1),
        ):
            with pytest.raises(StoreError, match="away"):
                ask()
        started_s = time.monotonic()
        with pytest.raises(StoreError, match="away"):
            store.wait(0.3)
        # A loop around `wait` must not spin while Redis is away.
        assert time.monotonic() - started_s >= 0.3
        server.start()
        assert store.current() is None
        assert_woken(store, server.url)
        assert store.load(1) == minimal()
        store.close()


def test_a_store_that_starts_before_redis_hears_of_the_first_publish():
    server = RedisServer()
    store = CatalogStore(connect(server.url), KEYS)
    for _ in range(2):
        with pytest.raises(StoreError, match="away"):
            store.wait(0.01)
    with server:
        assert_woken(store, server.url)
        store.close()


def test_a_hung_redis_is_given_up_on():
    with RedisServer() as server, connect(server.url) as other:
        store = CatalogStore(connect(server.url, timeout_s=0.1), KEYS)
        other.client_pause(10_000)
        with pytest.raises(StoreError, match="in time"):
            store.current()
        store.close()


def test_a_url_that_is_none_is_refused():
    with pytest.raises(StoreError, match="not the URL of a Redis"):
        connect("http://127.0.0.1/")
