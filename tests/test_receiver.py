"""A repeat is known, a gap is asked for, and nothing is taken that is not what it says."""

import pytest

from server.ledger.receiver import CHUNKS_KEPT, STREAM_KEPT_MS, Ack, Batch, Receiver, Watermark
from server.ledger.wal import Opened, Received, Shipped, Ticked, decode
from tests.frames import STREAM, frames

OTHER = "n2.w1-00000000000000a7"


@pytest.fixture
def receiver():
    return Receiver(None)


def test_a_batch_is_taken_with_what_is_to_be_written(receiver):
    reply, body = receiver.take(Batch(STREAM, 0, 3, frames(1, 3)), 5)
    assert isinstance(reply, Ack)
    assert reply == (STREAM, 3)
    assert decode(body) == Shipped(5, STREAM, 3, frames(1, 3))
    assert receiver.watermark(STREAM) == (STREAM, 3)


def test_a_repeat_is_acked_and_not_written(receiver):
    receiver.take(Batch(STREAM, 0, 3, frames(1, 3)), 5)
    for batch in (Batch(STREAM, 0, 3, frames(1, 3)), Batch(STREAM, 0, 1, frames(1))):
        reply, body = receiver.take(batch, 6)
        assert isinstance(reply, Ack)
        assert reply.last == batch.last
        assert body is None


@pytest.mark.parametrize(("previous", "last"), [(4, 5), (2, 5), (0, 5)])
def test_what_does_not_follow_is_answered_with_where_we_are(receiver, previous, last):
    receiver.take(Batch(STREAM, 0, 3, frames(1, 3)), 5)
    reply, body = receiver.take(Batch(STREAM, previous, last, frames(last)), 6)
    assert isinstance(reply, Watermark)
    assert reply == (STREAM, 3)
    assert body is None


def test_streams_are_apart(receiver):
    receiver.take(Batch(STREAM, 0, 3, frames(1, 3)), 5)
    assert receiver.watermark(OTHER) == (OTHER, 0)
    assert receiver.take(Batch(OTHER, 0, 1, frames(1)), 5)[1] is not None


@pytest.mark.parametrize(
    "content",
    [b"", frames(1), frames(1, 2, 3), frames(2, 1), frames(2, 2), frames(2)[:-1], bytes(40)],
)
def test_a_broken_batch_changes_nothing(receiver, content):
    with pytest.raises(ValueError, match=r"frame|hold"):
        receiver.take(Batch(STREAM, 0, 2, content), 5)
    assert receiver.watermark(STREAM).last == 0


def test_what_the_log_holds_is_known_again(receiver):
    _, body = receiver.take(Batch(STREAM, 0, 3, frames(1, 3)), 5)
    chunk = receiver.take_chunk("c1", b"frames", 6)
    known = Receiver(Opened("log", 1, {OTHER: (9, 1)}, ["c0"]))
    for each in (body, chunk):
        known.restore(decode(each))
    known.restore(Ticked(9))
    assert known.watermark(STREAM).last == 3
    assert known.watermark(OTHER).last == 9
    assert known.take_chunk("c0", b"", 7) is None
    assert known.take_chunk("c1", b"", 7) is None
    assert known.opened("log", 10) == Opened(
        "log", 10, {OTHER: (9, 1), STREAM: (3, 5)}, ["c0", "c1"]
    )


def test_a_chunk_is_taken_once_and_one_without_a_name_always(receiver):
    assert decode(receiver.take_chunk("c1", b"frames", 5)) == Received(5, "c1", b"frames")
    assert receiver.take_chunk("c1", b"frames", 6) is None
    assert receiver.take_chunk("", b"frames", 7) is not None
    assert receiver.take_chunk("", b"frames", 8) is not None


def test_chunks_are_remembered_up_to_a_bound(receiver):
    for number in range(CHUNKS_KEPT + 1):
        receiver.take_chunk(str(number), b"", 5)
    assert len(receiver.opened("log", 6).chunks) == CHUNKS_KEPT
    assert receiver.take_chunk("1", b"", 7) is None
    assert receiver.take_chunk("0", b"", 7) is not None


def test_a_stream_long_silent_is_let_go(receiver):
    receiver.take(Batch(STREAM, 0, 1, frames(1)), 5)
    assert receiver.opened("log", 5 + STREAM_KEPT_MS).watermarks == {STREAM: (1, 5)}
    assert receiver.opened("log", 6 + STREAM_KEPT_MS).watermarks == {}
    assert receiver.watermark(STREAM).last == 0
