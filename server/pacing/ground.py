"""What goals and a forecast come to together: worked out once, for every step until they change."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from server.pacing.goals import (
    ASAP,
    CUSTOM,
    FRONTLOADED,
    IMPRESSION,
    Flags,
    Goals,
    Numbers,
    Supply,
    Whole,
    between,
    cumulative,
    until,
)

EARLY_S: Final = 1800.0  # plans end so much before their time, or a sixteenth of it
EARLY_PARTS: Final = 16.0
REACH_PARTS: Final = 288.0  # an error is made good within five minutes of a day
REACH_S: Final = (90.0, 600.0)
SMALL: Final = 1e-9
AHEAD_X: Final = np.array([0.0, 0.5, 1.0])
AHEAD: Final = np.array([0.30, 0.18, 0.03])  # of FRONTLOADED: inside of 40 %, 25 % and 5 %


@dataclass(frozen=True, slots=True)
class Ground:
    """[u] uses, [a] accounts, [n] lines; `at_*` are running integrals of the forecast's rows."""

    goals: Goals
    supply: Supply
    row: Whole  # [u]
    events: bool  # some use costs by click or conversion
    at_start: Numbers  # [u] of the flight
    at_end: Numbers
    at_finish: Numbers  # [u] of the account's plan
    finish: Numbers  # [a] when the plan ends: early, so that what was not billed is sold again
    unit: Numbers  # [a] what one event takes
    reach: Numbers  # [a] within which an error is made good
    own_line: Whole  # of uses whose account is this line item's own
    own_account: Whole
    shared: Whole  # the other uses
    hurried: Flags  # [n] all its accounts are ASAP
    front: Whole  # accounts that are FRONTLOADED
    custom: Whole  # and those with a curve
    curves: Numbers

    def passed(self, moment_s: float) -> Numbers:
        """[u] the integral until one moment, or the flight's nearer end."""
        rows = np.arange(len(self.supply.shapes))
        at = until(self.supply.cumulative, rows, np.full(len(rows), moment_s))
        return np.clip(at[self.row], self.at_start, self.at_end)

    def passed_each(self, moment_s: Numbers) -> Numbers:
        """[u] the same, until each account's own moment."""
        each = moment_s[self.goals.use_account]
        return np.clip(until(self.supply.cumulative, self.row, each), self.at_start, self.at_end)

    def worth(self, per_use: Numbers, low: Numbers, high: Numbers) -> Numbers:
        """[a] what all its line items would spend at rate 1 between two integrals.

        `per_use` [u] is what a unit of those integrals takes from the account.
        """
        spent = summed(self.goals.use_account, (high - low) * per_use, self.goals.accounts)
        return np.maximum(spent, 0.0, out=spent)

    def a_second(self, moment_s: float) -> Numbers:
        """[n] impressions a second at rate 1."""
        rows = np.arange(len(self.supply.shapes))
        now = np.full(len(rows), moment_s)
        at = between(self.supply.cumulative, rows, now, now + 60.0) / 60.0
        found: Numbers = at[self.supply.shape] * self.supply.scale
        return found

    def shares(self, part: Numbers, whole: Numbers, begin_s: Numbers, middle_s: Numbers) -> Numbers:
        """[a] how much of what there is from begin until the plan ends comes before the middle.

        By the supply before both, `part` of the `whole`; or by the account's curve.
        """
        if len(self.custom):
            part, whole = part.copy(), whole.copy()
            row = self.goals.curve[self.custom]
            begin, finish = begin_s[self.custom], self.finish[self.custom]
            middle = np.minimum(middle_s[self.custom], finish)
            part[self.custom] = between(self.curves, row, begin, middle)
            whole[self.custom] = between(self.curves, row, begin, finish)
        # Without any supply in sight, by time.
        left = np.maximum(self.finish - begin_s, SMALL)
        passed = (np.minimum(middle_s, self.finish) - begin_s) / left
        share = np.where(whole > SMALL, part / np.maximum(whole, SMALL), passed)
        return np.where(self.finish <= begin_s, 1.0, np.clip(share, 0.0, 1.0))

    def bought(self, even: Numbers) -> Numbers:
        """[a] the share of the limit that is to be spent when so much of the supply has passed."""
        if not len(self.front):
            return even
        share = even.copy()
        front = even[self.front]
        share[self.front] = np.minimum(front * (1.0 + np.interp(front, AHEAD_X, AHEAD)), 1.0)
        return share


@lru_cache(maxsize=2)
def ground(goals: Goals, supply: Supply) -> Ground:
    """By identity: both never change."""
    line, account = goals.use_line, goals.use_account
    length = goals.close_s - goals.begin_s
    finish = goals.close_s - np.minimum(EARLY_S, length / EARLY_PARTS)
    row = supply.shape[line]
    end_s = goals.end_s[line]
    alone = np.bincount(account, minlength=goals.accounts)[account] == 1
    patient = np.bincount(line, goals.pacing[account] != ASAP, goals.lines)
    unit = np.full(goals.accounts, np.inf)
    np.minimum.at(unit, account, goals.use_price)
    return Ground(
        goals=goals, supply=supply, row=row, events=bool((goals.use_event != IMPRESSION).any()),
        at_start=until(supply.cumulative, row, goals.start_s[line]),
        at_end=until(supply.cumulative, row, end_s),
        at_finish=until(supply.cumulative, row, np.minimum(finish[account], end_s)),
        finish=finish, unit=np.minimum(unit, goals.limit),
        reach=np.clip(length / REACH_PARTS, *REACH_S),
        own_line=line[alone], own_account=account[alone],
        shared=np.flatnonzero(~alone), hurried=patient == 0,
        front=np.flatnonzero(goals.pacing == FRONTLOADED),
        custom=np.flatnonzero(goals.pacing == CUSTOM), curves=cumulative(goals.curves),
    )  # fmt: skip


def summed(place: Whole, what: Numbers, length: int) -> Numbers:
    sums: Numbers = np.bincount(place, what, length).astype(np.float64)
    return sums
