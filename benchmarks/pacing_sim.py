"""Runs a world second by second: servers, beacons, ledger, Redis, and somebody who paces.

Rules: `ours` (leases and server/pacing/pace.py), `naive` (counters that come late), `linkedin`
(the pass-through rate goes 10 % up or down each minute, against delayed counters) and `share`
(the same, and each server spends at most its equal part of what was left at its last look).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.pacing_leases import CLOSED_S, WINDOW_S, Accounts
from benchmarks.pacing_world import SEEN_SHARE, START_S, World, goals_of, supply_of
from server.pacing import pace
from server.pacing.accounts import ESTIMATE_MARGIN_PERCENT, EVENT_PARTS, MILLION
from server.pacing.goals import CLICK, PPM, Seen

Numbers = NDArray[np.float64]
Whole = NDArray[np.int64]

RULES: Final = ("ours", "naive", "linkedin", "share")
BEACON_S: Final = 5  # at least, from a decision until it is counted; Poisson(3) more
CLICK_MEAN_S: Final = 40.0
KILLED_AFTER_S: Final = 7200.0  # a server lives so long, in the mean
SYNC_S: Final = 10  # how often the others' servers look at the counters
SAMPLE_S: Final = 300
RING: Final = 1024
READY_S: Final = 600  # one unit is kept ready for an item wanted so lately
USE_S: Final = 10.0  # over which a server knows its own use
REBUILD_S: Final = 10  # from a wipe until the ledger has written its counts again


@dataclass
class Outcome:
    """[n] items and [samples]: what a rule came to."""

    rule: str
    billed: Whole  # units
    impressions: Whole
    samples_s: Whole
    spent: Whole  # [samples, n]
    lost: float  # impressions decided and not billed


class Ledger:
    """What is billed when: the truth, and what Redis shows of it."""

    def __init__(self, world: World, draw: np.random.Generator) -> None:
        n = len(world.budget)
        self.draw = draw
        self.clicks_paid = world.event == CLICK
        self.chance = world.chance
        self.coming = np.zeros((RING, n), np.int64)  # impressions, by the second they are counted
        self.clicking = np.zeros((RING, n), np.int64)
        self.impressions = np.zeros(n, np.int64)
        self.clicks = np.zeros(n, np.int64)
        self.windows: dict[int, Whole] = {}  # units billed by window of lease, or of the log
        self.leased: list[dict[int, Whole]] = [{} for _ in range(RING)]
        self.decided = 0

    def decide(self, second: int, shown: Whole, window: int) -> None:
        """[n] ads decided in a second under leases of one window."""
        self.decided += int(shown.sum())
        billed = self.draw.binomial(shown, SEEN_SHARE)
        due = (second + BEACON_S + self.draw.poisson(3)) % RING
        self.coming[due] += billed
        of = self.leased[due]
        of[window] = of.get(window, 0) + billed
        clicked = self.draw.binomial(billed, np.where(self.clicks_paid, self.chance, 0.0))
        for item in np.flatnonzero(clicked):
            after = self.draw.exponential(CLICK_MEAN_S, clicked[item]).astype(int)
            places = (due + 1 + np.minimum(after, RING - 64)) % RING
            np.add.at(self.clicking[:, item], places, 1)

    def count(self, second: int) -> None:
        """Bill what has arrived."""
        place = second % RING
        self.impressions += self.coming[place]
        self.clicks += self.clicking[place]
        for window, billed in self.leased[place].items():
            self._add(window, np.where(self.clicks_paid, 0, billed))
        if self.clicking[place].any():
            self._add((START_S + second) // WINDOW_S, self.clicking[place])
        self.leased[place] = {}
        self.coming[place] = self.clicking[place] = 0

    def _add(self, window: int, units: Whole) -> None:
        self.windows.setdefault(window, np.zeros(len(units), np.int64))
        self.windows[window] += units

    @property
    def units(self) -> Whole:
        return np.where(self.clicks_paid, self.clicks, self.impressions)

    def billed_of(self, window: int) -> Whole:
        return self.windows.get(window, np.zeros(len(self.clicks), np.int64))


def run(world: World, rule: str, click_parts: int = EVENT_PARTS) -> Outcome:
    """With `click_parts=1`, accounts are kept in whole clicks: small goals starve."""
    draw = np.random.default_rng((world.seed, RULES.index(rule)))
    ledger = Ledger(world, draw)
    seller = (
        Leasing(world, ledger, draw, click_parts) if rule == "ours" else Others(world, ledger, rule)
    )
    killed = draw.random((world.seconds, world.servers)) < 1 / KILLED_AFTER_S
    up = np.ones(world.seconds, np.bool_)
    for begin, length in world.outages_s:
        up[begin : begin + length] = False
    speed = np.exp(draw.normal(0, 0.1, world.servers))[:, None]  # servers are not alike
    samples, spent = [], []
    taken = np.zeros(len(world.budget))
    for second in range(world.seconds):
        ledger.count(second)
        if killed[second].any():
            seller.die(killed[second])
        seller.control(second, bool(up[second]))
        taken = 0.5 * taken + 0.5 * seller.taking()
        want = draw.poisson(world.arriving(second, taken) * speed * seller.rate)
        seller.sell(second, want, bool(up[second]))
        if second % SAMPLE_S == 0:
            samples.append(second)
            spent.append(ledger.units.copy())
    for second in range(world.seconds, world.seconds + RING):  # what is still on its way
        ledger.count(second)
    return Outcome(
        rule, ledger.units.copy(), ledger.impressions.copy(), np.array(samples),
        np.array(spent), ledger.decided - float(ledger.impressions.sum()),
    )  # fmt: skip


class Leasing:
    """Leases as in the spec, and the control law itself."""

    def __init__(
        self, world: World, ledger: Ledger, draw: np.random.Generator, click_parts: int
    ) -> None:
        n = len(world.budget)
        shape = (world.servers, n)
        self.world, self.ledger, self.draw = world, ledger, draw
        self.goals, self.supply = goals_of(world), supply_of(world)
        self.state = pace.State.fresh(self.goals)
        window = START_S // WINDOW_S
        # As server/pacing/accounts.py has it: an impression takes a quarter more than was booked.
        margin = ESTIMATE_MARGIN_PERCENT / 100
        takes = np.where(world.event == CLICK, world.booked * margin, 1.0) * MILLION
        self.parts = np.where(world.event == CLICK, click_parts, 1)
        self.accounts = Accounts(
            world.budget * self.parts, np.ceil(takes * self.parts).astype(np.int64), window - 1
        )
        self.replica = self.accounts.snapshot()
        self.held = np.zeros(shape, np.int64)
        self.held_window = np.full(world.servers, window)
        self.use = np.zeros(shape)
        self.wanted_s = np.full(shape, -READY_S, np.int64)
        self.rate = np.zeros(n)
        self.blocked = np.zeros(n, np.bool_)
        self.known: int | None = None  # a wiped Redis knows nothing until then
        self.seen: Seen | None = None

    def die(self, dead: NDArray[np.bool_]) -> None:
        self.held[dead], self.use[dead], self.wanted_s[dead] = 0, 0.0, -READY_S

    def taking(self) -> Numbers:
        """[n] the share of requests each item takes: its rate, where servers hold units of it."""
        able: Numbers = np.minimum((self.held > 0).mean(axis=0) + 1e-3, 1.0) * self.rate
        return able

    # -- control

    def control(self, second: int, up: bool) -> None:
        window = (START_S + second) // WINDOW_S
        if second in self.world.failovers_s:
            self.accounts = self.replica
            self.accounts.failed_over(window)
        if second == self.world.flush_s:
            self.known = second + REBUILD_S
        if second % 7 == 0:
            self.replica = self.accounts.snapshot()  # up to 7 s old when it takes over
        if not up:
            return
        closed = (START_S + second - CLOSED_S) // WINDOW_S
        if self.known is not None:
            if second < self.known:
                return
            base = np.zeros(len(self.rate), np.int64)
            for of in self.ledger.windows:
                base += self.ledger.billed_of(of) if of <= closed else 0
            self.accounts.reset(base * self.parts, closed, window)
            self.known = None
        while self.accounts.settled < closed:
            following = self.accounts.settled + 1
            billed = self.ledger.billed_of(following)
            self.accounts.settle(following, billed * self.parts)
        if second % int(pace.STEP_S) == 0:
            self._pace(second)

    def _pace(self, second: int) -> None:
        now_s = float(START_S + second)
        ledger = self.ledger
        seen = Seen(
            now_s, ledger.impressions, ledger.clicks, ledger.clicks * 0,
            ledger.units.astype(np.float64), self.blocked,
        )  # fmt: skip
        pace.observe(self.goals, self.state, self.supply, seen, now_s)
        found = pace.rates(self.goals, self.state, self.supply, now_s)
        pace.apply(self.state, found, now_s)
        self.rate = found / PPM
        self.blocked = self.accounts.free() <= 0

    # -- servers

    def sell(self, second: int, want: Whole, up: bool) -> None:
        window = (START_S + second) // WINDOW_S
        if up and self.known is None:
            self._lease(second, window)
        valid = self.held_window + 1 >= window
        shown = np.minimum(want, np.where(valid[:, None], self.held, 0))
        self.held -= shown
        for of in np.unique(self.held_window[valid]):
            self.ledger.decide(second, shown[self.held_window == of].sum(axis=0), int(of))
        missed = want > shown
        self.use += (shown + missed - self.use) / USE_S
        self.wanted_s[want > 0] = second

    def _lease(self, second: int, window: int) -> None:
        """Each server's call of this second: back what is old, and up to its need."""
        old = self.held_window != window
        if old.any():
            for of in np.unique(self.held_window[old]):
                mine = self.held_window == of
                self.accounts.give_back(int(of), self.held[mine])
            self.held[old] = 0
            self.held_window[old] = window
        expected = 3 * self.use
        target = np.ceil(expected + 2 * np.sqrt(expected)).astype(np.int64)
        ready = self.wanted_s > second - READY_S
        target = np.where(ready & (self.rate > 0), np.maximum(target, 1), 0)
        need = np.maximum(target - self.held, 0)
        order = self.draw.permutation(self.world.servers)
        self.held[order] += self.accounts.grant(window, need[order])


