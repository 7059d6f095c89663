"""One connection to Redis on an event loop, for many small commands under a deadline.

redis-py answers one caller after the other, and each waits; here commands go out in batches and
answers come back in order, to whoever takes them. Nothing is sent twice and nothing waits: while
there is no connection, `up` says so and what is sent is lost. Everything is the loop's thread's.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import hiredis
import redis
from redis.connection import parse_url

from server.clock import monotonic_s
from server.config import sentinel_url
from server.errors import StoreError
from server.store.sentinels import LOOK_S, Sentinels, context

RETRY_S_MIN: Final = 0.05
RETRY_S_MAX: Final = 1.0
CONNECT_TIMEOUT_S: Final = 2.0
OPENING_TIMEOUT_S: Final = 5.0
# Unanswered for so long, a connection is as good as cut: a peer that vanished never says so.
SILENCE_S_MAX: Final = 2.0
WAITING_MAX: Final = 16_384  # commands without an answer; more, and it is cut: memory is bounded
REPLY_BYTES_MAX: Final = 64 << 20  # unread: far more than all that can be waiting, unless garbled

Taker: TypeAlias = Any
"""Whatever the caller wants to be given back beside its answer."""

Answers: TypeAlias = Callable[[list[tuple[Taker, Any]]], None]

log = logging.getLogger(__name__)


class Link(asyncio.Protocol):
    """`start` on the loop's thread; `took` is called with what arrived, `went` when it is cut.

    An answer is what hiredis makes of it; an error is a `hiredis.ReplyError`, not raised.
    `opening` commands are sent whenever a connection is made, and it is `up` once all are answered.
    """

    def __init__(
        self, url: str, opening: Sequence[bytes], took: Answers, went: Callable[[], None]
    ) -> None:
        self.up = False
        self._place = _Place(url)
        self._opening = [*self._place.opening(), *opening]
        self._took = took
        self._went = went
        self._waiting: deque[Taker] = deque()
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._retry_s = RETRY_S_MIN
        self._unread = 0
        self._heard_s = 0.0
        self._ending = False
        self._cut = asyncio.Event()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task = loop.create_task(self._keep())

    def close(self) -> None:
        self._ending = True
        if self._task is not None:
            self._task.cancel()
        self.cut()

    def send(self, batch: bytes, takers: Sequence[Taker]) -> bool:
        """Send commands, one answer for each of `takers`; False, and nothing sent, when not up."""
        if not self.up or self._transport is None:
            return False
        waited = bool(self._waiting)
        if not waited:
            self._heard_s = monotonic_s()
        silent = waited and monotonic_s() - self._heard_s > SILENCE_S_MAX
        if silent or len(self._waiting) + len(takers) > WAITING_MAX:
            self.cut()
            return False
        self._waiting.extend(takers)
        self._transport.write(batch)
        return True

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._down()

    # -- asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        self._reader = hiredis.Reader()
        self._waiting.clear()
        self._unread = 0
        self._heard_s = monotonic_s()
        self._waiting.extend([None] * len(self._opening))
        transport.writelines(self._opening)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._heard_s = monotonic_s()
        self._unread += len(data)
        answers = []
        demoted = False
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not False:
                self._unread = 0
                demoted = demoted or _is_read_only(answer)
                taker = self._waiting.popleft()
                if taker is not None or not self.up:
                    answers.append((taker, answer))
        except (hiredis.ProtocolError, IndexError) as error:
            log.error("redis does not speak its protocol", extra={"detail": repr(error)})
            self.cut()
        if self._unread > REPLY_BYTES_MAX:
            self.cut()
        if not self.up:
            answers = self._open(answers)
        if answers:
            self._took(answers)
        if demoted:
            log.warning("redis is a replica now")
            # Where no sentinel tells the new primary, the address is that of a replica for good.
            self._retry_s = RETRY_S_MAX
            self.cut()

    def _open(self, answers: list[tuple[Taker, Any]]) -> list[tuple[Taker, Any]]:
        """Take the answers to what a connection begins with."""
        for _, answer in answers:
            if isinstance(answer, hiredis.ReplyError):
                # LOADING, or a password that is wrong: the next try may find it otherwise.
                log.warning("redis refuses", extra={"detail": str(answer)})
                self.cut()
                return []
            if self._place.sentinels is not None and _is_role_of_replica(answer):
                self.cut()  # its sentinels know better in a moment
                return []
        if not self._waiting and self._transport is not None:
            self.up, self._retry_s = True, RETRY_S_MIN
        return []

    def connection_lost(self, exc: Exception | None) -> None:
        self._down()

    def _down(self) -> None:
        """Once for each connection, however it ended."""
        if self._transport is None:
            return
        self._transport, self.up = None, False
        self._waiting.clear()
        self._cut.set()
        self._went()

    # -- keeping one

    async def _keep(self) -> None:
        assert self._loop is not None
        while not self._ending:
            self._cut.clear()
            try:
                await asyncio.wait_for(self._place.connect(self._loop, self), CONNECT_TIMEOUT_S)
                await self._until_cut()
            except (OSError, TimeoutError, ssl.SSLError):
                pass  # the breaker's owner tells of it, and it is tried again
            await asyncio.sleep(self._retry_s)
            self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)

    async def _until_cut(self) -> None:
        """Return when the connection is gone; cut it when it does not come up, or is no good."""
        opened_s_max = monotonic_s() + OPENING_TIMEOUT_S
        while not self._cut.is_set():
            try:
                await asyncio.wait_for(self._cut.wait(), LOOK_S)
            except TimeoutError:
                late = not self.up and monotonic_s() > opened_s_max
                if late or await self._place.has_moved():
                    self.cut()


def _is_read_only(answer: Any) -> bool:
    return isinstance(answer, hiredis.ReplyError) and str(answer).startswith("READONLY")


def _is_role_of_replica(answer: Any) -> bool:
    return isinstance(answer, list) and answer[0] != b"master"


class _Place:
    """Where a Redis is, by its URL: TCP, TLS, a unix socket, or wherever its sentinels say.

    And how one introduces oneself.
    """

    def __init__(self, url: str) -> None:
        self.sentinels: Sentinels | None = None
        try:
            if (watched := sentinel_url(url)) is not None:
                self.sentinels = Sentinels(watched)
                self._parts: dict[str, Any] = {**watched._asdict(), **watched.options}
                self._tls = watched.tls
                return
            self._parts = dict(parse_url(url))  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise StoreError(f"not the URL of a Redis: {error}") from None
        self._tls = issubclass(
            self._parts.get("connection_class", redis.Connection), redis.SSLConnection
        )

    async def connect(self, loop: asyncio.AbstractEventLoop, link: Link) -> None:
        path = self._parts.get("path")
        if path:
            await loop.create_unix_connection(lambda: link, path)
            return
        tls = context(self._parts.get("ssl_ca_certs")) if self._tls else None
        host, port = self._parts.get("host", "localhost"), self._parts.get("port", 6379)
        if self.sentinels is not None:
            host, port = await self.sentinels.find()
        await loop.create_connection(lambda: link, host, port, ssl=tls)

    async def has_moved(self) -> bool:
        return self.sentinels is not None and await self.sentinels.has_moved()

    def opening(self) -> list[bytes]:
        words: list[tuple[Any, ...]] = []
        user, password = self._parts.get("username"), self._parts.get("password")
        if password:
            words.append(("AUTH", user, password) if user else ("AUTH", password))
        if self._parts.get("db"):
            words.append(("SELECT", self._parts["db"]))
        if self.sentinels is not None:
            words.append(("ROLE",))
        return [hiredis.pack_command(it) for it in words]
