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
    another forecast for the same goals:      rescale(state, before, after)
    other goals:                              state = state.moved(goals)
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from server.pacing.forecast import offset_quarters
from server.pacing.goals import (
    ASAP,
    HOURS,
    IMPRESSION,
    PPM,
    Flags,
    Goals,
    Numbers,
    Seen,
    Supply,
    Whole,
)
from server.pacing.ground import SMALL, Ground, ground, summed
from server.pacing.state import (
    State,
    apply,
    chances,
    level_at_most,
    levels,
    probabilities_ppm,
)
from server.pacing.state import observe as _observe

__all__ = ["REASONS", "STEP_S", "State", "apply", "curve_utc", "levels", "needs", "observe",
           "planned", "probabilities_ppm", "rates", "reasons", "rescale"]  # fmt: skip

STEP_S: Final = 5.0
CATCH_UP: Final = 3.0  # no faster than at so many times the plan's own pace
# ... or for so many units in its reach: who sells a few a day finds no lease ready where it would
# have shown, and must ask far more often than it shows.
FEW: Final = 3.0
BELOW: Final = 0.01  # of the plan
SCARCE: Final = 0.85  # of all supply left is needed: better early than short
CAREFUL_S: Final = 20.0  # how long a wrong rate may go on before it shows
CAREFUL: Final = CATCH_UP + 1.0  # and at how many times the plan's pace

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
    needs: Numbers  # [n] of all its supply that is left, by the account that allows least
    behind: Flags  # [a]
    ahead: Flags
    spent: Flags
    catching: Flags  # [a] held by CATCH_UP


def observe(goals: Goals, state: State, supply: Supply, seen: Seen, now_s: float) -> None:
    """Take in what was billed since, and let the plans go on to now."""
    base = ground(goals, supply)
    state.even = _even(base, state, _per_use(base, state), now_s)
    state.even_s = max(now_s, state.even_s)
    _observe(goals, state, supply, seen)


def rates(goals: Goals, state: State, supply: Supply, now_s: float) -> Whole:
    """[n] of 0 to PPM. Changes nothing: the same arguments give the same rates."""
    return _ppm(_solve(ground(goals, supply), state, now_s).rate)


def needs(goals: Goals, state: State, supply: Supply, now_s: float) -> Numbers:
    """[n] the share of all supply left to it that a line item needs, 0 to 1: what it is ranked by.

    Until its plans end, not in the next minutes: a rank is no throttle.
    """
    return np.clip(_solve(ground(goals, supply), state, now_s).needs, 0.0, 1.0)


def planned(goals: Goals, state: State, supply: Supply, now_s: float) -> Numbers:
    """[a] what should have been spent by now."""
    base = ground(goals, supply)
    return goals.limit * base.bought(_even(base, state, _per_use(base, state), now_s))


def reasons(goals: Goals, state: State, supply: Supply, now_s: float) -> Whole:
    """[n] why a line item stands where it does: a number of REASONS."""
    solved = _solve(ground(goals, supply), state, now_s)
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
    found[solved.rate < 0.99 * np.minimum(np.minimum(solved.own, solved.careful), 1.0)] = CAMPAIGN
    found[solved.careful < np.minimum(solved.own, 1.0)] = LEARNING
    found[state.blocked] = BLOCKED
    found[some(solved.spent)] = SPENT
    found[~goals.active] = PAUSED
    found[now_s < goals.start_s] = NOT_STARTED
    found[now_s >= goals.end_s] = ENDED
    return found


def rescale(state: State, before: Supply, after: Supply) -> None:
    """Keep what is known of levels when the forecast for the same goals has changed."""
    was = before.scale * before.cumulative[before.shape, HOURS]
    now = after.scale * after.cumulative[after.shape, HOURS]
    ratio = np.divide(now, was, out=np.ones(len(was)), where=(was > SMALL) & (now > SMALL))
    state.fast_due *= ratio
    state.slow_due *= ratio


