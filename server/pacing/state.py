"""What control has learned of each line item: its supply's level, its rate of events, its plan.

Two memories of the same ratio, billed to forecast: a slow one that corrects the forecast's scale
(days), and a fast one that follows competition and bursts (half an hour). Each is shrunk towards
what is known without it, by the impressions that were due: few of them prove little.
"""

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from server.pacing.goals import (
    CLICK,
    CONVERSION,
    IMPRESSION,
    PPM,
    Flags,
    Goals,
    Numbers,
    Seen,
    Supply,
    Whole,
    between,
)

LAG_S: Final = 6.0  # from a rate's decision to the beacon's time in the ledger, and the plan's way
FAST_S: Final = 1500.0
SLOW_S: Final = 2 * 86_400.0
EVENTS_S: Final = 7 * 86_400.0
FAST_STRENGTH: Final = 25.0  # impressions: competition moves the level by a fifth within hours
EVENTS_STRENGTH: Final = 4.0  # events: a booked probability is wrong by a factor of two, often
SURE: Final = 5.0  # from this strength on a forecast is one, below it is a guess
RATES_KEPT: Final = 6
GAP_S: Final = 60.0  # a longer one without counts says nothing of supply: servers may have stopped
_SCHEMA: Final = 1
_SMALL: Final = 1e-9
_LINE: Final = ("impressions", "clicks", "conversions", "fast_seen", "fast_due", "slow_seen",
                "slow_due", "tried", "events")  # fmt: skip
_ACCOUNT: Final = ("spent", "even")


@dataclass(slots=True)
class State:
    """What is known of each line item and account, in the order of the goals it was made for."""

    goals: Goals
    time_s: float
    """What the counts last seen stood for; 0 before the first."""
    impressions: Whole
    clicks: Whole
    conversions: Whole
    """[n] as last seen."""
    fast_seen: Numbers
    fast_due: Numbers
    slow_seen: Numbers
    slow_due: Numbers
    """[n] impressions billed, and those due at the rates in force by the forecast alone."""
    tried: Numbers
    events: Numbers
    """[n] impressions, and events of the line item's own kind that came of them."""
    blocked: Flags
    """[n] as last seen."""
    spent: Numbers
    """[a] as last seen."""
    even: Numbers
    """[a] the share of its supply that had passed by `even_s`; -1 until the first step."""
    even_s: float
    rates: list[Whole]
    since_s: list[float]
    """The rates in force, the newest first, and since when."""

    @classmethod
    def fresh(cls, goals: Goals) -> "State":
        """Nothing learned: the first rates come from the forecast."""
        n, a = goals.lines, goals.accounts
        whole = np.zeros((3, n), np.int64)
        ratio = np.zeros((6, n))
        return cls(
            goals, 0.0, whole[0], whole[1], whole[2], ratio[0], ratio[1], ratio[2], ratio[3],
            ratio[4], ratio[5], np.zeros(n, np.bool_), np.zeros(a), np.full(a, -1.0), 0.0, [], []
        )  # fmt: skip

    @property
    def rates_ppm(self) -> Whole:
        """[n] in force now."""
        return self.rates[0] if self.rates else np.zeros(self.goals.lines, np.int64)

    def moved(self, goals: Goals) -> "State":
        """The same knowledge for other goals: line items by id, accounts by key; new ones fresh."""
        new = State.fresh(goals)
        new.time_s, new.even_s, new.since_s = self.time_s, self.even_s, list(self.since_s)
        here, there = _matching(goals.ids, self.goals.ids)
        for name in (*_LINE, "blocked"):
            getattr(new, name)[here] = getattr(self, name)[there]
        new.rates = [np.zeros(goals.lines, np.int64) for _ in self.rates]
        for mine, old in zip(new.rates, self.rates, strict=True):
            mine[here] = old[there]
        place = {key: number for number, key in enumerate(self.goals.keys)}
        for number, key in enumerate(goals.keys):
            if (old_number := place.get(key)) is not None:
                for name in _ACCOUNT:
                    getattr(new, name)[number] = getattr(self, name)[old_number]
        return new

    def packed(self) -> bytes:
        """All of it but the goals, for `{pace}:state`."""
        arrays = [np.ascontiguousarray(getattr(self, name), np.float64).tobytes()
                  for name in (*_LINE, *_ACCOUNT)]  # fmt: skip
        rates = [rates.astype("<i8").tobytes() for rates in self.rates]
        return msgspec.msgpack.encode(
            (_SCHEMA, self.goals.ids.astype("<i8").tobytes(), self.goals.keys, self.time_s,
             self.even_s, arrays, rates, self.since_s)
        )  # fmt: skip

    @classmethod
    def restored(cls, blob: bytes, goals: Goals) -> "State":
        """What `packed` gave, for these goals. ValueError: it is none of ours."""
        kind = tuple[int, bytes, tuple[str, ...], float, float, list[bytes], list[bytes],
                     list[float]]  # fmt: skip
        schema, ids, keys, time_s, even_s, arrays, rates, since_s = msgspec.msgpack.decode(
            blob, type=kind
        )
        if schema != _SCHEMA or len(arrays) != len(_LINE) + len(_ACCOUNT):
            raise ValueError(f"a pacing state of schema {schema}, not {_SCHEMA}")
        old = State.fresh(_named(np.frombuffer(ids, "<i8").astype(np.int64), keys))
        for name, raw in zip((*_LINE, *_ACCOUNT), arrays, strict=True):
            was = getattr(old, name)
            read = np.frombuffer(raw, "<f8").astype(was.dtype)
            if len(read) != len(was) or not np.isfinite(read).all():
                raise ValueError(f"a pacing state with a bad array: {name}")
            setattr(old, name, read)
        old.rates = [np.frombuffer(raw, "<i8").astype(np.int64) for raw in rates]
        if len(rates) != len(since_s) or any(len(r) != old.goals.lines for r in old.rates):
            raise ValueError("a pacing state with bad rates")
        old.time_s, old.even_s, old.since_s = time_s, even_s, since_s
        return old.moved(goals)


