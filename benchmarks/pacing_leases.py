"""The accounts in Redis for all items at once: the rules of server/store's scripts on arrays.

One account an item. Amounts are in the account's unit; a lease is in impressions, each of which
costs `cost` of it. tests/test_pacing_sim.py holds it against the slow twin of the scripts.
"""

import copy
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Whole = NDArray[np.int64]

WINDOW_S: Final = 10
CLOSED_S: Final = 2 * WINDOW_S + 120 + 20  # from a window's begin until nothing of it is billed
_ROUND: Final = 1e-6


class Accounts:
    """base + open <= limit, whatever comes; see `grant`."""

    def __init__(self, limit: Numbers, cost: Numbers, settled: int) -> None:
        self.limit = limit
        self.cost = cost
        self.most = np.maximum(5 * cost, np.ceil(limit / 50))  # M: of one window
        self.base = np.zeros(len(limit))
        self.open = np.zeros(len(limit))
        self.granted: dict[int, Numbers] = {}
        self.ghosts: list[int] = []
        self.settled = settled
        self.window = settled

    def free(self) -> Numbers:
        return self.limit - self.base - self.open - len(self.ghosts) * self.most

    def grant(self, window: int, want: Whole) -> Whole:
        """[server, item] units wanted to units granted, one server after the other."""
        self.window = max(self.window, window)
        granted = self.granted.setdefault(window, np.zeros(len(self.limit)))
        free, room = self.free(), self.most - granted
        total = want.sum(axis=0)
        cost = total * self.cost
        # Where even the last one is served in full, the order does not matter.
        plenty = (cost <= np.minimum(free, room)) & (
            want.max(axis=0) * self.cost <= np.floor((free - cost) / 4)
        )
        given = np.where(plenty, want, 0)
        short = np.flatnonzero(~plenty & (total > 0) & (free + _ROUND >= self.cost))
        if len(short):
            cost, free, room = self.cost[short], free[short], room[short]
            for server in np.flatnonzero(want[:, short].any(axis=1)):
                share = np.maximum(cost, np.floor(free / 4))
                fits = np.floor(np.minimum(np.minimum(free, room), share) / cost + _ROUND)
                units = np.minimum(want[server, short], np.maximum(fits, 0).astype(np.int64))
                given[server, short] = units
                free, room = free - units * cost, room - units * cost
        spent = given.sum(axis=0) * self.cost
        granted += spent
        self.open += spent
        return given

    def give_back(self, window: int, units: Whole) -> None:
        """[item] units of a lease of that window that were not used."""
        granted = self.granted.get(window)
        if granted is not None:
            back = np.minimum(units * self.cost, granted)
            granted -= back
            self.open -= back

    def settle(self, window: int, billed: Numbers) -> None:
        """Nothing of it can be billed any more: what was billed is spent, the rest is free."""
        assert window == self.settled + 1
        self.base += billed
        granted = self.granted.pop(window, None)
        if granted is not None:
            self.open -= granted
        self.ghosts = [ghost for ghost in self.ghosts if ghost != window]
        self.settled = window

    def snapshot(self) -> "Accounts":
        """What a replica has."""
        return copy.deepcopy(self)

    def failed_over(self, window: int) -> None:
        """The run id is another one: windows from the last known on may hold grants unknown."""
        self.ghosts += range(max(self.window, self.settled + 1), window + 2)

    def reset(self, base: Numbers, settled: int, window: int) -> None:
        """All was lost: start from the ledger; every window open then may hold unknown grants."""
        self.base, self.open, self.granted = base.copy(), np.zeros(len(base)), {}
        self.settled, self.window = settled, window
        self.ghosts = list(range(settled + 1, window + 2))
