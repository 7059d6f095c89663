"""The lease table: a unit is taken once, whoever takes, dies or replaces it meanwhile."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.delivery.leasing import WINDOW_NS, LeaseTable

WINDOW = 179_350_000
LINE = 42
ROOT = Path(__file__).parent.parent


def at(window: int, part: float = 0.5) -> int:
    """CLOCK_MONOTONIC in a window, where Redis's clock is the same."""
    return int((window + part) * WINDOW_NS)


@pytest.fixture
def table(tmp_path):
    return LeaseTable(tmp_path / "leases.bin", create=True)


def filled(table: LeaseTable, units: int, line: int = LINE) -> int:
    slot = table.insert(line)
    table.announce()
    assert table.put(slot, WINDOW, units) == (0, 0)
    return slot


def test_units_are_taken_one_by_one_until_there_are_none(table):
    slot = filled(table, 3)
    assert [table.take(slot, LINE, at(WINDOW)) for _ in range(4)] == [WINDOW] * 3 + [0]
    assert table.look() == [(slot, 3, 1)]
    assert table.look() == []


def test_a_lease_serves_in_its_window_and_the_next_and_not_a_moment_longer(table):
    slot = filled(table, 10)
    last = at(WINDOW + 2, 0) - 1
    assert table.take(slot, LINE, at(WINDOW, 0)) == WINDOW
    assert table.take(slot, LINE, last) == WINDOW
    assert table.take(slot, LINE, last + 1) == 0
    assert table.left(slot) == (WINDOW, 8)


def test_the_clock_is_redis_s(table):
    slot = filled(table, 10)
    table.clock_ns = 5 * WINDOW_NS
    assert table.take(slot, LINE, at(WINDOW - 5)) == WINDOW
    assert table.take(slot, LINE, at(WINDOW - 3, 0)) == 0


def test_a_grant_of_the_same_window_is_added_and_of_another_replaces(table):
    slot = filled(table, 2)
    assert table.put(slot, WINDOW, 3) == (0, 0)
    assert table.left(slot) == (WINDOW, 5)
    assert table.put(slot, WINDOW + 1, 7) == (WINDOW, 5)
    assert table.left(slot) == (WINDOW + 1, 7)
    assert table.withdraw(slot) == (WINDOW + 1, 7)
    assert table.left(slot) == (0, 0)


def test_a_unit_is_given_back_to_its_own_lease_only(table):
    slot = filled(table, 1)
    assert table.take(slot, LINE, at(WINDOW)) == WINDOW
    assert table.give_back(slot, LINE, WINDOW)
    assert table.left(slot) == (WINDOW, 1)
    assert table.take(slot, LINE, at(WINDOW)) == WINDOW
    table.put(slot, WINDOW + 1, 1)
    assert not table.give_back(slot, LINE, WINDOW)
    assert table.left(slot) == (WINDOW + 1, 1)


def test_an_entry_is_its_line_item_s_alone(table):
    slot = filled(table, 5)
    assert table.take(slot, LINE + 1, at(WINDOW)) == 0
    table.reuse(slot, LINE + 1)
    assert table.take(slot, LINE, at(WINDOW)) == 0
    assert table.take(slot, LINE + 1, at(WINDOW)) == 0
    assert table.find_all() == {LINE + 1: slot}


def test_a_successor_goes_on_with_the_table(table):
    slot = filled(table, 5)
    table.take(slot, LINE, at(WINDOW))
    table.clock_ns = 77
    heir = LeaseTable(Path(table.path), create=True)
    assert (heir.find_all(), heir.left(slot), heir.clock_ns) == ({LINE: slot}, (WINDOW, 4), 77)
    assert heir.look() == []  # what was taken before it came tells nothing of now
    heir.take(slot, LINE, at(WINDOW))
    assert heir.look() == [(slot, 1, 0)]
    assert table.left(slot) == (WINDOW, 3)


def test_what_is_no_table_is_refused(tmp_path):
    path = tmp_path / "leases.bin"
    with pytest.raises(OSError):
        LeaseTable(path)
    for content in (b"", bytes(100), bytes(8192)):
        path.write_bytes(content)
        with pytest.raises(ValueError):
            LeaseTable(path)
    assert LeaseTable(path, create=True).count == 0  # half made by one that died: made again


def test_many_line_items_have_memory_behind_them(table):
    slots = [table.insert(number) for number in range(1, 10_001)]
    assert slots == list(range(10_000))
    assert os.stat(table.path).st_blocks * 512 >= 10_000 * 32


# -- processes

TAKER = """
import os, sys
from pathlib import Path
from server.delivery.leasing import LeaseTable
table = LeaseTable(Path(sys.argv[1]))
slot, line, moment, give_back = map(int, sys.argv[2:])
print("ready", flush=True)
sys.stdin.readline()
taken, count = {}, 0
while not Path(sys.argv[1] + ".end").exists():
    for _ in range(500):
        lease = table.take(slot, line, moment)
        count += 1
        if lease and give_back and count % 3 == 0 and table.give_back(slot, line, lease):
            continue
        if lease:
            taken[lease] = taken.get(lease, 0) + 1
print(taken)
"""


def start_takers(table: LeaseTable, slot: int, count: int) -> list[subprocess.Popen[str]]:
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, table.path, *map(str, (slot, LINE, at(WINDOW), number))],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    for taker in takers:
        assert taker.stdout.readline() == "ready\n"
    for taker in takers:
        taker.stdin.write("go\n")
        taker.stdin.flush()
    return takers


def hammer(table: LeaseTable, slot: int, grants: int) -> tuple[dict[int, int], dict[int, int]]:
    """What was put in for each window, less what came back; and what four processes took of it."""
    takers = start_takers(table, slot, 4)
    put: dict[int, int] = {}
    for number in range(grants):
        window = WINDOW + number // 3
        units = 1 + number * 7919 % 2000
        put[window] = put.get(window, 0) + units
        before, left = table.put(slot, window, units)
        if before:
            put[before] -= left
        time.sleep(0.001)
    Path(table.path + ".end").touch()
    taken: dict[int, int] = {}
    for taker in takers:
        output, _ = taker.communicate(timeout=30)
        for window, units in eval(output).items():
            taken[window] = taken.get(window, 0) + units
    window, left = table.withdraw(slot)
    put[window] -= left
    return put, taken


@pytest.mark.process
def test_processes_take_exactly_what_was_put(table):
    slot = filled(table, 0)
    put, taken = hammer(table, slot, 600)
    assert sum(taken.values()) > 10_000
    assert taken == {window: units for window, units in put.items() if units}
    assert sum(taken for _, taken, _ in table.look()) == sum(put.values())


@pytest.mark.process
def test_a_killed_taker_leaves_the_table_whole(table):
    slot = filled(table, 1_000_000_000)
    victim, *others = start_takers(table, slot, 3)
    time.sleep(0.1)
    victim.kill()
    victim.communicate()
    time.sleep(0.1)
    Path(table.path + ".end").touch()
    survived = sum(sum(eval(other.communicate(timeout=30)[0]).values()) for other in others)
    _, left = table.left(slot)
    # What the dead one took is gone with it; nothing else is.
    ((_, taken, _),) = table.look()
    assert abs(1_000_000_000 - left - taken) <= 1  # it may have died between the two
    assert survived <= taken
