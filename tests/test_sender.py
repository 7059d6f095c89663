"""Every frame of ours is sent in order, and its segment is done with once it is acked."""

import msgspec
import pytest

from server.events.frames import Frame, pack
from server.events.records import Routed
from server.ledger import sender as sending
from server.ledger.folder import DiskFolder
from server.ledger.receiver import Ack, Batch, Watermark
from server.ledger.sender import (
    BATCH_BYTES,
    BEYOND_ALL,
    WINDOW_BATCHES,
    Query,
    Sender,
    Shards,
    done_segments,
    newest_streams,
    segments_of,
)
from tests.frames import STREAM, frames

NEXT = STREAM[:-1] + "8"


def name(number: int, stream: str = STREAM) -> str:
    return f"{stream}-{number:08d}.spool"


def of_epoch(epoch: int, *numbers: int) -> bytes:
    return b"".join(pack(Frame(epoch, number, 1, b"beacon")) for number in numbers)


class Spool(DiskFolder):
    """A spool with one sender, and an aggregator that says what it is told to."""

    def __init__(self, path, is_ours=lambda _: True):
        super().__init__(path)
        self.sender = Sender(self, is_ours)

    def poll(self) -> list[Query | Batch]:
        return [*self.sender.poll(segments_of(self.names()))]

    def begin(self, last: int = 0, stream: str = STREAM) -> list[Query | Batch]:
        assert Query(stream) in self.poll()
        self.sender.told(Watermark(stream, last))
        return self.poll()

    def done(self) -> list[str]:
        return [*done_segments(segments_of(self.names()), [self.sender])]


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path)


def test_an_empty_spool_is_idle_once_looked_at(spool):
    assert not spool.sender.is_idle
    assert spool.poll() == []
    assert spool.sender.is_idle
    spool.sender.lost()
    assert not spool.sender.is_idle


def test_nothing_is_sent_before_the_aggregator_says_where_it_is(spool):
    spool.append(name(1), frames(1, 2))
    assert spool.poll() == [Query(STREAM)]
    assert spool.poll() == []
    assert not spool.sender.is_idle
    spool.sender.told(Watermark(STREAM, 1))
    assert spool.poll() == [Batch(STREAM, 1, 2, frames(2))]
    assert not spool.sender.is_idle
    spool.sender.told(Ack(STREAM, 2))
    assert spool.sender.is_idle


def test_batches_follow_each_other_over_segments(spool):
    spool.append(name(1), frames(1, 2))
    spool.append(name(2), frames(3))
    assert spool.begin() == [Batch(STREAM, 0, 3, frames(1, 2, 3))]
    spool.append(name(2), frames(4))
    spool.append(name(3), frames(5))
    assert spool.poll() == [Batch(STREAM, 3, 5, frames(4, 5))]
    assert spool.done() == []
    spool.sender.told(Ack(STREAM, 3))
    assert spool.done() == [name(1)]
    spool.sender.told(Ack(STREAM, 5))
    assert spool.done() == [name(1), name(2)]


def test_a_gap_is_gone_back_to(spool):
    spool.append(name(1), frames(1, 2))
    spool.begin()
    spool.append(name(1), frames(3))
    assert spool.poll() == [Batch(STREAM, 2, 3, frames(3))]
    spool.sender.told(Watermark(STREAM, 1))
    assert spool.poll() == [Batch(STREAM, 1, 3, frames(2, 3))]


def test_a_new_connection_asks_again_and_goes_on_from_there(spool):
    spool.append(name(1), frames(1, 2))
    spool.begin()
    spool.sender.lost()
    assert not spool.sender.is_idle
    assert spool.begin(last=1) == [Batch(STREAM, 1, 2, frames(2))]
    spool.sender.lost()
    assert spool.begin(last=2) == []
    assert spool.sender.is_idle


