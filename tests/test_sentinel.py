"""Whoever speaks to Redis finds the primary that its sentinels name, and no other: real ones."""

import asyncio
import shutil
import signal
import time
from contextlib import suppress

import hiredis
import pytest
import redis as redis_py

from server.errors import StoreError
from server.store import connect
from server.store.link import Link
from tests.redis_server import RedisServer
from tests.sentinels import (
    DEBIAN,
    MASTER,
    WHEEL,
    Build,
    Node,
    SentinelCluster,
    free_port,
    make_tls,
)
from tests.serving import wait_until

pytestmark = pytest.mark.process

PING = hiredis.pack_command(("PING",))
WRITE = hiredis.pack_command(("INCR", "by the link"))


class Linked:
    """A link, and what it hears."""

    def __init__(self, url: str) -> None:
        self.heard: list[object] = []
        self.cuts = 0
        self.link = Link(url, [PING], self._took, self._went)

    def _took(self, answers: list[tuple[object, object]]) -> None:
        self.heard += [answer for _, answer in answers]

    def _went(self) -> None:
        self.cuts += 1

    async def written(self, seconds: float = 30) -> float:
        """Write until a write is answered; how long that took."""
        started_s, before = time.monotonic(), self.good()
        while self.good() == before:
            assert time.monotonic() < started_s + seconds, self.heard[-3:]
            self.link.send(WRITE, ["it"])
            await asyncio.sleep(0.05)
        return time.monotonic() - started_s

    def good(self) -> int:
        return sum(isinstance(it, int) for it in self.heard)

    def port(self) -> int:
        """Where it is connected."""
        transport = self.link._transport
        return 0 if transport is None else transport.get_extra_info("peername")[1]


def linked(url: str, steps) -> None:
    """Run `steps(linked)` on a loop that has a link."""

    async def run() -> None:
        found = Linked(url)
        found.link.start(asyncio.get_running_loop())
        try:
            await found.written()
            await steps(found)
        finally:
            found.link.close()
            await asyncio.sleep(0)

    asyncio.run(run())


def written(client, seconds: float = 30) -> float:
    """Write until a write succeeds; how long that took."""
    started_s = time.monotonic()
    while True:
        try:
            client.incr("by the client")
        except redis_py.RedisError:
            assert time.monotonic() < started_s + seconds
            time.sleep(0.05)
        else:
            return time.monotonic() - started_s


def test_a_killed_primary_and_a_failover_for_maintenance(tmp_path):
    """By TLS, with Redis's password and the sentinels' own."""
    if not DEBIAN.exists() or not shutil.which("openssl"):
        pytest.skip("NOT INSTALLED: Debian's redis-tools and openssl; the wheel's has no TLS")
    passwords = {"password": "of-redis", "sentinel_password": "theirs"}
    build = Build("Debian's", str(DEBIAN))
    with SentinelCluster(build=build, tls=make_tls(tmp_path), **passwords) as cluster:

        async def steps(found: Linked) -> None:
            first = cluster.primary()
            await asyncio.to_thread(kill, cluster, first)
            await found.written()
            second = cluster.primary()
            assert found.port() == second.port != first.port
            assert written(client) < 2
            await asyncio.to_thread(cluster.fail_over)
            # It is a replica in the end, and its clients are cut; until then it refuses writes.
            await asyncio.to_thread(wait_until, lambda: role(cluster, second) == "slave", "a role")
            await found.written()
            assert found.port() == cluster.primary().port not in (first.port, second.port)
            assert written(client) < 2

        client = connect(cluster.url)
        written(client)
        linked(cluster.url, steps)
        client.close()


def test_a_primary_that_is_stopped_and_comes_back():
    with SentinelCluster(password="of-redis") as cluster:

        async def steps(found: Linked) -> None:
            old = cluster.primary()
            old.signal(signal.SIGSTOP)
            await asyncio.to_thread(cluster.wait_moved, old)
            # Connections to it stay, and say nothing: they are given up all the same.
            await found.written(15)
            assert await asyncio.to_thread(written, client, 15) < 12
            new = cluster.primary()
            old.signal(signal.SIGCONT)
            await asyncio.to_thread(wait_until, lambda: role(cluster, old) == "slave", "a role")
            await found.written()
            written(client)
            assert found.port() == place_of(client) == new.port != old.port

        client = connect(cluster.url)
        written(client)
        linked(cluster.url, steps)
        client.close()


def kill(cluster: SentinelCluster, node: Node) -> None:
    node.kill()
    cluster.wait_moved(node)


def role(cluster: SentinelCluster, node: Node) -> str:
    with suppress(redis_py.RedisError), cluster.client(node) as client:
        return str(client.info("replication")["role"])
    return ""


