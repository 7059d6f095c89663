"""A table of ids is a dict of marks, however many there are and wherever they fall."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ledger.ids import IdTable

IDS = st.one_of(
    st.binary(min_size=16, max_size=16),
    # Few, so that they meet again; and alike in one half, which must not make them one.
    st.integers(0, 40).map(lambda number: number.to_bytes(16, "big")),
    st.integers(0, 40).map(lambda number: number.to_bytes(16, "little")),
)


@given(st.lists(st.tuples(IDS, st.integers(0, 255))))
def test_it_is_a_dict(pairs):
    table, marks = IdTable(), {}
    for key, mark in pairs:
        before = marks.get(key, 0)
        assert table.get(key) == before
        assert table.add(key, mark) == before
        marks[key] = before | mark
    for known in (table, IdTable.load(table.dump())):
        assert len(known) == sum(1 for mark in marks.values() if mark)
        assert all(known.get(key) == mark for key, mark in marks.items())
        assert known.get(b"\x99" * 16) == marks.get(b"\x99" * 16, 0)


@pytest.mark.parametrize("count", [767, 768, 769, 1535, 1536, 1537, 20_000])
def test_it_grows_and_forgets_nothing(count):
    table = IdTable()
    for number in range(count):
        assert table.add(number.to_bytes(16, "little"), 1 + number % 3) == 0
    assert len(table) == count
    assert len(table.dump()) <= max(1024, 4 / 3 * 2 * count) * 17
    loaded = IdTable.load(table.dump())
    for number in range(count):
        assert loaded.get(number.to_bytes(16, "little")) == 1 + number % 3
    assert loaded.get(count.to_bytes(16, "little")) == 0
    assert loaded.add(count.to_bytes(16, "little"), 1) == 0


@pytest.mark.parametrize("key", [b"", bytes(15), bytes(17)])
def test_an_id_has_sixteen_bytes(key):
    with pytest.raises(ValueError, match="16 bytes"):
        IdTable().get(key)
    with pytest.raises(ValueError, match="16 bytes"):
        IdTable().add(key, 1)


@pytest.mark.parametrize("size", [0, 17, 1023 * 17, 1024 * 17 - 1, 1024 * 17 + 1, 1536 * 17])
def test_what_is_no_dump_is_refused(size):
    with pytest.raises(ValueError, match="no dump"):
        IdTable.load(bytes(size))
