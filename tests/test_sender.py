"""The sender: every frame that is its own is sent in order, and a segment goes only when acked."""

from random import Random

import msgspec
import pytest

from server.events.frames import Frame, Frames, pack
from server.events.records import Routed
from server.ledger import sender as sending
from server.ledger.receiver import Ack, Batch, Watermark
from server.ledger.sender import Query, Sender, Shards, done_segments, segments_of
from tests.sim.disk import SimFolder

STREAM = "p-0000000000000001"
LATER = "p-0000000000000002"
OTHER = "q-0000000000000001"


class Spool:
    """Segments with frames that hold their own number, and a sender of the even ones or of all."""

    def __init__(self, is_ours=lambda record: True):
        self.folder = SimFolder(Random(0))
        self.sender = Sender(self.folder, is_ours)

    def write(self, segment, *numbers, stream=STREAM):
        epoch = int(stream[-16:], 16)
        frames = b"".join(pack(Frame(epoch, n, 1, b"%d" % n)) for n in numbers)
        self.folder.append(f"{stream}-{segment:08d}.spool", frames)

    def spooled(self):
        return segments_of(self.folder.names())

    def poll(self):
        return list(self.sender.poll(self.spooled()))

    def begin(self, last=0, stream=STREAM):
        self.poll()
        self.sender.told(Watermark(stream, last))

    def done(self, *others):
        """The numbers of the segments that may go."""
        names = done_segments(self.spooled(), [self.sender, *others])
        return [int(name[-14:-6]) for name in names]


def numbers(batch):
    return [frame.sequence for frame in Frames(batch.frames)]


def even(record):
    return int(record) % 2 == 0


def test_it_asks_before_it_sends():
    spool = Spool()
    spool.write(1, 1, 2)
    assert spool.poll() == [Query(STREAM)]
    assert spool.poll() == []
    assert not spool.sender.is_idle
    spool.sender.told(Watermark(STREAM, 0))
    (batch,) = spool.poll()
    assert (batch.previous, batch.last, numbers(batch)) == (0, 2, [1, 2])
    assert spool.poll() == []


def test_only_what_is_ours_is_sent_and_numbers_stay_the_streams():
    spool = Spool(even)
    spool.write(1, 1, 2, 3)
    spool.begin()
    (batch,) = spool.poll()
    assert (batch.previous, batch.last, numbers(batch)) == (0, 2, [2])
    spool.write(2, 4, 5)
    (batch,) = spool.poll()
    assert (batch.previous, batch.last, numbers(batch)) == (2, 4, [4])


def test_it_goes_on_behind_the_watermark():
    spool = Spool()
    spool.write(1, 1, 2)
    spool.write(2, 3, 4)
    spool.begin(3)
    (batch,) = spool.poll()
    assert (batch.previous, numbers(batch)) == (3, [4])


def test_a_watermark_in_the_middle_sends_again_what_flies():
    spool = Spool()
    spool.write(1, 1, 2)
    spool.begin()
    spool.poll()
    spool.write(1, 3)
    spool.poll()
    spool.sender.told(Ack(STREAM, 2))
    spool.sender.told(Watermark(STREAM, 2))
    (batch,) = spool.poll()
    assert (batch.previous, numbers(batch)) == (2, [3])


def test_after_a_cut_it_asks_again_and_takes_the_aggregators_word():
    spool = Spool()
    spool.write(1, 1, 2, 3)
    spool.begin()
    spool.poll()
    spool.sender.lost()
    assert not spool.sender.is_idle
    assert spool.poll() == [Query(STREAM)]
    spool.sender.told(Watermark(STREAM, 2))  # it had taken some
    (batch,) = spool.poll()
    assert (batch.previous, numbers(batch)) == (2, [3])


def test_no_more_flies_than_the_window(monkeypatch):
    monkeypatch.setattr(sending, "BATCH_BYTES", 1)
    spool = Spool()
    spool.write(1, *range(1, 40))
    spool.begin()
    assert len(spool.poll()) == sending.WINDOW_BATCHES
    assert spool.poll() == []
    spool.sender.told(Ack(STREAM, 3))
    assert [numbers(batch) for batch in spool.poll()] == [[17], [18], [19]]


@pytest.mark.parametrize("kept", range(26))
def test_a_torn_frame_of_the_newest_segment_is_waited_for(kept):
    frame = pack(Frame(1, 2, 1, b"2"))
    assert len(frame) == 26
    spool = Spool()
    spool.write(1, 1)
    spool.begin()
    name = f"{STREAM}-00000001.spool"
    spool.folder.append(name, frame[:kept])
    assert [numbers(batch) for batch in spool.poll()] == [[1]]
    spool.folder.append(name, frame[kept:])
    assert [numbers(batch) for batch in spool.poll()] == [[2]]
    assert spool.sender.lost_frames == 0


def test_a_torn_end_is_passed_over_once_a_segment_follows():
    spool = Spool()
    spool.write(1, 1)
    spool.folder.append(f"{STREAM}-00000001.spool", b"torn")
    spool.write(2, 2)
    spool.begin()
    assert [numbers(batch) for batch in spool.poll()] == [[1, 2]]
    assert spool.sender.lost_frames == 0


