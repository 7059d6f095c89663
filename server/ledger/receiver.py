"""What an aggregator does with what arrives: take it, know it again, or ask for what is missing.

A stream is one producer's epoch: its frames are numbered from 1, and a batch of it says which
number came before its first one for this aggregator. So the watermark, the number of the last frame
taken, tells a repeat and a gap without a key for each event.

Nothing is acked here. Each batch gets a `Reply` that may be sent once everything taken before it
and with it is on the disk.
"""

from typing import Final, NamedTuple

from server.events.walking import walk
from server.ledger.wal import Body, Opened, Received, Shipped, Watermarks, encode

STREAM_KEPT_MS: Final = 8 * 86_400_000  # a spool that was away for a week may still come back
STREAM: Final = r"[A-Za-z0-9_.]{1,64}-[0-9a-f]{16}"  # its name: a producer's, and the epoch
CHUNKS_KEPT: Final = 16_384  # of stock shippers, which send a chunk again within minutes


class Batch(NamedTuple):
    """Frames of one stream: those after number `previous` that belong here, up to `last`."""

    stream: str
    previous: int
    last: int
    frames: bytes


class Ack(NamedTuple):
    stream: str
    last: int


class Watermark(NamedTuple):
    """Where a stream stands: the answer to who asks, and to a batch that does not follow."""

    stream: str
    last: int


class Receiver:
    """Owns the watermarks. `records` of the log's newest segment bring it up to date."""

    def __init__(self, opened: Opened | None) -> None:
        self._watermarks: Watermarks = dict(opened.watermarks) if opened else {}
        self._chunks = dict.fromkeys(opened.chunks if opened else ())

    def restore(self, body: Body) -> None:
        """Know again what the log holds."""
        if isinstance(body, Shipped):
            self._watermarks[body.stream] = (body.last, body.written_ms)
        elif isinstance(body, Received):
            self._remember(body.chunk)

    def watermark(self, stream: str) -> Watermark:
        return Watermark(stream, self._watermarks.get(stream, (0, 0))[0])

    def take(self, batch: Batch, now_ms: int) -> tuple[Ack | Watermark, bytes | None]:
        """Give the reply, and what is to be written before an Ack may go; ValueError if broken."""
        here = self.watermark(batch.stream)
        if batch.last <= here.last:
            return Ack(batch.stream, batch.last), None
        if batch.previous != here.last:
            return here, None
        if walk(batch.frames, batch.previous) != batch.last:
            raise ValueError("the batch does not hold what it says")
        self._watermarks[batch.stream] = (batch.last, now_ms)
        shipped = Shipped(now_ms, batch.stream, batch.last, batch.frames)
        return Ack(batch.stream, batch.last), encode(shipped)

    def take_chunk(self, chunk: str, frames: bytes, now_ms: int) -> bytes | None:
        """Give what is to be written before the chunk may be acked; None when it was already."""
        if chunk and chunk in self._chunks:
            return None
        self._remember(chunk)
        return encode(Received(now_ms, chunk, frames))

    def opened(self, wal_id: str, now_ms: int) -> Opened:
        """Say what we know, at the head of a new segment; streams long silent are let go."""
        self._watermarks = {
            stream: (last, seen_ms)
            for stream, (last, seen_ms) in self._watermarks.items()
            if now_ms - seen_ms <= STREAM_KEPT_MS
        }
        return Opened(wal_id, now_ms, dict(self._watermarks), list(self._chunks))

    def _remember(self, chunk: str) -> None:
        if chunk:
            self._chunks[chunk] = None
            if len(self._chunks) > CHUNKS_KEPT:
                del self._chunks[next(iter(self._chunks))]
