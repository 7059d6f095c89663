"""A worker's way to Redis and back: shared reads, one deadline, a breaker; each answered once.

A real Redis behind a proxy that can be slow or gone; a loop and requests of the test's own.
"""

import asyncio
import json
import time
from contextlib import ExitStack, contextmanager

import pytest
import redis as redis_py

from server.config import Config
from server.delivery import bundle
from server.delivery.core import Core
from server.delivery.http import Answer, Ask, GivenHeaders
from server.delivery.snapshot import Holder
from server.delivery.spool import Spool
from server.delivery.tally import Tally
from server.delivery.tracking import Tracker
from server.delivery.users import Users
from server.families import CAP_CHECKS, CAP_READS, CAP_UNKNOWN
from server.metrics import Metrics, totals
from server.store.keyspace import Keyspace
from server.store.users import user_hasher
from tests.capped import body, cap, capped_catalog, flights
from tests.delivery import BASE_URL, NOW_S, make_keyring
from tests.tcp_proxy import TcpProxy

CONFIG = Config(token_key="k" * 32)
ASK = Ask("POST", "/api/v2", "", GivenHeaders([("host", "a")]), "127.0.0.1")
DEADLINE_MS = 20
SLACK_S = 0.07  # two shared cores: a timer may be late by far more than itself


class Deciding:
    """A core with a catalog and a way to Redis, and no door."""

    def __init__(self, folder, url, *lines, deadline_ms=500):
        self.run_dir = folder
        catalog = capped_catalog(*lines)
        head = bundle.Head(
            generation=1, line_items=len(catalog.line_items), built_at_s=NOW_S, sections={}
        )
        bundle.write(folder / "snapshot-1.bin", catalog, BASE_URL, head)
        bundle.make_current(folder, "snapshot-1.bin")
        holder = Holder(folder)
        assert holder.poll(int(time.time()))
        self.metrics = Metrics(folder, "worker-1")
        spool = Spool(folder / "spool", "test", now_s=NOW_S, bytes_max=1 << 20)
        tracker = Tracker(
            make_keyring(), spool, holder.click_url, holder.lookbacks, lambda *_: None, None, None
        )
        self.users = Users(url, Keyspace(), user_hasher(CONFIG), self.metrics, deadline_ms)
        keyring = make_keyring()
        self.core = Core(CONFIG, holder, keyring, tracker, Tally(self.metrics), {}, self.users)
        self.delivered = 0

    def value(self, family, result):
        return totals(self.run_dir).value(family, result)

    async def start(self):
        self.users.start(asyncio.get_running_loop(), self.core.resume)

    async def ready(self):
        for _ in range(500):
            if not self.users.broken and (await self.ask("probe"))[1] == 200 and self.up():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("no link")

    def up(self):
        return self.value(CAP_READS, "sent") > 0

    async def ask(self, user, slots=1):
        decision = self.core.decide(ASK, body(user, slots))
        if isinstance(decision, Answer):
            answer = decision
        else:
            future = asyncio.get_running_loop().create_future()
            decision.deliver = future.set_result  # raises, were it called twice
            answer = await asyncio.wait_for(future, 5)
        self.delivered += 1
        return flights(answer.body)[0], answer.status


@pytest.fixture
def deciding(redis_url, redis_server, tmp_path):
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(str(redis_server.socket_path)))

        @contextmanager
        def made(*lines, **more):
            yield Deciding(tmp_path, proxy.url, *lines, **more), proxy

        yield made


def running(scenario):
    async def whole():
        await scenario()
        await asyncio.sleep(0.02)  # what was cut is closed when the loop turns

    asyncio.run(whole())


async def together(deciding, users):
    return [won for won, _ in await asyncio.gather(*(deciding.ask(it) for it in users))]


def test_requests_of_one_user_share_a_read_and_hold_the_cap(deciding):
    async def scenario():
        with deciding({"frequency_caps": [cap(10)]}, {}) as (it, _):
            await it.start()
            await it.ready()
            sent = it.value(CAP_READS, "sent")
            won = await together(it, ["u"] * 40)
            assert sorted(won) == [1] * 10 + [2] * 30
            assert it.value(CAP_READS, "sent") == sent + 1
            assert it.value(CAP_READS, "shared") >= 39
            it.users.close()

    running(scenario)


def test_many_users_go_in_one_batch(deciding, redis_url):
    async def scenario():
        with deciding({"frequency_caps": [cap(5)]}, {}) as (it, _):
            await it.start()
            await it.ready()
            with redis_py.Redis.from_url(redis_url) as client:
                before = client.info("stats")["total_reads_processed"]
                assert await together(it, [f"u{n}" for n in range(100)]) == [1] * 100
                # The two that we ask with, a read batch, a count batch, and cut packets.
                assert client.info("stats")["total_reads_processed"] - before <= 10
            it.users.close()

    running(scenario)


def test_what_is_remembered_as_used_up_is_not_read_again(deciding):
    async def scenario():
        with deciding({"frequency_caps": [cap(1)]}, {}) as (it, _):
            await it.start()
            await it.ready()
            assert [await it.ask("u") for _ in range(2)] == [(1, 200), (2, 200)]
            sent = it.value(CAP_READS, "sent")
            assert [await it.ask("u") for _ in range(20)] == [(2, 200)] * 20
            assert it.value(CAP_READS, "sent") == sent
            it.users.close()

    running(scenario)