def observe(goals: Goals, state: State, supply: Supply, seen: Seen) -> None:
    """Take in what was billed since; without anything new (the same `time_s`) do nothing."""
    past_s = seen.time_s - state.time_s
    if past_s <= 0:
        return
    first = state.time_s == 0
    # Counts may go back when the ledger is made again from its log: no news then, for these.
    billed = seen.impressions - state.impressions
    counts = (billed >= 0) & ~first
    news = (counts & ~seen.blocked & ~state.blocked & (past_s <= GAP_S)).astype(np.float64)
    if not first:
        rows = np.arange(len(supply.shapes))
        whiles = (np.full(len(rows), state.time_s), np.full(len(rows), seen.time_s))
        passed = between(supply.cumulative, rows, *whiles)[supply.shape] * supply.scale
        due = passed * _in_force(state, seen.time_s)
        for memory_s, was_seen, was_due in (
            (FAST_S, state.fast_seen, state.fast_due),
            (SLOW_S, state.slow_seen, state.slow_due),
        ):
            kept = np.exp(-past_s / memory_s)
            was_seen *= kept
            was_due *= kept
            was_seen += billed * news
            was_due += due * news
        kept = np.exp(-past_s / EVENTS_S)
        state.tried *= kept
        state.events *= kept
        state.tried += np.where(counts, billed, 0)
        clicks = np.maximum(seen.clicks - state.clicks, 0)
        conversions = np.maximum(seen.conversions - state.conversions, 0)
        state.events += np.where(goals.event == CLICK, clicks, 0)
        state.events += np.where(goals.event == CONVERSION, conversions, 0)
    state.time_s = seen.time_s
    state.impressions = seen.impressions.copy()
    state.clicks, state.conversions = seen.clicks.copy(), seen.conversions.copy()
    state.spent, state.blocked = seen.spent.astype(np.float64), seen.blocked.copy()


