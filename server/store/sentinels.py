"""Where Redis's primary is, as its sentinels say: they watch it, and promote a replica for it.

They do not agree at every moment: one that was cut off or stopped still names the primary of
before. Each failover has an epoch, so of several answers that with the highest epoch is right, and
a connection is good until a later epoch names another place. A primary that was cut off with us on
its side is found out so within LOOK_S, if only one sentinel reaches us that knows better; and one
that was demoted says READONLY, upon which its connection is cut and the sentinels are asked again.
"""

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from server.clock import monotonic_s
from server.config import SentinelUrl

ASK_S: Final = 0.5  # for a sentinel to answer: they do nothing else, and are as near as Redis
LOOK_S: Final = 1.0  # between looks whether the primary is still where we are connected
ANSWER_BYTES_MAX: Final = 1 << 16  # it takes about 1 KiB


class Primary(NamedTuple):
    """What a sentinel says; the greater of two answers is the later one."""

    epoch: int
    host: str
    port: int
    is_down: bool  # so many sentinels think as it takes to begin a failover


def latest(answers: Iterable[Primary]) -> Primary | None:
    """Give the answer to believe; None when there is none."""
    return max(answers, default=None)


def _primary(fields: dict[str, str]) -> Primary:
    is_down = "o_down" in fields["flags"].split(",")
    return Primary(int(fields["config-epoch"]), fields["ip"], int(fields["port"]), is_down)


# -- for redis-py


def client(url: SentinelUrl, options: dict[str, Any]) -> redis.Redis:
    """Make a client of the primary, wherever it is; `options` are those of its connections."""
    secured = _secured(url)
    asking = secured | {
        "socket_connect_timeout": ASK_S,
        "socket_timeout": ASK_S,
        "retry": Retry(NoBackoff(), 0),  # the next one is asked instead
        "username": url.options.get("sentinel_username") or None,
        "password": url.options.get("sentinel_password") or None,
    }
    asked = _Sentinels(url.sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    own = {"db": url.db, "username": url.username or None, "password": url.password or None}
    pool = _Pool(url.master, asked, **secured, **own, **options)  # type: ignore[no-untyped-call]
    return redis.Redis.from_pool(pool)


def _secured(url: SentinelUrl) -> dict[str, Any]:
    if not url.tls:
        return {}
    return {"ssl": True, "ssl_ca_certs": url.options.get("ssl_ca_certs")}


class _Sentinels(Sentinel):
    """Asks a majority, rather than the first that answers; who did not answer is asked last."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        answered, answers, failed = [], [], []
        for each in self.sentinels:
            try:
                state: Any = each.sentinel_master(service_name)
            except redis.RedisError as error:
                failed.append((each, error))
                continue
            answered.append(each)
            answers.append(_of_redis_py(state))
            if len(answered) > len(self.sentinels) // 2:
                break
        late = [each for each, _ in failed]
        rest = [each for each in self.sentinels if each not in answered and each not in late]
        self.sentinels = [*answered, *rest, *late]
        found = latest(answers)
        if found is None:
            raise MasterNotFoundError(f"no sentinel knows {service_name!r}: {failed[-1][1]}")
        if found.is_down:
            raise MasterNotFoundError(f"{service_name!r} is down, say its sentinels")
        return found.host, found.port


def _of_redis_py(state: dict[str, Any]) -> Primary:
    return Primary(state["config-epoch"], state["ip"], state["port"], bool(state["is_odown"]))


class _Pool(SentinelConnectionPool):
    """Looks now and then whether the primary is still the same, and not only when it connects."""

    _looked_s = 0.0

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        now_s = monotonic_s()
        if self.master_address is not None and now_s - self._looked_s > LOOK_S:
            self._looked_s = now_s
            # Drops what is connected elsewhere. With no word from them, what works goes on.
            with suppress(MasterNotFoundError):
                self.get_master_address()  # type: ignore[no-untyped-call]
        return super().get_connection(*arguments, **options)

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        if inuse_connections:  # it is closed for good
            self.sentinel_manager.close()


# -- for an event loop


class Sentinels:
    """The sentinels of one URL."""

    def __init__(self, url: SentinelUrl) -> None:
        self._places = url.sentinels
        self._tls = context(url.options.get("ssl_ca_certs")) if url.tls else None
        password, user = (url.options.get(f"sentinel_{it}") for it in ("password", "username"))
        words: list[tuple[Any, ...]] = [("SENTINEL", "MASTER", url.master)]
        if password:
            words.insert(0, ("AUTH", user, password) if user else ("AUTH", password))
        self._answers = len(words)
        self._question = b"".join(hiredis.pack_command(it) for it in words)
        self._turn = 0
        self._primary: Primary | None = None

    async def find(self) -> tuple[str, int]:
        """Ask all of them; OSError when none knows a primary that is up."""
        found = latest(await self._ask(self._places))
        if found is None or found.is_down:
            raise OSError("no sentinel knows a primary that is up")
        self._primary = found
        return found.host, found.port

    async def has_moved(self) -> bool:
        """Ask one, the next in turn, whether the primary is elsewhere than `find` has found it."""
        self._turn = (self._turn + 1) % len(self._places)
        found = latest(await self._ask([self._places[self._turn]]))
        if found is None or self._primary is None or found.epoch <= self._primary.epoch:
            return False
        return found[1:3] != self._primary[1:3]

    async def _ask(self, places: Sequence[tuple[str, int]]) -> list[Primary]:
        tasks = [asyncio.create_task(self._ask_one(*place)) for place in places]
        try:
            done, _ = await asyncio.wait(tasks, timeout=ASK_S)
        finally:
            for task in tasks:
                task.cancel()
        answers = [task.result() for task in done if not task.cancelled()]
        return [answer for answer in answers if answer is not None]

    async def _ask_one(self, host: str, port: int) -> Primary | None:
        try:
            reader, writer = await asyncio.open_connection(host, port, ssl=self._tls)
            try:
                writer.write(self._question)
                return await self._read(reader)
            finally:
                writer.transport.abort()
        except (OSError, EOFError, ValueError, KeyError, hiredis.ProtocolError):
            return None  # away, or no sentinel: the others know

    async def _read(self, reader: asyncio.StreamReader) -> Primary | None:
        answers = hiredis.Reader(encoding="utf-8")
        left, size = self._answers, 0
        while size < ANSWER_BYTES_MAX and (part := await reader.read(ANSWER_BYTES_MAX)):
            size += len(part)
            answers.feed(part)
            while (answer := answers.gets()) is not False:
                left -= 1
                if isinstance(answer, hiredis.ReplyError):
                    return None
                if left == 0:
                    words = cast("list[str]", answer)
                    return _primary(dict(zip(words[::2], words[1::2], strict=False)))
        return None


def context(ca_file: str | None) -> ssl.SSLContext:
    """Trust the machine's CAs or, when a file is given, those in it alone."""
    return ssl.create_default_context(cafile=ca_file or None)
