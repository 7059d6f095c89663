"""The control law: what share of its requests each line item takes part in, every few seconds.

See docs/pacing.md for the formulae and figures. `State` is what is learned; it is all that a new
leader needs to go on. Nothing here reads a clock, a catalog or Redis.

    goals, supply = ...                       # again when the catalog or the forecast changes
    state = State.fresh(goals)                # or State.restored(blob, goals)
    every STEP_S:
        observe(goals, state, supply, seen, now_s)
        rates_ppm = rates(goals, state, supply, now_s)
        apply(state, rates_ppm, now_s)        # once the plan is in Redis
        probabilities_ppm(goals, state)
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from server.pacing.goals import (
    ASAP,
    CUSTOM,
    FRONTLOADED,
    HOURS,
    IMPRESSION,
    PPM,
    Flags,
    Goals,
    Numbers,
    Seen,
    Supply,
    Whole,
    between,
    cumulative,
)
from server.pacing.state import (
    State,
    apply,
    chances,
    level_at_most,
    levels,
    probabilities_ppm,
)
from server.pacing.state import observe as _observe

__all__ = ["REASONS", "STEP_S", "State", "apply", "curve_utc", "observe", "planned",
           "probabilities_ppm", "rates", "reasons"]  # fmt: skip

STEP_S: Final = 5.0
EARLY_S: Final = 1800.0  # plans end so much before their time, or a sixteenth of it
EARLY_PARTS: Final = 16.0
REACH_PARTS: Final = 144.0  # an error is made good within ten minutes of a day
REACH_S: Final = (90.0, 900.0)
CATCH_UP: Final = 3.0  # and no faster than at so many times the plan's own pace
SCARCE: Final = 0.85  # of all supply left is needed: better early than short
CAREFUL_S: Final = 20.0  # how long a wrong rate may go on before it shows
CAREFUL_SHARE: Final = 0.01  # of a budget that may be spent by mistake in that time
_AHEAD_X: Final = np.array([0.0, 0.5, 1.0])
_AHEAD: Final = np.array([0.35, 0.20, 0.03])  # of FRONTLOADED: inside of 40 %, 25 % and 5 %
_SMALL: Final = 1e-9

(ON_PLAN, AHEAD, NOT_STARTED, ENDED, PAUSED, SPENT, BLOCKED, LEARNING, CAMPAIGN, CATCHING_UP,
 NO_SUPPLY) = range(11)  # fmt: skip
REASONS: Final = (
    "on plan", "ahead of plan", "not started", "ended", "paused", "spent", "leases blocked",
    "learning its supply", "campaign's limit", "catching up", "too little supply",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Solved:
    """One solution, with what tells why it is as it is."""

    rate: Numbers  # [n] 0 to 1
    own: Numbers  # [n] what its own accounts ask for, before its campaign's; above 1: too little
    careful: Numbers  # [n] the most that caution allows
    behind: Flags  # [a]
    ahead: Flags
    spent: Flags
    catching: Flags  # [a] held by CATCH_UP


def observe(goals: Goals, state: State, supply: Supply, seen: Seen, now_s: float) -> None:
    """Take in what was billed since, and let the plans go on to now."""
    state.even = _even(goals, state, supply, now_s)
    state.even_s = now_s
    _observe(goals, state, supply, seen, now_s)


def rates(goals: Goals, state: State, supply: Supply, now_s: float) -> Whole:
    """[n] of 0 to PPM. Changes nothing: the same arguments give the same rates."""
    return _ppm(_solve(goals, state, supply, now_s).rate)


def planned(goals: Goals, state: State, supply: Supply, now_s: float) -> Numbers:
    """[a] what should have been spent by now."""
    return goals.limit * _bought(goals, _even(goals, state, supply, now_s))


def reasons(goals: Goals, state: State, supply: Supply, now_s: float) -> Whole:
    """[n] why a line item stands where it does: a number of REASONS."""
    solved = _solve(goals, state, supply, now_s)
    found = np.full(goals.lines, ON_PLAN, np.int64)

    def some(flags: Flags) -> Flags:
        of_line = np.zeros(goals.lines, np.bool_)
        np.logical_or.at(of_line, goals.use_line, flags[goals.use_account])
        return of_line

    # The later one wins.
    behind = some(solved.behind)
    found[some(solved.ahead)] = AHEAD
    found[some(solved.catching)] = CATCHING_UP
    found[behind & (solved.own >= 1.0)] = NO_SUPPLY
    found[solved.rate < 0.99 * np.minimum(solved.own, solved.careful)] = CAMPAIGN
    found[solved.careful < np.minimum(solved.own, 1.0)] = LEARNING
    found[state.blocked] = BLOCKED
    found[some(solved.spent)] = SPENT
    found[~goals.active] = PAUSED
    found[now_s < goals.start_s] = NOT_STARTED
    found[now_s >= goals.end_s] = ENDED
    return found


def curve_utc(weights: tuple[float, ...], zone: str, now_s: float) -> Numbers:
    """[HOURS] 24 or 168 hourly weights of a time zone, by UTC hour of week as it is now."""
    if len(weights) not in (24, HOURS):
        raise ValueError(f"{len(weights)} weights, not 24 or {HOURS}")
    local = np.resize(np.asarray(weights, np.float64), HOURS)
    offset = datetime.fromtimestamp(now_s, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    assert offset is not None
    # Some zones are off by a quarter of an hour: a UTC hour has parts of two local ones.
    quarters = np.repeat(local, 4)
    moved = np.roll(quarters, -round(offset.total_seconds() / 900))
    mean: Numbers = moved.reshape(HOURS, 4).mean(axis=1)
    return mean


# -- the plan --------------------------------------------------------------------------------------


def _finish(goals: Goals) -> Numbers:
    """[a] when its plan ends: early, so that what was not billed can be sold again."""
    length = goals.close_s - goals.begin_s
    return goals.close_s - np.minimum(EARLY_S, length / EARLY_PARTS)


def _weight(
    goals: Goals, supply: Supply, per_use: Numbers, begin_s: Numbers, end_s: Numbers
) -> Numbers:
    """[a] what all its line items would spend at rate 1 from begin to end ([a] each)."""
    line, account = goals.use_line, goals.use_account
    begin = np.maximum(begin_s[account], goals.start_s[line])
    end = np.minimum(end_s[account], goals.end_s[line])
    worth = supply.between(line, begin, end) * per_use
    return _summed(account, worth, goals.accounts)


def _shares(
    goals: Goals, supply: Supply, per_use: Numbers, begin_s: Numbers, middle_s: Numbers
) -> Numbers:
    """[a] how much of what there is from begin until the plan ends comes before the middle."""
    finish = np.maximum(_finish(goals), begin_s)
    middle = np.minimum(middle_s, finish)
    part = _weight(goals, supply, per_use, begin_s, middle)
    whole = _weight(goals, supply, per_use, begin_s, finish)
    custom = np.flatnonzero(goals.pacing == CUSTOM)
    if len(custom):
        sums, row = cumulative(goals.curves), goals.curve[custom]
        part[custom] = between(sums, row, begin_s[custom], middle[custom])
        whole[custom] = between(sums, row, begin_s[custom], finish[custom])
    # Without any supply in sight, by time.
    passed = (middle - begin_s) / np.maximum(finish - begin_s, _SMALL)
    share = np.where(whole > _SMALL, part / np.maximum(whole, _SMALL), passed)
    return np.where(finish <= begin_s, 1.0, np.clip(share, 0.0, 1.0))


def _even(
    goals: Goals, state: State, supply: Supply, until_s: float | Numbers, ahead: bool = False
) -> Numbers:
    """[a] the share of its supply that has passed by then.

    It goes on from where it stood: another forecast changes the way ahead, never the way behind.
    """
    per_use = _per_use(goals, state, supply)
    new = state.even < 0
    was = np.where(new, 0.0, state.even)
    since = np.where(new, goals.begin_s, np.maximum(state.even_s, goals.begin_s))
    until = np.maximum(np.broadcast_to(np.asarray(until_s), since.shape), since)
    return was + (1.0 - was) * _shares(goals, supply, per_use, since, until)


def _bought(goals: Goals, even: Numbers) -> Numbers:
    """[a] the share of the limit that is to be spent when so much of the supply has passed."""
    front = np.minimum(even * (1.0 + np.interp(even, _AHEAD_X, _AHEAD)), 1.0)
    return np.where(goals.pacing == FRONTLOADED, front, even)


def _per_use(goals: Goals, state: State, supply: Supply) -> Numbers:
    """[u] what an impression forecast is expected to take from the account."""
    chance = np.where(goals.use_event == IMPRESSION, 1.0, chances(goals, state)[goals.use_line])
    cost: Numbers = goals.use_price * chance * levels(goals, state, supply)[goals.use_line]
    return cost


# -- the rate --------------------------------------------------------------------------------------


def _solve(goals: Goals, state: State, supply: Supply, now_s: float) -> _Solved:
    now = np.full(goals.accounts, now_s)
    per_use = _per_use(goals, state, supply)
    reach = np.clip((goals.close_s - goals.begin_s) / REACH_PARTS, *REACH_S)
    finish = _finish(goals)
    # Past the plan's end all that is left is for the first half of what time is left.
    deadline = np.maximum(finish, now_s + (goals.close_s - now_s) / 2)
    soon = np.minimum(now_s + reach, np.maximum(deadline, now_s + STEP_S))

    spent = state.spent + _pending(goals, state, supply, per_use, now_s)
    left = np.maximum(goals.limit - spent, 0.0)
    even = _even(goals, state, supply, now_s)
    due = _bought(goals, even)
    due_soon = _bought(goals, even + (1.0 - even) * _shares(goals, supply, per_use, now, soon))
    due_soon = np.where(now_s >= finish - STEP_S, 1.0, due_soon)

    possible = _weight(goals, supply, per_use, now, soon)
    possible_all = _weight(goals, supply, per_use, now, deadline)
    need = np.clip(goals.limit * due_soon - spent, 0.0, left)
    # Behind: no faster than CATCH_UP times what is left, spread as the plan spreads it.
    pace = left * np.clip((due_soon - due) / np.maximum(1.0 - due, _SMALL), 0.0, 1.0)
    most = np.where(now_s >= finish - STEP_S, left, CATCH_UP * pace)
    wanted = np.minimum(need, most)
    factor = wanted / np.maximum(possible, _SMALL)
    scarcity = left / np.maximum(possible_all, _SMALL)
    factor = np.where((scarcity >= SCARCE) & (need > 0), np.maximum(factor, scarcity), factor)
    factor = np.where((goals.pacing == ASAP) & (left > 0), np.inf, factor)
    open_now = (now_s >= goals.begin_s) & (now_s < goals.close_s) & (state.spent < goals.limit)
    factor = np.where(open_now, factor, 0.0)

    own, rate, careful = _of_lines(goals, state, supply, per_use, factor, left, soon, now_s)
    tolerance = 0.01 * goals.limit
    plan = goals.limit * due
    return _Solved(
        rate, own, careful,
        spent < plan - tolerance, spent > plan + tolerance,
        state.spent >= goals.limit, need > most,
    )  # fmt: skip


def _of_lines(
    goals: Goals, state: State, supply: Supply, per_use: Numbers, factor: Numbers, left: Numbers,
    soon: Numbers, now_s: float,
) -> tuple[Numbers, Numbers, Numbers]:  # fmt: skip
    """From what each account can bear to what each line item may do: its tightest."""
    line, account = goals.use_line, goals.use_account
    alone = np.bincount(account, minlength=goals.accounts)[account] == 1
    own = np.full(goals.lines, np.inf)
    np.minimum.at(own, line[alone], factor[account[alone]])
    running = goals.active & (now_s >= goals.start_s) & (now_s < goals.end_s)
    careful = _careful(goals, state, supply, left, now_s)
    rate = np.where(running, np.minimum(np.minimum(own, careful), 1.0), 0.0)
    shared = np.flatnonzero(~alone)
    if len(shared):
        # What its line items want of it by their own accounts; those without one want all.
        begin = np.full(len(shared), now_s)
        able = supply.between(line[shared], begin, soon[account[shared]]) * per_use[shared]
        at_full = _summed(account[shared], able, goals.accounts)
        wanted = _summed(account[shared], able * rate[line[shared]], goals.accounts)
        bearable = factor * at_full / np.maximum(wanted, _SMALL)
        bearable = np.where(np.isnan(bearable), np.inf, bearable)
        cut = np.ones(goals.lines)
        np.minimum.at(cut, line[shared], bearable[account[shared]])
        rate = rate * cut
    return own, rate, careful


def _careful(goals: Goals, state: State, supply: Supply, left: Numbers, now_s: float) -> Numbers:
    """[n] the rate at which even the most supply there could be spends little by mistake."""
    allowed = np.full(goals.lines, np.inf)
    cost = np.maximum(_per_use(goals, state, supply) / np.maximum(
        levels(goals, state, supply)[goals.use_line], _SMALL), _SMALL)  # fmt: skip
    np.minimum.at(
        allowed, goals.use_line,
        np.maximum(1.0, CAREFUL_SHARE * goals.limit[goals.use_account] / cost),
    )  # fmt: skip
    # Budgets to be spent at once have no plan to break.
    hurried = np.zeros(goals.lines, np.bool_)
    hurried[goals.use_line[goals.pacing[goals.use_account] == ASAP]] = True
    lines = np.arange(goals.lines)
    now = np.full(goals.lines, now_s)
    a_second = supply.between(lines, now, now + 60.0) / 60.0
    most = level_at_most(goals, state, supply, now_s) * a_second * CAREFUL_S
    safe = np.divide(allowed, most, out=np.full(goals.lines, np.inf), where=most > _SMALL)
    return np.where(hurried, np.inf, safe)


def _pending(goals: Goals, state: State, supply: Supply, per_use: Numbers, now_s: float) -> Numbers:
    """[a] decided by now and soon to be billed, by the rate in force."""
    if not state.rates or state.time_s == 0:
        return np.zeros(goals.accounts)
    since = np.full(goals.accounts, now_s - min(max(now_s - state.time_s, 0.0), 2 * CAREFUL_S))
    rate = state.rates_ppm[goals.use_line] / PPM
    return _weight(goals, supply, per_use * rate, since, np.full(goals.accounts, now_s))


def _ppm(rate: Numbers) -> Whole:
    """Rounded up, so that no one starves by it; 0 stays 0."""
    return np.ceil(np.clip(rate, 0.0, 1.0) * PPM - 1e-6).astype(np.int64)


def _summed(place: Whole, what: Numbers, length: int) -> Numbers:
    sums: Numbers = np.bincount(place, what, length).astype(np.float64)
    return sums
