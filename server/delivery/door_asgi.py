"""ASGI in front of the core: for other servers, for test clients, for mounting us elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from server.delivery.core import BODY_BYTES_MAX, BROKEN, LATE, TOO_LARGE
from server.delivery.http import Answer, Ask
from server.delivery.worker import Worker, decided

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiHeaders:
    """ASGI's pairs of bytes as a HeaderMap; names arrive in lower case, as it specifies."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, name: str) -> str | None:
        wanted = name.encode()
        for key, value in self._pairs:
            if key == wanted:
                return value.decode("latin-1")
        return None

    def get_all(self, name: str) -> list[str]:
        wanted = name.encode()
        return [value.decode("latin-1") for key, value in self._pairs if key == wanted]


class AsgiDoor:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._core = worker.core
        self._waiting = worker.waiting

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise NotImplementedError(f"no {scope['type']} here")
        client = scope.get("client")
        ask = Ask(
            scope["method"],
            scope["path"],
            scope["query_string"].decode("latin-1"),
            AsgiHeaders(list(scope["headers"])),
            client[0] if client else "",
        )
        answer = self._core.admit(ask)
        if answer is None:
            answer = await self._answer_body(ask, receive)
        await _respond(send, answer)

    async def _answer_body(self, ask: Ask, receive: Receive) -> Answer:
        core = self._core
        with self._waiting:
            try:
                body = await _read(receive)
            except asyncio.CancelledError:
                return core.done(ask, LATE)
            except EOFError:
                return core.done(ask, BROKEN)
        if body is None:
            return core.done(ask, TOO_LARGE)
        return await decided(core, ask, body)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._worker.start(asyncio.get_running_loop())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._worker.stop()
        await send({"type": "lifespan.shutdown.complete"})


async def _read(receive: Receive) -> bytes | None:
    """The body; None as soon as it is longer than it may be, EOFError when the client went away."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise EOFError
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _respond(send: Send, answer: Answer) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