def test_no_more_flies_than_the_window(spool):
    record = bytes(60_000)
    count = 3 * WINDOW_BATCHES
    for number in range(1, count + 1):
        spool.append(name(1 + number // 7), frames(number, record=record))
    sent = spool.begin()
    assert len(sent) == WINDOW_BATCHES
    assert all(BATCH_BYTES <= len(batch.frames) < 2 * BATCH_BYTES for batch in sent)
    previous = 0
    while sent:
        batch = sent.pop(0)
        assert batch.previous == previous
        previous = batch.last
        spool.sender.told(Ack(STREAM, batch.last))
        sent += spool.poll()
        for segment in spool.done():
            spool.remove(segment)
    assert previous == count
    assert spool.names() == [name(1 + count // 7)]


def test_a_frame_half_written_is_waited_for(spool):
    whole = frames(2)
    spool.append(name(1), frames(1) + whole[:9])
    assert spool.begin() == [Batch(STREAM, 0, 1, frames(1))]
    assert spool.poll() == []
    spool.append(name(1), whole[9:])
    assert spool.poll() == [Batch(STREAM, 1, 2, whole)]
    assert spool.sender.lost_frames == 0


@pytest.mark.parametrize("changed", range(4, 31))
def test_a_broken_frame_is_stepped_over_and_counted(spool, changed):
    content = bytearray(frames(1, 2, 3))
    size = len(content) // 3
    content[size + changed] ^= 0x40
    spool.append(name(1), bytes(content))
    spool.append(name(2), frames(4))
    assert spool.begin() == [Batch(STREAM, 0, 4, frames(1, 3, 4))]
    assert spool.sender.lost_frames == 1
    spool.sender.told(Ack(STREAM, 4))
    assert spool.done() == [name(1)]


@pytest.mark.parametrize("changed", range(4))
def test_a_broken_length_is_stepped_over(spool, changed):
    content = bytearray(frames(1, 2, 3))
    content[len(content) // 3 + changed] ^= 0x80
    spool.append(name(1), bytes(content))
    spool.append(name(2), frames(4))
    assert spool.begin() == [Batch(STREAM, 0, 4, frames(1, 3, 4))]


def test_a_broken_frame_in_the_newest_segment_holds_up_nothing_behind_it(spool):
    broken = frames(2).replace(b"beacon", b"beacoN")
    spool.append(name(1), frames(1) + broken)
    assert spool.begin() == [Batch(STREAM, 0, 1, frames(1))]
    assert spool.poll() == []  # it may be half written
    spool.append(name(1), frames(3))
    assert spool.poll() == [Batch(STREAM, 1, 3, frames(3))]
    assert spool.sender.lost_frames == 1


def test_a_long_hole_is_stepped_over(spool):
    spool.append(name(1), frames(1) + bytes(300_000) + frames(9))
    spool.append(name(2), b"")
    assert spool.begin() == [Batch(STREAM, 0, 9, frames(1, 9))]
    assert spool.sender.lost_frames == 7


def test_a_frame_of_another_stream_in_a_hole_is_not_taken_for_ours(spool):
    spool.append(name(1), frames(1) + b"\0" + of_epoch(0xA6, 2) + frames(3))
    spool.append(name(2), b"")
    assert spool.begin() == [Batch(STREAM, 0, 3, frames(1, 3))]


def test_a_stream_that_has_ended_is_done_to_its_end(spool):
    spool.append(name(1), frames(1) + frames(2)[:9])
    spool.begin()
    spool.sender.told(Ack(STREAM, 1))
    assert spool.sender.is_idle
    assert spool.done() == []
    spool.append(name(1, NEXT), of_epoch(0xA8, 1))
    assert spool.poll() == [Query(NEXT)]
    assert spool.done() == [name(1)]
    assert spool.sender.done_before(STREAM) == BEYOND_ALL
    spool.remove(name(1))
    spool.sender.told(Watermark(NEXT, 0))
    assert spool.poll() == [Batch(NEXT, 0, 1, of_epoch(0xA8, 1))]
    spool.sender.told(Ack(STREAM, 1))  # of a stream that is gone


def test_what_grew_since_it_was_read_is_not_done(spool):
    spool.append(name(1), frames(1))
    spool.begin()
    spool.sender.told(Ack(STREAM, 1))
    spool.append(name(1), frames(2))
    spool.append(name(2), frames(3))
    assert spool.done() == []
    spool.append(name(1, NEXT), of_epoch(0xA8, 1))
    assert spool.done() == []
    assert spool.poll()[0] == Batch(STREAM, 1, 3, frames(2, 3))


def routed(identity: int, issued_s: int) -> bytes:
    return msgspec.msgpack.encode(Routed(1, 0, issued_s, issued_s, identity.to_bytes(8, "big") * 2))


def test_each_shard_gets_its_own_and_each_frame_one_shard(tmp_path):
    shards = Shards([(0, 3)])
    spools = [
        Spool(tmp_path, lambda record, shard=shard: shards.of(record) == shard)
        for shard in range(3)
    ]
    for number in range(1, 31):
        spools[0].append(name(number // 8 + 1), frames(number, record=routed(number, 5)))
    sent = [spool.begin() for spool in spools]
    for shard, (batch,) in enumerate(sent):
        numbers = [number for number in range(1, 31) if number % 3 == shard]
        assert batch.frames == b"".join(frames(n, record=routed(n, 5)) for n in numbers)
        assert batch.last == numbers[-1]
    spooled, senders = segments_of(spools[0].names()), [spool.sender for spool in spools]
    for spool, (batch,) in zip(spools, sent, strict=True):
        assert [*done_segments(spooled, senders)] == []
        spool.sender.told(Ack(STREAM, batch.last))
    assert [*done_segments(spooled, senders)] == [name(1), name(2), name(3)]


def test_an_event_goes_where_its_impression_went_when_shards_are_added():
    shards = Shards([(1_000, 5), (0, 2)])
    for identity in range(40):
        assert shards.of(routed(identity, 999)) == identity % 2
        assert shards.of(routed(identity, 1_000)) == identity % 5
    assert Shards([(1_000, 5)]).of(routed(7, 3)) == 2  # before the first: as in it
    assert shards.of(b"\xc1") == 0


def test_streams_and_segments_by_their_names():
    names = [name(2), name(10), name(1), name(1, NEXT), "durable", "x.spool", name(1) + ".new"]
    names.append("other.w1-0000000000000001-00000001.spool")
    spooled = segments_of(names)
    assert spooled[STREAM] == [name(1), name(2), name(10)]
    assert newest_streams(spooled) == {NEXT, "other.w1-0000000000000001"}


def test_no_segment_is_done_for_a_sender_that_has_not_looked(spool):
    spool.append(name(1), frames(1))
    spool.append(name(2), frames(2))
    assert spool.done() == []
    assert sending.READ_BYTES > BATCH_BYTES