def test_a_torn_end_is_passed_over_once_the_producer_started_anew():
    spool = Spool()
    spool.write(1, 1)
    spool.folder.append(f"{STREAM}-00000001.spool", b"torn")
    spool.write(1, 1, stream=LATER)
    spool.begin()
    spool.sender.told(Watermark(LATER, 0))
    assert [batch.stream for batch in spool.poll()] == [STREAM, LATER]
    spool.sender.told(Ack(STREAM, 1))
    spool.sender.told(Ack(LATER, 1))
    spool.poll()
    assert spool.sender.is_idle
    assert spool.done() == [1]


@pytest.mark.parametrize("offset", range(26))
def test_a_frame_that_the_disk_changed_costs_itself_alone_and_is_counted(offset):
    spool = Spool()
    spool.write(1, 1, 2, 3)
    spool.write(2, 4)
    spool.folder.files[f"{STREAM}-00000001.spool"][26 + offset] ^= 0x10
    spool.begin()
    (batch,) = spool.poll()
    assert numbers(batch) == [1, 3, 4]
    assert spool.sender.lost_frames == 1


# -- what may go


def test_a_segment_goes_when_all_of_it_is_acked_and_not_before():
    spool = Spool()
    for segment in (1, 2, 3):
        spool.write(segment, segment)
    assert spool.done() == []
    spool.begin()
    assert spool.done() == []
    (batch,) = spool.poll()
    assert numbers(batch) == [1, 2, 3]
    assert spool.done() == []
    spool.sender.told(Ack(STREAM, 3))
    assert spool.done() == [1, 2]


def test_the_newest_segment_stays():
    spool = Spool()
    spool.write(1, 1)
    spool.begin()
    spool.poll()
    spool.sender.told(Ack(STREAM, 1))
    spool.poll()
    assert spool.sender.is_idle
    assert spool.done() == []


def test_another_producer_does_not_make_a_stream_old():
    spool = Spool()
    spool.write(1, 1)
    spool.write(1, 1, stream=OTHER)
    spool.begin()
    spool.sender.told(Watermark(OTHER, 0))
    spool.poll()
    spool.sender.told(Ack(STREAM, 1))
    spool.sender.told(Ack(OTHER, 1))
    spool.poll()
    assert spool.done() == []


def test_a_segment_waits_for_every_aggregator():
    spool = Spool(even)
    odd = Sender(spool.folder, lambda record: not even(record))
    spool.write(1, 1, 2)
    spool.write(2, 3)
    spool.begin()
    list(odd.poll(spool.spooled()))
    spool.poll()
    spool.sender.told(Ack(STREAM, 2))
    assert spool.done(odd) == []
    odd.told(Watermark(STREAM, 0))
    list(odd.poll(spool.spooled()))
    assert spool.done(odd) == []
    odd.told(Ack(STREAM, 3))
    assert spool.done(odd) == [1]


def test_what_was_written_behind_the_last_look_is_not_done():
    """The segments were listed, then one grew and got a successor."""
    spool = Spool()
    spool.write(1, 1)
    spool.begin()
    spool.poll()
    spool.sender.told(Ack(STREAM, 1))
    spool.poll()
    spool.write(1, 2)
    spool.write(2, 3)
    assert spool.done() == []
    (batch,) = spool.poll()
    assert numbers(batch) == [2, 3]
    spool.sender.told(Ack(STREAM, 3))
    assert spool.done() == [1]


def test_a_stream_that_is_gone_is_forgotten():
    spool = Spool()
    spool.write(1, 1)
    spool.begin()
    spool.poll()
    spool.folder.remove(f"{STREAM}-00000001.spool")
    assert spool.poll() == []
    assert spool.sender.is_idle
    spool.sender.told(Ack(STREAM, 1))  # late, and of no matter


# -- which aggregator


def record(issued_s, head):
    return msgspec.msgpack.encode(Routed(1, 0, 0, issued_s, head.to_bytes(8, "big") + b"\xff" * 8))


def test_a_token_keeps_its_aggregator_when_their_number_changes():
    shards = Shards([(100, 3), (0, 2)])
    assert [shards.of(record(99, head)) for head in range(6)] == [0, 1, 0, 1, 0, 1]
    assert [shards.of(record(100, head)) for head in range(6)] == [0, 1, 2, 0, 1, 2]


def test_what_came_before_all_epochs_goes_by_the_first():
    shards = Shards([(100, 2), (200, 3)])
    assert shards.of(record(0, 3)) == 1


def test_what_cannot_be_read_goes_to_the_first():
    assert Shards([(0, 5)]).of(b"\xc1") == 0


def test_segments_are_grouped_in_order_and_others_left_alone():
    names = [f"{LATER}-00000001.spool", f"{STREAM}-00000002.spool", f"{STREAM}-00000001.spool"]
    strays = ["p.spool", f"{STREAM}-1.spool", f"{STREAM}-00000001.spool.new", "lock"]
    assert segments_of(names + strays) == {
        STREAM: [f"{STREAM}-00000001.spool", f"{STREAM}-00000002.spool"],
        LATER: [f"{LATER}-00000001.spool"],
    }


def test_batches_are_cut_at_their_size(monkeypatch):
    monkeypatch.setattr(sending, "BATCH_BYTES", 60)
    spool = Spool()
    spool.write(1, *range(1, 8))
    spool.begin()
    batches = spool.poll()
    assert all(isinstance(batch, Batch) for batch in batches)
    assert [numbers(batch) for batch in batches] == [[1, 2, 3], [4, 5, 6], [7]]