@pytest.mark.parametrize("strict", [False, True])
def test_the_last_place_is_not_believed_but_taken_in_redis(deciding, redis_url, strict):
    """Another server takes it, after we have read the user and before we show the ad."""

    async def scenario():
        with deciding({"frequency_caps": [cap(12, strict=strict)]}, {}) as (it, _):
            await it.start()
            await it.ready()
            assert await it.ask("u") == (1, 200)
            key = Keyspace().user(user_hasher(CONFIG)("u").decode())
            with redis_py.Redis.from_url(redis_url) as client:
                for _ in range(200):
                    await asyncio.sleep(0 if client.exists(key) else 0.01)
                now = int(time.time()).to_bytes(4, "big")
                client.hset(key, "l1", now * (12 if strict else 11))
                if not strict:
                    await asyncio.sleep(0.3)  # what is known of much room is old by now
            won = [(await it.ask("u"))[0] for _ in range(3)]
            assert won == ([2, 2, 2] if strict else [1, 2, 2])
            # Of a strict one every place is taken so; of others the last ones.
            assert it.value(CAP_CHECKS, "allowed") == (2 if strict else 1)
            it.users.close()

    running(scenario)


@pytest.mark.parametrize("on_unknown", ["allow", "deny"])
def test_a_request_waits_for_its_deadline_and_no_longer(deciding, on_unknown):
    async def scenario():
        lines = {"frequency_caps": [cap(1)], "on_unknown": on_unknown}, {}
        with deciding(*lines, deadline_ms=DEADLINE_MS) as (it, proxy):
            await it.start()
            await it.ready()
            proxy.turn("delay")
            started = time.monotonic()
            won = await together(it, [f"u{n}" for n in range(50)])
            took_s = time.monotonic() - started
            assert DEADLINE_MS / 1e3 * 0.8 < took_s < DEADLINE_MS / 1e3 + SLACK_S
            assert won == [1 if on_unknown == "allow" else 2] * 50
            assert it.value(CAP_READS, "timeout") == 50
            told = "allowed" if on_unknown == "allow" else "denied"
            assert it.value(CAP_UNKNOWN, told) >= 50
            assert it.users.waits == 0
            it.users.close()

    running(scenario)


@pytest.mark.parametrize("mode", ["delay", "gone", "loading"])
def test_the_breaker_opens_and_closes(deciding, mode):
    async def scenario():
        with deciding({"frequency_caps": [cap(1)]}, {}, deadline_ms=DEADLINE_MS) as (it, proxy):
            await it.start()
            await it.ready()
            proxy.turn(mode)
            for number in range(30):
                assert (await it.ask(f"a{number}"))[1] == 200
                await asyncio.sleep(0.005)
            refused = it.value(CAP_READS, "refused")
            started = time.monotonic()
            for number in range(100):
                assert (await it.ask(f"b{number}")) == (1, 200)
            assert time.monotonic() - started < 0.4, "nobody waits"
            assert it.value(CAP_READS, "refused") >= refused + 100
            proxy.turn("pass")
            for number in range(300):
                sent = it.value(CAP_READS, "sent")
                await it.ask(f"c{number}")
                if it.value(CAP_READS, "sent") > sent:
                    break
                await asyncio.sleep(0.02)
            else:
                raise AssertionError("it stays open")
            it.users.close()

    running(scenario)


def test_an_end_lets_nobody_wait(deciding):
    async def scenario():
        with deciding({"frequency_caps": [cap(1)]}, {}, deadline_ms=DEADLINE_MS) as (it, proxy):
            await it.start()
            await it.ready()
            proxy.turn("delay")
            before = it.delivered
            asked = [asyncio.create_task(it.ask(f"u{n}")) for n in range(10)]
            await asyncio.sleep(0)
            it.users.close()
            assert {status for _, status in await asyncio.gather(*asked)} == {200}
            assert it.delivered == before + 10

    running(scenario)


def test_scripts_that_redis_forgot_are_loaded_again(deciding, redis_url):
    async def scenario():
        with deciding({"frequency_caps": [cap(1, strict=True)], "on_unknown": "deny"}, {}) as (
            it, _,
        ):  # fmt: skip
            await it.start()
            await it.ready()
            with redis_py.Redis.from_url(redis_url) as client:
                client.script_flush()
            for number in range(200):
                if (await it.ask(f"u{number}"))[0] == 1:
                    return it.users.close()
                await asyncio.sleep(0.02)
            raise AssertionError("never shown again")

    running(scenario)


def test_a_user_is_kept_by_hash_alone(deciding, redis_url):
    async def scenario():
        with deciding({"frequency_caps": [cap(5)]}, {}) as (it, _):
            await it.start()
            await it.ready()
            await it.ask("canary-of-a-user")
            await asyncio.sleep(0.1)
            with redis_py.Redis.from_url(redis_url) as client:
                dumped = b"".join(
                    key + json.dumps(str(client.hgetall(key))).encode()
                    for key in client.keys("*:user:*")
                )
            assert b"l1" in dumped
            assert b"canary" not in dumped
            it.users.close()

    running(scenario)