def curve_utc(weights: tuple[float, ...], zone: str, now_s: float) -> Numbers:
    """[HOURS] 24 or 168 hourly weights of a time zone, by UTC hour of week as it is now."""
    if len(weights) not in (24, HOURS):
        raise ValueError(f"{len(weights)} weights, not 24 or {HOURS}")
    local = np.resize(np.asarray(weights, np.float64), HOURS)
    # Some zones are off by a quarter of an hour: a UTC hour has parts of two local ones.
    quarters = np.repeat(local, 4)
    moved = np.roll(quarters, -offset_quarters(zone, now_s))
    mean: Numbers = moved.reshape(HOURS, 4).mean(axis=1)
    return mean


# -- the plan --------------------------------------------------------------------------------------


def _per_use(base: Ground, state: State) -> Numbers:
    """[u] what is expected to be taken from the account by a unit of the forecast's integrals."""
    goals = base.goals
    level = levels(state, base.supply) * base.supply.scale
    if base.events:
        events = (level * chances(goals, state))[goals.use_line]
        each = np.where(goals.use_event == IMPRESSION, level[goals.use_line], events)
    else:
        each = level[goals.use_line]
    return np.asarray(goals.use_price * each)


def _even(base: Ground, state: State, per_use: Numbers, now_s: float) -> Numbers:
    """[a] the share of its supply that has passed by now.

    It goes on from where it stood: another forecast changes the way ahead, never the way behind.
    """
    goals, new = base.goals, state.even < 0
    was = np.where(new, 0.0, state.even)
    since = np.maximum(np.where(new, goals.begin_s, state.even_s), goals.begin_s)
    if not new.any() and now_s <= state.even_s:
        return was
    now = np.maximum(now_s, since)
    # A moment for all, but for those that begin.
    each = new.any() or bool((since != state.even_s).any())
    low = base.passed_each(since) if each else base.passed(state.even_s)
    mid = base.passed_each(now) if each else base.passed(now_s)
    part = base.worth(per_use, low, np.minimum(mid, base.at_finish))
    whole = base.worth(per_use, low, base.at_finish)
    return was + (1.0 - was) * base.shares(part, whole, since, now)


# -- the rate --------------------------------------------------------------------------------------


def _solve(base: Ground, state: State, now_s: float) -> _Solved:
    goals, finish = base.goals, base.finish
    per_use = _per_use(base, state)
    # Past the plan's end all that is left is for the first half of what time is left.
    closing = now_s >= finish - STEP_S
    deadline = np.maximum(finish, now_s + (goals.close_s - now_s) / 2)
    soon = np.minimum(now_s + base.reach, np.maximum(deadline, now_s + STEP_S))
    late = bool((np.maximum(deadline, soon) > finish).any())
    at_now, at_soon = base.passed(now_s), base.passed_each(soon)
    able = (at_soon - at_now) * per_use
    possible = np.maximum(summed(goals.use_account, able, goals.accounts), 0.0)
    whole = base.worth(per_use, at_now, base.at_finish)
    possible_all = base.worth(per_use, at_now, base.passed_each(deadline)) if late else whole
    part = base.worth(per_use, at_now, np.minimum(at_soon, base.at_finish)) if late else possible

    spent = state.spent + _pending(base, state, per_use, at_now, now_s)
    left = np.maximum(goals.limit - spent, 0.0)
    even = _even(base, state, per_use, now_s)
    due = base.bought(even)
    share = base.shares(part, whole, np.full(goals.accounts, now_s), soon)
    due_soon = np.where(closing, 1.0, base.bought(even + (1.0 - even) * share))

    # Chance makes some spend more than was meant: an even plan is aimed at from below.
    flow = goals.limit * (due_soon - due)
    below = np.minimum(np.sqrt(flow * base.unit), BELOW * goals.limit * due)
    need = np.clip(goals.limit * due_soon - below - spent, 0.0, left)
    # Behind: no faster than CATCH_UP times what is left, spread as the plan spreads it.
    pace = left * np.clip((due_soon - due) / np.maximum(1.0 - due, SMALL), 0.0, 1.0)
    # In the end chance must not leave units over; that no more are sold is the leases' part.
    hurry = np.where(left > 0, left + 2.0 * np.sqrt(left * base.unit), 0.0)
    need = np.where(closing, hurry, need)
    most = np.where(closing, hurry, np.maximum(CATCH_UP * pace, FEW * base.unit))
    factor = np.minimum(need, most) / np.maximum(possible, SMALL)
    scarcity = left / np.maximum(possible_all, SMALL)
    all_left = (scarcity >= SCARCE) & (spent < goals.limit * due)
    factor = np.where(all_left & (need > 0), np.maximum(factor, scarcity), factor)
    factor = np.where((goals.pacing == ASAP) & (left > 0), np.inf, factor)
    is_open = (now_s >= goals.begin_s) & (now_s < goals.close_s) & (state.spent < goals.limit)
    factor = np.where(is_open, factor, 0.0)

    allowed = CAREFUL * CAREFUL_S * pace / np.maximum(soon - now_s, STEP_S)
    own = _own(base, factor)
    careful = _careful(base, state, np.where(closing, np.inf, allowed), now_s)
    running = goals.active & (now_s >= goals.start_s) & (now_s < goals.end_s)
    rate = np.where(running, np.minimum(np.minimum(own, careful), 1.0), 0.0)
    plan, tolerance = goals.limit * due, 0.01 * goals.limit
    return _Solved(
        _shared(base, rate, factor, able), own, careful, _own(base, scarcity),
        spent < plan - tolerance, spent > plan + tolerance,
        state.spent >= goals.limit, need > most,
    )  # fmt: skip