def apply(state: State, rates_ppm: Whole, now_s: float) -> None:
    """Remember what is in force from now on."""
    state.rates.insert(0, rates_ppm.copy())
    state.since_s.insert(0, now_s)
    del state.rates[RATES_KEPT:], state.since_s[RATES_KEPT:]


def levels(state: State, supply: Supply) -> Numbers:
    """[n] what is billed at rate 1, over what was forecast."""
    # A guess may be wrong by orders of magnitude: what stands behind it gives way to impressions
    # seen, however few were due.
    strength = supply.strength
    crude = np.maximum((state.slow_seen + _SMALL) / np.maximum(state.slow_due, _SMALL), 1.0)
    trust = np.where(strength < SURE, state.slow_seen / (state.slow_seen + strength), 0.0)
    slow = (state.slow_seen + strength) / (state.slow_due + strength * crude**-trust)
    level = (state.fast_seen + FAST_STRENGTH) / (state.fast_due + FAST_STRENGTH / slow)
    return np.asarray(np.clip(level, 1e-5, 1e5))


def level_at_most(state: State, supply: Supply, a_second: Numbers) -> Numbers:
    """[n] how high the level could be, for all that was seen: what a rate is careful about."""
    sure = np.where(supply.strength >= SURE, supply.strength, 0.0)
    seen = (state.slow_seen + sure + 3.0) / np.maximum(state.slow_due + sure, _SMALL)
    return np.minimum(seen, supply.ceiling / np.maximum(a_second, _SMALL))


def chances(goals: Goals, state: State, strength: float = EVENTS_STRENGTH) -> Numbers:
    """[n] the probability of its event after an impression; 1 of an impression itself."""
    booked = np.maximum(goals.booked_ppm / PPM, 1e-6)
    prior = strength / booked
    learned = np.minimum((state.events + strength) / (state.tried + prior), 1.0)
    return np.where(goals.event == IMPRESSION, 1.0, learned)


def probabilities_ppm(goals: Goals, state: State) -> Whole:
    """[n] of its event after an impression, learned; -1: as booked (and of IMPRESSION)."""
    # It ranks ads too: shrunk more than what paces, so that luck does not win auctions.
    found = np.rint(chances(goals, state, 5 * EVENTS_STRENGTH) * PPM).astype(np.int64)
    tells = (goals.event != IMPRESSION) & (state.tried > 0) & (goals.booked_ppm > 0)
    return np.where(tells, np.clip(found, 1, PPM), -1)


def _in_force(state: State, until_s: float) -> Numbers:
    """[n] the mean rate of the decisions behind what was billed from `time_s` until then."""
    total = np.zeros(state.goals.lines)
    begin_s, end_s = state.time_s - LAG_S, until_s - LAG_S
    later_s = np.inf
    for number, (rates, since_s) in enumerate(zip(state.rates, state.since_s, strict=True)):
        oldest = number == len(state.rates) - 1
        low = begin_s if oldest else max(begin_s, since_s)
        part = min(end_s, later_s) - low
        if part > 0:
            total += rates * (part / PPM)
        later_s = min(later_s, since_s)
    return total / max(end_s - begin_s, _SMALL)


def _matching(new: Whole, old: Whole) -> tuple[Whole, Whole]:
    _, here, there = np.intersect1d(new, old, assume_unique=True, return_indices=True)
    return here.astype(np.int64), there.astype(np.int64)


def _named(ids: Whole, keys: tuple[str, ...]) -> Goals:
    """Goals of which only the names count: whose state it was."""
    n, a = len(ids), len(keys)
    line, flags = np.zeros(n), np.zeros(n, np.bool_)
    whole, account = np.zeros(n, np.int64), np.zeros(a)
    none = np.zeros(0, np.int64)
    return Goals(ids, whole, flags, line, line, flags, whole, whole, keys, account, account,
                 account, none, none, none, none, none, np.zeros(0), np.zeros((0, 0)),
                 0.0)  # fmt: skip
