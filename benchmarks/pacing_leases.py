"""The accounts in Redis for all items at once: the rules of server/store's scripts on arrays.

One account an item. Amounts are in the account's unit; a lease is in impressions, a million of
which cost `cost_per_million` of it. tests/test_pacing_sim.py holds it against the slow twin of the
scripts.
"""

import copy
from typing import Final

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]

WINDOW_S: Final = 10
CLOSED_S: Final = 2 * WINDOW_S + 120 + 20  # from a window's begin until nothing of it is billed
MILLION: Final = 1_000_000
_PARTS: Final = 50


class Accounts:
    """base + open <= limit, whatever comes; see `grant`."""

    def __init__(self, limit: Whole, cost_per_million: Whole, settled: int) -> None:
        self.limit = limit
        self.cost_per_million = cost_per_million
        # M: one window may grant so much.
        self.most = np.maximum(self.cost(np.full(len(limit), 5)), -(-limit // _PARTS))
        self.base = np.zeros(len(limit), np.int64)
        self.open = np.zeros(len(limit), np.int64)
        self.granted: dict[int, Whole] = {}
        self.ghosts: set[int] = set()
        self.settled = settled
        self.window = settled

    def cost(self, units: Whole) -> Whole:
        """[item] or [server, item]: what so many impressions take, rounded up."""
        return -(-units * self.cost_per_million // MILLION)

    def free(self) -> Whole:
        return self.limit - self.base - self.open - len(self.ghosts) * self.most

    def grant(self, window: int, want: Whole) -> Whole:
        """[server, item] units wanted to units granted, one server after the other."""
        self.window = max(self.window, window)
        if window in self.ghosts:  # we can't know what was granted in it already
            return np.zeros_like(want)
        granted = self.granted.setdefault(window, np.zeros(len(self.limit), np.int64))
        free, room = self.free(), self.most - granted
        each = self.cost(want)
        total, one = each.sum(axis=0), self.cost(np.ones(len(free), np.int64))
        # Where even the last one is served in full, the order does not matter.
        plenty = (total <= np.minimum(free, room)) & (each.max(axis=0) <= (free - total) // 4)
        given = np.where(plenty, want, 0)
        taken = np.where(plenty, total, 0)
        short = np.flatnonzero(~plenty & (total > 0) & (np.minimum(free, room) > 0))
        if len(short):
            free, room, one = free[short], room[short], one[short]
            for server in np.flatnonzero(want[:, short].any(axis=1)):
                asked, cost = want[server, short], each[server, short]
                most = np.minimum(np.minimum(free, room), np.maximum(one, free // 4))
                part = np.where(cost <= most, asked, most * asked // np.maximum(cost, 1))
                part = np.clip(part, 0, asked)
                paid = -(-part * cost // np.maximum(asked, 1))
                given[server, short] = part
                taken[short] += paid
                free, room = free - paid, room - paid
        granted += taken
        self.open += taken
        return given

    def give_back(self, window: int, units: Whole) -> None:
        """[server, item] units of leases of that window that were not used."""
        granted = self.granted.get(window)
        if granted is not None:
            back = (units * self.cost_per_million // MILLION).sum(axis=0)
            back = np.minimum(back, granted)
            granted -= back
            self.open -= back

    def settle(self, window: int, billed: Whole) -> None:
        """Nothing of it can be billed any more: what was billed is spent, the rest is free."""
        assert window == self.settled + 1
        self.base += billed
        granted = self.granted.pop(window, None)
        if granted is not None:
            self.open -= granted
        self.ghosts.discard(window)
        self.settled = window

    def snapshot(self) -> "Accounts":
        """What a replica has."""
        return copy.deepcopy(self)

    def failed_over(self, window: int) -> None:
        """The run id is another one: windows from the last known on may hold grants unknown."""
        first = max(self.window, self.settled + 1)
        self.ghosts.update(range(first, max(self.window, window) + 2))

    def reset(self, base: Whole, settled: int, window: int) -> None:
        """All was lost: start from the ledger; every window open then may hold unknown grants."""
        self.base, self.open, self.granted = base.copy(), np.zeros_like(base), {}
        self.settled = self.window = settled
        self.ghosts = set(range(settled + 1, window + 2))