def _own(base: Ground, factor: Numbers) -> Numbers:
    """[n] the least that its own accounts can bear."""
    own = np.full(base.goals.lines, np.inf)
    np.minimum.at(own, base.own_line, factor[base.own_account])
    return own


def _shared(base: Ground, rate: Numbers, factor: Numbers, able: Numbers) -> Numbers:
    """[n] rates cut to what the accounts can bear that several line items share.

    What each wants of one is by its own accounts; who has none wants all it can have.
    """
    uses = base.shared
    if not len(uses):
        return rate
    goals = base.goals
    line, account = goals.use_line[uses], goals.use_account[uses]
    at_full = summed(account, able[uses], goals.accounts)
    wanted = summed(account, able[uses] * rate[line], goals.accounts)
    bearable = np.full(goals.accounts, np.inf)
    some = np.isfinite(factor) & (wanted > SMALL)
    bearable[some] = factor[some] * at_full[some] / wanted[some]
    bearable[factor <= 0] = 0.0
    cut = np.ones(goals.lines)
    np.minimum.at(cut, line, bearable[account])
    return rate * cut


def _careful(base: Ground, state: State, most_a: Numbers, now_s: float) -> Numbers:
    """[n] the rate at which even the most supply there could be spends no more of its accounts.

    An event at least is always allowed: who is too careful to sell one learns nothing.
    """
    goals = base.goals
    a_second = base.a_second(now_s)
    most = level_at_most(state, base.supply, a_second) * a_second * CAREFUL_S
    events = np.maximum(1.0, most_a[goals.use_account] / np.maximum(goals.use_price, SMALL))
    if base.events:
        chance = chances(goals, state)[goals.use_line]
        events = np.where(goals.use_event == IMPRESSION, events, events / chance)
    allowed = np.full(goals.lines, np.inf)
    np.minimum.at(allowed, goals.use_line, events)
    safe = np.divide(allowed, most, out=np.full(goals.lines, np.inf), where=most > SMALL)
    return np.where(base.hurried, np.inf, safe)  # it has no plan that could break


def _pending(
    base: Ground, state: State, per_use: Numbers, at_now: Numbers, now_s: float
) -> Numbers:
    """[a] decided by now and soon to be billed, by the rate in force."""
    if not state.rates or state.time_s == 0:
        return np.zeros(base.goals.accounts)
    since_s = now_s - min(max(now_s - state.time_s, 0.0), 2 * CAREFUL_S)
    if since_s >= now_s:
        return np.zeros(base.goals.accounts)
    rate = state.rates_ppm[base.goals.use_line] / PPM
    return base.worth(per_use * rate, base.passed(since_s), at_now)


def _ppm(rate: Numbers) -> Whole:
    """Rounded up, so that no one starves by it; 0 stays 0."""
    return np.ceil(np.clip(rate, 0.0, 1.0) * PPM - 1e-6).astype(np.int64)