class Others:
    """Counters that servers look at every ten seconds, as others do it."""

    def __init__(self, world: World, ledger: Ledger, rule: str) -> None:
        n = len(world.budget)
        self.world, self.ledger, self.rule = world, ledger, rule
        self.rate = np.ones(n) if rule == "naive" else np.full(n, 0.1)
        self.seen = np.zeros(n, np.int64)
        self.view = np.zeros(n, np.int64)
        self.local = np.zeros((world.servers, n))
        self.unit = np.where(world.event == CLICK, world.booked, 1.0) * SEEN_SHARE
        self.plan = linkedin_plan(world)

    def die(self, dead: NDArray[np.bool_]) -> None:
        self.local[dead] = 0

    def taking(self) -> Numbers:
        return np.where(self.view < self.world.budget, self.rate, 0.0)

    def control(self, second: int, up: bool) -> None:
        if not up:
            return
        if second % SYNC_S == 0:
            self.view = self.ledger.units.copy()
            self.local[:] = 0
        if self.rule != "naive" and second % 60 == 0 and second:
            behind = self.view <= self.world.budget * self.plan[second]
            self.rate = np.clip(np.where(behind, self.rate * 1.1, self.rate * 0.9), 1e-6, 1)

    def sell(self, second: int, want: Whole, up: bool) -> None:
        left = np.maximum(self.world.budget - self.view, 0)
        if self.rule == "share":
            left = np.ceil(left / self.world.servers)
        units = np.where(self.unit < 0.5, self.unit, 1.0)  # impressions count in full
        fits = np.maximum(np.ceil((left - self.local) / units), 0).astype(np.int64)
        shown = np.minimum(want, fits)
        self.local += shown * units
        self.ledger.decide(second, shown.sum(axis=0), 0)


def forecast_passed(world: World) -> Numbers:
    """[t] the share of the day's forecast traffic that has passed."""
    sums = np.cumsum(np.repeat(np.resize(world.forecast, world.seconds // 3600 + 1), 3600))
    whole: Numbers = sums[: world.seconds] / sums[world.seconds - 1]
    return whole


def linkedin_plan(world: World) -> Numbers:
    """[t] its own: the forecast's, over by 22 h."""
    passed = forecast_passed(world)
    return np.minimum(passed / passed[int(world.seconds * 22 / 24)], 1.0)
