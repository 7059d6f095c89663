"""What a forwarder sends, and when it may forget it.

A `Sender` serves one aggregator. It walks the segments of every stream in the spool, takes the
frames that belong to that aggregator, and sends them in batches, a few of them ahead of the acks.
What has been acked is known by the aggregator's watermarks alone: a sender that starts asks for
them, so nothing need be kept here.

    asked ──watermark──► sending ──watermark (a gap, or after a reconnect)──► sending from there

A stream is a producer's epoch; its segments are `{stream}-{segment:08d}.spool`.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from server.events.frames import BODY, PREFIX, RECORD_BYTES_MAX, Frames
from server.events.records import Routed
from server.events.walking import scan
from server.ledger.folder import Folder
from server.ledger.receiver import STREAM, Ack, Batch, Watermark

BATCH_BYTES: Final = 64 << 10  # large enough to share a sync, small enough to leave within 5 ms
WINDOW_BATCHES: Final = 16  # unacked: 1 MiB, more than a round trip and a sync need
FRAME_BYTES_MAX: Final = PREFIX.size + BODY.size + RECORD_BYTES_MAX
READ_BYTES: Final = BATCH_BYTES + FRAME_BYTES_MAX  # holds a batch, wherever it is read from
EPOCH_DIGITS: Final = 16
GROUP_BYTES: Final = 8 << 10  # what is read beyond a batch's end is read again for the next one
SCAN_BYTES_MAX: Final = 4 << 20  # passed over at a time: 50 ms, and then others have a turn
BEYOND_ALL: Final = "~"  # sorts behind every segment's name

_SEGMENT = re.compile(rf"(?P<stream>{STREAM})-(?P<number>[0-9]{{8}})\.spool")
_route = msgspec.msgpack.Decoder(Routed).decode


class Query(NamedTuple):
    """Ask an aggregator where a stream stands."""

    stream: str


class Shards:
    """Which aggregator a token's events go to: all of them to one, so that it can know repeats.

    `epochs` are (from when on, how many aggregators), by the time a token was issued: an event goes
    to where its impression went, also after the number has changed.
    """

    def __init__(self, epochs: Iterable[tuple[int, int]]) -> None:
        self._epochs = sorted(epochs, reverse=True)

    def of(self, record: bytes) -> int:
        try:
            routed = _route(record)
        except msgspec.MsgspecError:
            return 0  # somewhere it must be counted as unreadable
        for since_s, count in self._epochs:
            if routed.issued_s >= since_s or (since_s, count) == self._epochs[-1]:
                # The id's end is a place in its decision, its head is random.
                return int.from_bytes(routed.id[:8], "big") % count
        raise AssertionError


def segments_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Group a folder's segments by stream, in the order they were written."""
    streams: dict[str, list[str]] = {}
    for name in sorted(names):
        if found := _SEGMENT.fullmatch(name):
            streams.setdefault(found["stream"], []).append(name)
    return streams


class _Place(NamedTuple):
    """Behind the frame numbered `last`, the last of ours there."""

    last: int
    segment: str
    offset: int


class _Group(NamedTuple):
    """Whole frames that stand one behind the other."""

    segment: str
    offset: int  # of the content, in the segment
    content: bytes
    start: int  # of the first frame, in the content
    frames: list[tuple[int, bytes, int]]  # number, record, where it ends in the content


