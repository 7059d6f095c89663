"""The compiled scan of frames finds what the plain reader finds, whatever the bytes are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.events.frames import Frame, Frames, pack
from server.events.walking import scan

RECORDS = st.lists(st.binary(max_size=40), max_size=6)


def frames_of(records: list[bytes]) -> bytes:
    return b"".join(pack(Frame(7, 5 + n, 1, record)) for n, record in enumerate(records))


def plainly(content: bytes, start: int) -> list[tuple[int, bytes, int]]:
    frames = Frames(content, start)
    return [(frame.sequence, frame.record, frames.end) for frame in frames]


@given(RECORDS, st.binary(max_size=60), st.data())
def test_scan_agrees_with_the_plain_reader(records, tail, data):
    content = bytearray(frames_of(records) + tail)
    if content and data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    start = data.draw(st.integers(0, len(content)))
    assert scan(bytes(content), start, 1 << 30) == plainly(bytes(content), start)


@given(RECORDS, st.integers(1, 200))
def test_scan_gives_no_more_than_it_takes_to_fill_the_size(records, size_min):
    content = frames_of(records)
    found = scan(content, 0, size_min)
    assert found == plainly(content, 0)[: len(found)]
    assert len(found) == len(records) or found[-1][2] >= size_min
    assert len(found) < 2 or found[-2][2] < size_min


def test_scan_reads_nothing_outside_the_content():
    content = frames_of([b"x"])
    assert scan(content, len(content), 1) == scan(content, 1 << 40, 1) == scan(b"", 0, 1) == []
    with pytest.raises(ValueError, match="before"):
        scan(content, -1, 1)
