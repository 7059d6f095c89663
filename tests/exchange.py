"""One HTTP exchange over a kept connection, for processes that load servers."""

import asyncio

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def exchange(
    connection: Connection, method: str, path: str, headers: str, body: bytes
) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection is still there; it is cut when that fails."""
    reader, writer = connection
    try:
        writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: ads.example\r\n{headers}"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        answer = await reader.readexactly(int(length or 0))
    except BaseException:
        writer.transport.abort()
        raise
    kept = b"connection: close" not in head
    if not kept:
        writer.close()
    return int(head.split(b" ", 2)[1]), answer, kept
