"""Each guard of the accounts, by name: taken out of its script, a limit is overspent.

A scenario counts what it was granted outside of Redis, as if all of it were used and billed.
"""

from collections.abc import Callable
from typing import Any

import pytest

from server.store import connect
from server.store.budgets import Call, Limit, Want
from tests.guards import without_in_script
from tests.sim.budget_box import BudgetBox
from tests.sim.budget_twin import WINDOW_US

W = 179_350_000


class Book:
    """One account, whoever asks for it, and all they were granted."""

    def __init__(self, box: BudgetBox, limit: int, window_max: int = 5) -> None:
        box.flush()
        self.box, self.limit = box, Limit("ever", "l1.impressions", limit, window_max)
        self.granted = self.sequence = 0
        box.reset(W - 2, W - 1, ["ever"], us(W - 2))
        box.settle(W - 1, {})
        self.open()

    def open(self, spent: int = 0, settled: int = W - 1) -> None:
        self.box.open(settled, {"ever": {self.limit.name: spent}})

    def ask(self, window: int, wanted: int = 50, **changed: Any) -> Any:
        """Ask as a server that has never asked before, unless it is named."""
        self.sequence += 1
        server = f"s{self.sequence}"
        call = Call(
            server, self.sequence, 0, window, [self.limit], [Want(wanted, ((0, wanted),))], {}
        )
        now = changed.pop("now", window)
        answer = self.box.grant(call._replace(**changed), us(now))
        self.granted += sum(max(part, 0) for part in answer.granted)
        return answer

    def exhaust(self, window: int) -> None:
        """Take all there is in the windows from this one on."""
        for each in range(window, window + 40):
            while sum(self.ask(each).granted) > 0:
                pass
        assert self.granted <= self.limit.limit, f"{self.granted} of {self.limit.limit}"


def us(window: int) -> int:
    return window * WINDOW_US + WINDOW_US // 2


def a_lost_tail(box: BudgetBox) -> None:
    book = Book(box, 15)
    kept = box.copy()
    book.ask(W)
    box.restart(kept)
    book.exhaust(W + 1)


def a_lost_tail_again_and_again(box: BudgetBox) -> None:
    book = Book(box, 40)
    kept = box.copy()
    for _ in range(9):
        book.ask(W)
        box.restart(kept)
    book.exhaust(W + 3)


def a_lost_tail_of_another_clock(box: BudgetBox) -> None:
    book = Book(box, 40)
    kept = box.copy()
    book.ask(W)
    book.ask(W + 1)
    box.restart(kept)
    book.exhaust(W)  # on a machine whose clock is one window behind


def a_call_that_comes_twice(box: BudgetBox) -> None:
    book = Book(box, 40, window_max=40)
    book.ask(W, server="a", sequence=1)
    book.ask(W, server="b", sequence=1)
    book.granted -= 5
    for _ in range(2):
        back = {W: {"ever/l1.impressions": 5}}
        book.ask(W, wanted=1, server="a", sequence=2, returns=back)
    book.exhaust(W + 1)


def half_a_transaction(box: BudgetBox) -> None:
    book = Book(box, 20)
    book.ask(W)
    box.tear()  # half of a `settle`: no longer open, and not yet spent
    box._client.hdel(box._keys.budget_open, "ever/l1.impressions")
    book.exhaust(W + 1)


def a_window_without_end(box: BudgetBox) -> None:
    book = Book(box, 200)
    kept = box.copy()
    book.ask(W)
    box.restart(kept)
    book.exhaust(W + 3)


def control_that_has_not_heard_of_a_rollback(box: BudgetBox) -> None:
    book = Book(box, 40)
    kept = box.copy()
    book.ask(W)
    billed = {W: {"ever": {"l1.impressions": 5}}}
    for window in (W, W + 1):
        box.settle(window, billed.get(window, {}))
    box.restart(kept)
    window = W + 2
    while window < W + 13:
        if window == W + 11:
            assert book.ask(window).status == "fenced"
        found = box.settle(window, billed.get(window, {}))
        window = (window if found is None else int(found)) + 1
    book.exhaust(W + 13)


