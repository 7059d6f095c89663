"""A TCP proxy in front of a Redis that can be slow, loading or gone, on a thread's own loop."""

import asyncio
import contextlib
import threading
from typing import Literal, Self

Mode = Literal["pass", "delay", "loading", "gone"]
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


class TcpProxy:
    """Passes on what it gets, as `mode` says at that moment."""

    def __init__(self, socket_path: str, delay_s: float = 0.1) -> None:
        self.mode: Mode = "pass"
        self.port = 0
        self._socket_path = socket_path
        self._delay_s = delay_s
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def turn(self, mode: Mode) -> None:
        """Behave otherwise from now on; gone and loading cut what is open."""
        self.mode = mode
        if mode in ("gone", "loading"):
            self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._cut()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "gone":
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            if self.mode == "loading":
                while data := await reader.read(65536):
                    writer.write(LOADING * max(1, data.count(b"*")))
                return
            up_reader, up_writer = await asyncio.open_unix_connection(self._socket_path)
            self._writers.add(up_writer)
            try:
                await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
            finally:
                self._writers.discard(up_writer)
                up_writer.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            with contextlib.suppress(RuntimeError):
                writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.mode == "delay":
                # Each way; what comes meanwhile goes with the next batch.
                await asyncio.sleep(self._delay_s / 2)
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