class _Stream:
    """One stream on its way to one aggregator."""

    def __init__(self, name: str, folder: Folder, is_ours: Callable[[bytes], bool]) -> None:
        self.lost_frames = 0  # which the disk changed, or never kept
        self._name = name
        self._folder = folder
        self._is_ours = is_ours
        self._known = False  # where the aggregator stands
        self._acked = self._read = _Place(0, "", 0)
        self._flying: deque[_Place] = deque()
        self._seen = 0  # the largest number read, ours or not
        self._at_end = False  # of what there was to read
        self._done = ""  # then: what comes before this segment has been read

    @property
    def is_idle(self) -> bool:
        return self._at_end and not self._flying

    @property
    def done_before(self) -> str:
        """Every frame of ours in segments before this one has been acked."""
        if self._flying:
            return self._acked.segment
        return self._done if self._at_end else self._read.segment

    def forget(self) -> None:
        """The connection is gone: what flies may have arrived or not."""
        self._known = self._at_end = False

    def start_behind(self, last: int) -> None:
        """Go on behind the frame numbered `last`, wherever we were."""
        self.acked(last)  # whose answer the connection took with it
        self._flying.clear()
        if last != self._acked.last:
            self._acked = _Place(last, "", 0)
        self._read = self._acked
        self._known, self._at_end = True, False

    def acked(self, last: int) -> None:
        while self._flying and self._flying[0].last <= last:
            self._acked = self._flying.popleft()

    def next_batch(self, segments: list[str], ended: bool) -> Batch | None:
        """Take what is there, up to a batch; None when nothing is, or too much flies already.

        `segments` were listed before, so their writer is done with all but the last one, and with
        that too when the stream has `ended`.
        """
        if not self._known or len(self._flying) >= WINDOW_BATCHES:
            return None
        previous = last = self._read.last
        pieces: list[bytes] = []
        size = passed = 0
        self._at_end = False
        for group in self._groups(segments, ended):
            start = group.start
            for sequence, record, end in group.frames:
                if sequence > last and self._is_ours(record):
                    last = sequence
                    pieces.append(group.content[start:end])
                    size += end - start
                start = end
                if size >= BATCH_BYTES:
                    break
            self._count_lost(group.frames)
            passed += start - group.start
            self._read = _Place(last, group.segment, group.offset + start)
            if size >= BATCH_BYTES or passed >= SCAN_BYTES_MAX:
                break
        else:
            # The newest stream's last segment may have grown since, and have got a successor.
            self._at_end, self._done = True, BEYOND_ALL if ended else segments[-1]
        if not pieces:
            return None
        self._flying.append(self._read)
        return Batch(self._name, previous, last, b"".join(pieces))

    def _groups(self, segments: list[str], ended: bool) -> Iterator[_Group]:
        """Give frames from where we read on, a few at a time."""
        for segment in segments:
            if segment < self._read.segment:
                continue
            offset = self._read.offset if segment == self._read.segment else 0
            while content := self._folder.read(segment, offset, READ_BYTES):
                end = 0
                while frames := scan(content, end, GROUP_BYTES):
                    yield _Group(segment, offset, content, end, frames)
                    end = frames[-1][2]
                if end == 0:
                    end = self._whole_behind(content)
                    if end == 0 and segment == segments[-1] and not ended:
                        break  # torn for the moment: the writer is at it
                offset += end or _behind_fault(content)

    def _count_lost(self, frames: list[tuple[int, bytes, int]]) -> None:
        """Count the numbers left out, of frames that may have been read before."""
        for sequence, _, _ in frames:
            if sequence > self._seen:
                self.lost_frames += sequence - self._seen - 1 if self._seen else 0
                self._seen = sequence

    def _whole_behind(self, content: bytes) -> int:
        """Where the stream's next whole frame begins, behind what the disk changed; 0 if nowhere.

        A writer that is at the first frame has written none behind it.
        """
        # Every frame has the epoch behind its prefix: a hole of zeros is passed at once.
        epoch = int(self._name[-EPOCH_DIGITS:], 16).to_bytes(8, "big")
        at = content.find(epoch, 1 + PREFIX.size)
        while at >= 0:
            if next(iter(Frames(content, at - PREFIX.size)), None) is not None:
                return at - PREFIX.size
            at = content.find(epoch, at + 1)
        return 0


def _behind_fault(content: bytes) -> int:
    """How far a fault reaches at least, where no frame is whole."""
    # A frame may begin at the end of what was read, unless that is the end of the segment.
    return max(len(content) - FRAME_BYTES_MAX, 1) if len(content) == READ_BYTES else len(content)


class Sender:
    """Everything that one aggregator is to get from one spool.

    `poll` gives what to send now; `told` takes what the aggregator says. Called `lost` when the
    connection is; the next `poll` begins anew.
    """

    def __init__(self, folder: Folder, is_ours: Callable[[bytes], bool]) -> None:
        self._folder = folder
        self._is_ours = is_ours
        self._streams: dict[str, _Stream] = {}
        self._asked: set[str] = set()
        self._looked = False

    @property
    def is_idle(self) -> bool:
        """Whether all that was read has been acked."""
        return self._looked and all(stream.is_idle for stream in self._streams.values())

    @property
    def lost_frames(self) -> int:
        return sum(stream.lost_frames for stream in self._streams.values())

    def lost(self) -> None:
        self._asked.clear()
        self._looked = False
        for stream in self._streams.values():
            stream.forget()

    def poll(self, spooled: dict[str, list[str]]) -> Iterator[Query | Batch]:
        """Give what to send, for streams and segments as `segments_of` has just found them."""
        for name in self._streams.keys() - spooled.keys():
            del self._streams[name]
        newest = newest_streams(spooled)
        self._looked = True
        for name, segments in spooled.items():
            if name not in self._asked:
                self._asked.add(name)
                self._streams.setdefault(name, _Stream(name, self._folder, self._is_ours))
                yield Query(name)
            ended = name not in newest
            while batch := self._streams[name].next_batch(segments, ended):
                yield batch

    def told(self, reply: Ack | Watermark) -> None:
        stream = self._streams.get(reply.stream)
        if stream is None:
            return
        if isinstance(reply, Ack):
            stream.acked(reply.last)
        else:
            stream.start_behind(reply.last)

    def done_before(self, stream: str) -> str:
        """The first segment of the stream that may hold a frame not acked; "" if none is done."""
        return self._streams[stream].done_before if stream in self._streams else ""


def newest_streams(spooled: dict[str, list[str]]) -> set[str]:
    """Name each producer's newest stream, the only one that may still grow."""
    return {*{name.rpartition("-")[0]: name for name in sorted(spooled)}.values()}


def done_segments(spooled: dict[str, list[str]], senders: Iterable[Sender]) -> Iterator[str]:
    """Name the segments that every aggregator is done with.

    The newest one of a producer stays: its writer may be at it, and the next start takes its epoch
    from it.
    """
    newest = newest_streams(spooled)
    for stream, segments in spooled.items():
        first_needed = min(sender.done_before(stream) for sender in senders)
        for segment in segments:
            if segment < first_needed and not (stream in newest and segment == segments[-1]):
                yield segment