def an_account_opened_with_what_was_known_before(box: BudgetBox) -> None:
    book = Book(box, 20)
    kept = box.copy()
    book.ask(W)
    box.go_back({key: content for key, content in kept.items() if b"base" not in key})
    box.settle(W, {"ever": {"l1.impressions": 5}})
    book.open(0, settled=W - 1)
    book.exhaust(W + 1)


def an_account_that_nobody_opened(box: BudgetBox) -> None:
    book = Book(box, 20)
    book.ask(W)
    box.settle(W, {"ever": {"l1.impressions": 5}})
    box._client.delete(box._keys.budget_base("ever"))
    book.exhaust(W + 1)


def a_reset_that_ends_too_early(box: BudgetBox) -> None:
    book = Book(box, 20)
    book.ask(W)
    box.flush()
    box.reset(W - 1, W - 1, [], us(W))
    book.open()
    book.exhaust(W + 1)


def an_older_state_in_the_same_process(box: BudgetBox) -> None:
    book = Book(box, 20)
    kept = box.copy()
    seen = book.ask(W).seq
    box.go_back(kept)
    book.ask(W, wanted=1, seen=seen)
    book.exhaust(W)


def a_window_to_come(box: BudgetBox) -> None:
    book = Book(box, 40)
    kept = box.copy()
    for ahead in range(8, 12):
        book.ask(W + ahead, now=W)
    box.restart(kept)
    book.exhaust(W)


def a_clock_that_went_back(box: BudgetBox) -> None:
    book = Book(box, 40)
    book.ask(W + 9, wanted=1)
    kept = box.copy()
    for window in range(W, W + 5):
        book.ask(window)
    box.restart(kept)
    book.exhaust(W + 9)


def grant(old: str, new: str) -> tuple[str, str, str]:
    return "grant.lua", old, new


Scenario = Callable[[BudgetBox], None]
GUARDS: dict[str, tuple[tuple[str, str, str], Scenario]] = {
    "the run id": (grant("if run_id ~= own then", "if false then"), a_lost_tail),
    "ghosts count": (grant("- ghost_count * window_max", ""), a_lost_tail),
    "no grants in a ghost": (
        grant("redis.call('SISMEMBER', ghosts, now) == 1", "false"), a_lost_tail_again_and_again
    ),
    "ghosts up to the next window": (
        grant("math.max(last, now, window) + 1", "math.max(last, now, window)"),
        a_lost_tail_of_another_clock,
    ),
    "the sequence number": (grant("if known and sequence <=", "if false and sequence <="),
                            a_call_that_comes_twice),
    "begun and done": (grant("found[5] ~= found[6] or", ""), half_a_transaction),
    "what one window may grant": (
        grant("window_max - (grants[i] or 0)", "9e15"), a_window_without_end
    ),
    "the order of windows": (
        ("settle.lua", "tonumber(found[1]) ~= window - 1", "false"),
        control_that_has_not_heard_of_a_rollback,
    ),
    "up to where an opening goes": (
        ("open.lua", "found[1] ~= ARGV[1]", "false"),
        an_account_opened_with_what_was_known_before,
    ),
    "an unknown account": (grant("if not bases[at] then", "if false then"),
                           an_account_that_nobody_opened),
    "a reset reaches the next window": (
        ("reset.lua", "final < math.floor(now_us / window_us) + 1", "false"),
        a_reset_that_ends_too_early,
    ),
    "what a caller has seen": (grant("seq < seen or", ""), an_older_state_in_the_same_process),
    "the caller's window": (grant("if window ~= now then", "if false then"), a_window_to_come),
    "the last window": (grant("now < last or", ""), a_clock_that_went_back),
}  # fmt: skip


@pytest.mark.parametrize("guard", GUARDS)
def test_without_a_guard_a_limit_is_overspent(guard, redis_url, monkeypatch):
    (name, old, new), scenario = GUARDS[guard]
    client = connect(redis_url)
    scenario(BudgetBox(client))
    without_in_script(name, old, new, "budgets")(monkeypatch)
    with pytest.raises(AssertionError, match=r"\d+ of \d+"):
        scenario(BudgetBox(client))
    client.close()