def test_a_sentinel_that_was_cut_off_is_not_believed():
    with SentinelCluster() as cluster:
        old = cluster.primary()
        kill(cluster, old)
        # All it knows is a primary that is gone; and for itself alone it calls nothing down.
        lines = [f"sentinel monitor {MASTER} 127.0.0.1 {old.port} 9", "port {port}"]
        behind = Node(cluster.folder / "behind", WHEEL, lines, sentinel=True)
        try:
            behind.start()
            with cluster.client(behind) as asked:
                wait_until(lambda: answers(asked), "the fourth sentinel")
                assert asked.sentinel_get_master_addr_by_name(MASTER)[1] == old.port
            url = cluster.url.replace("://", f"://127.0.0.1:{behind.port},")
            with connect(url) as client:
                assert written(client) < 1

            async def steps(found: Linked) -> None:
                place = found.link._place
                assert [await place.has_moved() for _ in range(4)] == [False] * 4
                assert found.port() == cluster.primary().port

            linked(url, steps)
        finally:
            behind.kill()


def test_a_primary_that_answers_is_left_when_a_sentinel_knows_better(tmp_path):
    """As on the wrong side of a cut network: nobody has told it, and it serves who reaches it."""
    alone = ["port {port}", "bind 127.0.0.1", "save ''"]
    old, new = (Node(tmp_path / name, WHEEL, alone, sentinel=False) for name in ("old", "new"))
    before, after = (
        Node(
            tmp_path / f"sentinel-{epoch}",
            WHEEL,
            [
                "port {port}",
                f"sentinel monitor {MASTER} 127.0.0.1 {node.port} 1",
                f"sentinel config-epoch {MASTER} {epoch}",
            ],
            sentinel=True,
        )
        for epoch, node in ((0, old), (7, new))
    )
    places = f"127.0.0.1:{before.port},127.0.0.1:{after.port}"
    client = connect(f"redis+sentinel://{places}/{MASTER}")

    async def steps(found: Linked) -> None:
        written(client)
        assert found.port() == client.connection_pool.master_address[1] == old.port
        after.start()
        while found.port() != new.port:
            await found.written()
        await asyncio.to_thread(
            wait_until, lambda: place_of(client) == new.port, "the client to move"
        )
        with redis_py.Redis(port=old.port) as asked:
            assert asked.ping()

    try:
        for each in (old, new, before):
            each.start()
        written(client)
        linked(f"redis+sentinel://{places}/{MASTER}", steps)
    finally:
        client.close()
        for each in (old, new, before, after):
            each.kill()


def place_of(client) -> int:
    written(client)
    return int(client.info("server")["tcp_port"])


def answers(client) -> bool:
    with suppress(redis_py.RedisError):
        return bool(client.ping())
    return False


def test_without_sentinels_what_is_connected_goes_on():
    with SentinelCluster() as cluster:
        client = connect(cluster.url)
        written(client)

        async def steps(found: Linked) -> None:
            for each in cluster.sentinels:
                each.kill()
            end_s = time.monotonic() + 3
            while time.monotonic() < end_s:
                assert await found.written() + written(client) < 1
            assert found.cuts == 0

        linked(cluster.url, steps)
        client.close()
        started_s = time.monotonic()
        with connect(cluster.url) as late, pytest.raises(redis_py.ConnectionError):
            late.ping()
        assert time.monotonic() - started_s < 5


def test_sentinels_that_say_nothing_hold_nobody_up():
    with SentinelCluster() as cluster:
        for each in cluster.sentinels:
            each.signal(signal.SIGSTOP)
        started_s = time.monotonic()
        with connect(cluster.url) as client, pytest.raises(redis_py.ConnectionError):
            client.ping()
        # Half a second each, for a connection and for its one other try.
        assert time.monotonic() - started_s < 2 * 3 * 0.5 * 2 + 2


def test_one_sentinel_that_says_nothing_is_asked_last():
    with SentinelCluster() as cluster:
        cluster.sentinels[0].signal(signal.SIGSTOP)
        client = connect(cluster.url)
        assert written(client) < 2
        client.connection_pool.disconnect()
        assert written(client) < 0.4
        client.close()


def test_a_redis_that_turned_into_a_replica_is_left():
    """Without sentinels too: behind a name or a balancer the next connection may find another."""
    with RedisServer() as redis:

        async def steps(found: Linked) -> None:
            with redis_py.Redis.from_url(redis.url) as client:
                client.replicaof("127.0.0.1", free_port())
                found.link.send(WRITE, ["it"])
                await asyncio.to_thread(wait_until, lambda: found.cuts, "a cut")
                assert str(found.heard[-1]).startswith("READONLY")
                client.replicaof("NO", "ONE")
                await found.written()

        linked(redis.url, steps)


@pytest.mark.parametrize("wrong", ["password", "master"])
def test_a_wrong_name_or_password_is_told(wrong):
    with SentinelCluster(password="of-redis") as cluster:
        url = {
            "password": cluster.url.replace("of-redis", "another"),
            "master": cluster.url.replace(f"/{MASTER}/", "/other/"),
        }[wrong]
        with connect(url) as client, pytest.raises(redis_py.RedisError, match=r"password|other"):
            client.ping()


def test_a_url_that_names_no_master_is_refused():
    with pytest.raises(StoreError):
        connect("redis+sentinel://127.0.0.1:26379")
    with pytest.raises(StoreError):
        Link("redis+sentinel://127.0.0.1:26379", [], lambda _: None, lambda: None)
