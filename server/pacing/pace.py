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
from typing import Final

from server.pacing.goals import Goals, Numbers, Seen, Supply, Whole

STEP_S: Final = 5.0
LAG_S: Final = 15.0  # from a rate to what was billed by it: plan, decision, beacon, ledger

(ON_PLAN, AHEAD, NOT_STARTED, ENDED, PAUSED, SPENT, BLOCKED, LEARNING, CAMPAIGN, CATCHING_UP,
 NO_SUPPLY) = range(11)  # fmt: skip
REASONS: Final = (
    "on plan", "ahead of plan", "not started", "ended", "paused", "spent", "leases blocked",
    "learning its supply", "campaign's limit", "catching up", "too little supply",
)  # fmt: skip


@dataclass(slots=True)
class State:
    """What is known of each line item and account, in the order of the goals it was made for."""

    goals: Goals
    time_s: float
    """Of the last observation; 0 before the first."""
    impressions: Whole
    clicks: Whole
    conversions: Whole
    """[n] as last seen."""
    spent: Numbers
    """[a] as last seen."""
    planned: Numbers
    """[a] what should have been spent at `planned_s`; -1 before the first step."""
    rates_ppm: Whole
    """[n] in force now."""

    @classmethod
    def fresh(cls, goals: Goals) -> "State":
        """Nothing learned: the first rates come from the forecast."""
        raise ValueError

    def moved(self, goals: Goals) -> "State":
        """The same knowledge for other goals: line items by id, accounts by key; new ones fresh."""
        raise ValueError

    def packed(self) -> bytes:
        """All of it but the goals, for `{pace}:state`."""
        raise ValueError

    @classmethod
    def restored(cls, blob: bytes, goals: Goals) -> "State":
        """What `packed` gave, for these goals. ValueError: it is none of ours."""
        raise ValueError


def observe(goals: Goals, state: State, supply: Supply, seen: Seen, now_s: float) -> None:
    """Take in what was billed since; without anything new (the same `time_s`) do nothing."""
    raise ValueError


def rates(goals: Goals, state: State, supply: Supply, now_s: float) -> Whole:
    """[n] of 0 to PPM. Changes nothing: the same arguments give the same rates."""
    raise ValueError


def apply(state: State, rates_ppm: Whole, now_s: float) -> None:
    """Remember what is in force from now on."""
    raise ValueError


def probabilities_ppm(goals: Goals, state: State) -> Whole:
    """[n] of its event after an impression, learned; -1: as booked (and of IMPRESSION)."""
    raise ValueError


def reasons(goals: Goals, state: State, supply: Supply, now_s: float) -> Whole:
    """[n] why a line item stands where it does: a number of REASONS."""
    raise ValueError


def planned(goals: Goals, state: State, supply: Supply, now_s: float) -> Numbers:
    """[a] what should have been spent by now."""
    raise ValueError


def curve_utc(weights: tuple[float, ...], zone: str, now_s: float) -> Numbers:
    """[HOURS] 24 or 168 hourly weights of a time zone, by UTC hour of week as it is now."""
    raise ValueError
