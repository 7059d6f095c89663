"""The table of ids against a dict of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ledger.ids import IdTable

# Few ids that differ in one word alone, and zeros, which an empty place holds as well.
keys = st.tuples(st.integers(0, 5), st.integers(0, 5)).map(
    lambda pair: pair[0].to_bytes(8, "little") + pair[1].to_bytes(8, "big")
)


@given(st.lists(st.tuples(keys, st.sampled_from([0, 1, 2, 4, 8, 255]))))
def test_it_is_a_dict_of_marks(steps):
    table, model = IdTable(), {}
    for key, mark in steps:
        assert table.add(key, mark) == model.get(key, 0)
        if mark or key in model:
            model[key] = model.get(key, 0) | mark
        assert table.get(key) == model.get(key, 0)
        assert len(table) == len(model)
    loaded = IdTable.load(table.dump())
    assert len(loaded) == len(model)
    assert all(loaded.get(key) == mark for key, mark in model.items())


@pytest.mark.parametrize("count", [767, 768, 769, 1535, 1536, 1537, 20_000])
def test_it_grows_and_forgets_none(count):
    ids = [(number * 0x9E3779B97F4A7C15 % 2**128).to_bytes(16, "big") for number in range(count)]
    table = IdTable()
    for number, key in enumerate(ids):
        assert table.add(key, 1 + number % 7) == 0
    loaded = IdTable.load(table.dump())
    for number, key in enumerate(ids):
        assert table.get(key) == loaded.get(key) == 1 + number % 7
    assert len(table) == len(loaded) == count
    assert table.get(b"\xff" * 16) == 0


def test_ids_that_collide_are_told_apart():
    """The second word's multiple cancels the first: these all hash to the same place."""
    factor, all_ones = 0x9E3779B97F4A7C15, 2**64 - 1
    ids = [
        (number * factor & all_ones).to_bytes(8, "little") + number.to_bytes(8, "little")
        for number in range(1, 200)
    ]
    table = IdTable()
    for number, key in enumerate(ids):
        assert table.add(key, 1 + number % 5) == 0
    assert [table.get(key) for key in ids] == [1 + number % 5 for number in range(len(ids))]


@pytest.mark.parametrize("key", [b"", bytes(15), bytes(17)])
def test_an_id_has_16_bytes(key):
    with pytest.raises(ValueError, match="16 bytes"):
        IdTable().get(key)
    with pytest.raises(ValueError, match="16 bytes"):
        IdTable().add(key, 1)


@pytest.mark.parametrize("size", [0, 17, 17 * 512, 17 * 1024 - 1, 17 * 1024 + 1, 17 * 1536])
def test_only_a_dump_is_loaded(size):
    with pytest.raises(ValueError, match="no dump"):
        IdTable.load(bytes(size))
