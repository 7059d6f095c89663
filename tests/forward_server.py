"""A server of the forward protocol made of our decoder alone, for real clients to speak to."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from server.errors import ProtocolError
from server.ledger.fluent import Chunk, encode_chunk_ack
from server.ledger.handshake import NONCE_BYTES, ServerEnd

READ_BYTES = 7  # no message comes in one piece


@contextmanager
def listening(expected: int, shared_key: bytes = b"") -> Iterator[tuple[int, list[Chunk]]]:
    """Give its port and what it takes. Ends when connections with `expected` chunks have closed."""
    chunks: list[Chunk] = []
    enough = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = ServerEnd(shared_key, "aggregator-0", bytes(range(NONCE_BYTES)))
        try:
            writer.write(end.outgoing())
            while data := await reader.read(READ_BYTES):
                for chunk in end.feed(data):
                    chunks.append(chunk)
                    if chunk.chunk:
                        writer.write(encode_chunk_ack(chunk.chunk))
                writer.write(end.outgoing())
        except ProtocolError:
            writer.write(end.outgoing())
        except ConnectionError:
            pass
        writer.close()
        if len(chunks) >= expected:
            enough.set()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1], chunks
        asyncio.run_coroutine_threadsafe(enough.wait(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        server.close()
        loop.run_until_complete(server.wait_closed())
        loop.close()
