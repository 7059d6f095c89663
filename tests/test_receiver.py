"""The receiver: each frame of a stream is taken once and in order, whatever is sent."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.events.frames import Frame, pack
from server.ledger import receiver, wal
from server.ledger.receiver import Ack, Batch, Receiver, Watermark
from server.ledger.wal import Received, Shipped

STREAM = "p-0000000000000001"


def batch(previous, *numbers):
    frames = b"".join(pack(Frame(1, number, 1, b"%d" % number)) for number in numbers)
    return Batch(STREAM, previous, numbers[-1], frames)


def test_a_batch_that_follows_is_written_before_its_ack():
    reply, body = Receiver(None).take(batch(0, 2, 5), 9)
    assert reply == Ack(STREAM, 5)
    assert wal.decode(body) == Shipped(9, STREAM, 5, batch(0, 2, 5).frames)


@pytest.mark.parametrize(
    "second",
    [batch(0, 2, 5), batch(0, 2), batch(2, 5)],
    ids=["all of it again", "its beginning", "its end"],
)
def test_a_repeat_is_acked_and_not_written_again(second):
    taker = Receiver(None)
    taker.take(batch(0, 2, 5), 9)
    assert taker.take(second, 10) == (Ack(STREAM, second.last), None)


@pytest.mark.parametrize(
    "second",
    [batch(6, 7), batch(0, 2, 5, 6), batch(2, 5, 6)],
    ids=["a gap", "known and more", "known in part and more"],
)
def test_what_does_not_follow_is_told_where_the_stream_stands(second):
    taker = Receiver(None)
    taker.take(batch(0, 2, 5), 9)
    assert taker.take(second, 10) == (Watermark(STREAM, 5), None)
    assert taker.watermark(STREAM) == Watermark(STREAM, 5)


@pytest.mark.parametrize(
    "broken",
    [
        Batch(STREAM, 0, 1, b""),
        Batch(STREAM, 0, 6, batch(0, 2, 5).frames),
        Batch(STREAM, 0, 4, batch(0, 2, 5).frames),
        Batch(STREAM, 0, 5, batch(0, 2, 5).frames[:-1]),
        Batch(STREAM, 0, 5, batch(0, 2, 5).frames + b"\0"),
        batch(0, 5, 5),
        batch(0, 5, 2, 6),
        batch(0, 0),
    ],
)
def test_a_broken_batch_is_refused_and_changes_nothing(broken):
    taker = Receiver(None)
    if broken.last == 0:  # nothing before the first: a repeat of nothing
        assert taker.take(broken, 9) == (Ack(STREAM, 0), None)
        return
    with pytest.raises(ValueError, match=r"frame|batch"):
        taker.take(broken, 9)
    assert taker.watermark(STREAM) == Watermark(STREAM, 0)


@given(st.integers(0, 2**32))
def test_any_sends_in_any_order_leave_each_frame_once(seed):
    random = Random(seed)
    numbers = sorted(random.sample(range(1, 60), 20))
    taker, taken = Receiver(None), []
    for _ in range(60):
        first = random.randrange(len(numbers))
        some = numbers[first : first + random.randint(1, 5)]
        if random.random() < 0.5:
            here = taker.watermark(STREAM).last
            some = [number for number in numbers if number > here][:3] or some
        previous = max((n for n in numbers if n < some[0]), default=0)
        reply, body = taker.take(batch(previous, *some), 1)
        if body is not None:
            taken += some
        if isinstance(reply, Ack):
            assert {n for n in numbers if n <= reply.last} <= set(taken)
        if random.random() < 0.1:  # the process ends; a new one knows what the log says
            taker = Receiver(taker.opened("log", 1))
    assert taken == numbers[: len(taken)]


def test_what_the_log_holds_is_known_again():
    taker = Receiver(None)
    taker.restore(Shipped(5, STREAM, 7, b""))
    taker.restore(Received(6, "chunk", b""))
    taker.restore(wal.Ticked(7))
    assert taker.watermark(STREAM) == Watermark(STREAM, 7)
    assert taker.take_chunk("chunk", b"", 8) is None
    again = Receiver(taker.opened("log", 9))
    assert again.watermark(STREAM) == Watermark(STREAM, 7)
    assert again.take_chunk("chunk", b"", 8) is None


def test_a_stream_is_known_for_as_long_as_a_spool_may_be_away():
    taker = Receiver(None)
    taker.restore(Shipped(0, STREAM, 7, b""))
    assert STREAM in taker.opened("log", receiver.STREAM_KEPT_MS).watermarks
    assert STREAM not in taker.opened("log", receiver.STREAM_KEPT_MS + 1).watermarks


def test_a_chunk_counts_once_unless_its_sender_wants_no_ack():
    taker = Receiver(None)
    assert wal.decode(taker.take_chunk("a", b"x", 1)) == Received(1, "a", b"x")
    assert taker.take_chunk("a", b"x", 2) is None
    assert taker.take_chunk("", b"x", 3) is not None
    assert taker.take_chunk("", b"x", 4) is not None


def test_the_oldest_chunk_is_the_one_forgotten(monkeypatch):
    monkeypatch.setattr(receiver, "CHUNKS_KEPT", 2)
    taker = Receiver(None)
    for chunk in ("a", "b", "c"):
        taker.take_chunk(chunk, b"", 1)
    assert taker.opened("log", 1).chunks == ["b", "c"]
