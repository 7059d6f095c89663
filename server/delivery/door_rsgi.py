"""Granian's RSGI in front of the core, a task a request: all of it is public API."""

import asyncio
from typing import Any

from server.delivery.core import BODY_BYTES_MAX, BROKEN, LATE, TOO_LARGE, Core
from server.delivery.dispatch import ask_of
from server.delivery.http import Answer, Ask
from server.delivery.worker import Worker, decided


class RsgiDoor:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._core: Core = worker.core
        self._waiting = worker.waiting

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._worker.start(loop)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._worker.stop()

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        ask = ask_of(scope)
        answer = self._core.admit(ask)
        if answer is None:
            answer = await self._answer_body(ask, proto)
        proto.response_bytes(answer.status, answer.headers, answer.body)

    async def _answer_body(self, ask: Ask, proto: Any) -> Answer:
        core = self._core
        with self._waiting:
            try:
                if ask.headers.get("content-length") is not None:
                    body = await proto()
                else:
                    body = await _read_chunked(proto)
            except asyncio.CancelledError:
                return core.done(ask, LATE)
            except RuntimeError:
                # Granian's own error for a transport that closed or broke the framing: nobody
                # may be there to read it.
                return core.done(ask, BROKEN)
        if body is None:
            return core.done(ask, TOO_LARGE)
        return await decided(core, ask, body)


async def _read_chunked(proto: Any) -> bytes | None:
    """The body, or None as soon as it is longer than it may be."""
    body = bytearray()
    async for chunk in proto:
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return None
    return bytes(body)
