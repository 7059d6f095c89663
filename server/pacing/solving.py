"""The leader's knowledge, and a plan made of it: reads counts, learns, solves. No Redis of its own.

catalog ─► booked ─┐
hours ─► forecast ─┼─► observe, rates ─► a plan
counts ─► billed ──┘
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

import numpy as np

from adcore.catalog import Catalog
from server.errors import StoreError
from server.pacing import pace, ranking
from server.pacing.booked import UNITS, Booked, booked
from server.pacing.counted import Billed, Counted, Counts
from server.pacing.forecast import Forecast
from server.pacing.goals import Flags, Numbers, Seen, Supply, Whole
from server.pacing.state import State
from server.store.learned import SCHEMA, Learned

HOUR_S: Final = 3600
HOUR_READY_S: Final = 600  # after its end: what was decided in it has been billed, but for clicks
HOURS_LEARNED_MAX: Final = 5 * 7 * 24  # of the past: what the forecast still remembers
HOURS_A_STEP: Final = 6  # reading a busy hour takes a tenth of a second
SUPPLY_S: Final = 3600.0  # until daylight saving and closed hours are looked up again

# Impressions of one line item, where no hour was learned yet. Without it, rates would take minutes
# to rise in a new installation. What a wrong guess may cost is bounded anyway: a window of ten
# seconds grants a fiftieth of a limit at most.
A_SECOND_UNKNOWN: Final = 100.0

log = logging.getLogger(__name__)


class Hours(Counts, Protocol):
    """What is asked of a shard's `server.store.counts.CountsStore`."""

    def hours(self) -> list[int]: ...
    def read(self, hours: list[int]) -> Iterator[tuple[int, str, dict[bytes, int]]]: ...


class Solution(NamedTuple):
    """A plan's columns, by line item."""

    ids: Whole
    rates_ppm: Whole
    probabilities_ppm: Whole
    multipliers_ppm: Whole | None  # None: nobody is ranked other than by price


class Solver:
    """All that a leader knows of one catalog. `solve` gives a plan's rates, or None."""

    def __init__(self, shards: Sequence[Hours], required: int) -> None:
        self.booked: Booked | None = None
        self.state: State | None = None
        self.supply: Supply | None = None
        self.forecast = Forecast()
        self.billed: Billed | None = None
        self._shards = shards
        self._counted = Counted(shards, required)
        self._catalog: Catalog | None = None
        self._supply_s = 0.0
        self._is_old = False  # the forecast has learned since `supply` was made of it
        self._steps: dict[int, float] = {}  # of need, by line item: what it was ranked by
        self._learned: Learned | None = None  # until there is a catalog to read it for

    def restore(self, learned: Learned | None) -> None:
        """Begin with what another leader had learned, if it can be understood."""
        self.state, self.supply, self._learned = None, None, learned
        self.forecast = Forecast()
        if learned is not None:
            try:
                self.forecast = Forecast.restored(learned.forecast)
            except ValueError as error:
                log.warning("a forecast that can't be read", extra={"detail": str(error)})
        if self._catalog is not None:
            self.follow(self._catalog, round(self._supply_s))

    def follow(self, catalog: Catalog, now_s: int) -> None:
        """Go by this catalog, on this day, keeping what was learned of what is still in it."""
        self._catalog = catalog
        self.booked = booked(catalog, now_s)
        self.supply = None
        if self.state is not None:
            self.state = self.state.moved(self.booked.goals)
            return
        self.state = State.fresh(self.booked.goals)
        if self._learned is not None:
            try:
                self.state = State.restored(self._learned.state, self.booked.goals)
            except ValueError as error:
                log.warning("a state that can't be read", extra={"detail": str(error)})
            self._learned = None

    def learn(self, now_s: float) -> None:
        """Take in some of the hours that have ended, the oldest first."""
        ready = int(now_s - HOUR_READY_S) // HOUR_S - 1
        first = max(self.forecast.last_hour + 1, ready - HOURS_LEARNED_MAX)
        if first > ready:
            return
        known = {hour for shard in self._shards for hour in shard.hours() if first <= hour <= ready}
        for hour in sorted(known)[:HOURS_A_STEP]:
            self.forecast.learn(hour, *_hour(self._shards, hour))
            self._is_old = True
        if not known:
            # So that the same hours are not looked for each time.
            self.forecast.last_hour = ready

    def solve(self, now_s: float, ghosts: int | None = 0) -> Solution | None:
        """Solve for now; None without a catalog, or whole counts."""
        if self._catalog is None or self.booked is None or self.state is None:
            return None
        if now_s >= self.booked.goals.until_s:
            self.follow(self._catalog, int(now_s))
        goals = self.booked.goals
        if self.supply is None or self._is_old or now_s - self._supply_s > SUPPLY_S:
            supply = supply_of(self.forecast, self.booked, now_s)
            if self.supply is not None:
                pace.rescale(self.state, self.supply, supply)
            self.supply, self._supply_s, self._is_old = supply, now_s, False
        self.billed = self._counted.look(self.booked)
        if self.billed is None:
            return None
        seen = seen_of(self.booked, self.billed, ghosts)
        pace.observe(goals, self.state, self.supply, seen, now_s)
        rates_ppm = pace.rates(goals, self.state, self.supply, now_s)
        probabilities_ppm = pace.probabilities_ppm(goals, self.state)
        needs = pace.needs(goals, self.state, self.supply, now_s)
        multipliers_ppm = self._ranked(self.booked, needs, now_s)
        return Solution(goals.ids, rates_ppm, probabilities_ppm, multipliers_ppm)

    def _ranked(self, booked: Booked, needs: Numbers, now_s: float) -> Whole | None:
        """Give what the scarcer are ranked before others by, if anybody competes."""
        ids = booked.goals.ids.tolist()
        before = np.array([self._steps.get(id_, np.nan) for id_ in ids], np.float64)
        steps = ranking.steps(needs, before)
        self._steps = dict(zip(ids, steps.tolist(), strict=True))
        return ranking.multipliers_ppm(booked.goals, booked.ecpms, steps, now_s)

    def applied(self, rates_ppm: Whole, now_s: float) -> None:
        """Tell that these rates are in force."""
        if self.state is not None:
            pace.apply(self.state, rates_ppm, now_s)

    def learned(self, version: int, generation: int, now_s: float) -> Learned | None:
        if self.state is None:
            return None
        packed = self.state.packed(), self.forecast.packed()
        return Learned(SCHEMA, version, int(now_s), generation, *packed)


def supply_of(forecast: Forecast, booked: Booked, now_s: float) -> Supply:
    """Give the forecast; of traffic that nothing is known of, say that it has a bound."""
    supply = forecast.supply(booked.lines, now_s)
    ceiling = np.minimum(supply.ceiling, A_SECOND_UNKNOWN)
    return replace(supply, ceiling=np.where(np.isinf(supply.ceiling), ceiling, supply.ceiling))


def seen_of(booked: Booked, billed: Billed, ghosts: int | None = 0) -> Seen:
    """Make what is seen; `ghosts`: windows that are held back, None when nothing is granted."""
    return Seen(
        time_s=float(billed.time_s),
        impressions=billed.ever[:, UNITS.index("impressions")],
        clicks=billed.ever[:, UNITS.index("clicks")],
        conversions=billed.ever[:, UNITS.index("conversions")],
        spent=billed.spent,
        blocked=_blocked(booked, billed, ghosts),
    )


def _blocked(booked: Booked, billed: Billed, ghosts: int | None) -> Flags:
    """[n] whether one of its limits has something left, and all of that is held back by ghosts."""
    goals = booked.goals
    if ghosts is None:
        return np.ones(goals.lines, np.bool_)
    accounts = [limited.account for limited in booked.limits]
    held = ghosts * np.array([each.window_max / each.parts for each in accounts], np.float64)
    left = goals.limit - billed.spent
    found = np.zeros(goals.lines, np.bool_)
    found[goals.use_line[((left > 0) & (left <= held))[goals.use_account]]] = True
    return found


def _hour(shards: Sequence[Hours], hour: int) -> tuple[dict[int, int], dict[tuple[int, int], int]]:
    """Sum an hour's requests by site, and its impressions by line item and site."""
    requests: dict[int, int] = {}
    impressions: dict[tuple[int, int], int] = {}
    for shard in shards:
        for _, _, fields in shard.read([hour]):
            for field, amount in fields.items():
                line, _, site, measure = _split(field)
                if measure == b"requests":
                    requests[int(site)] = requests.get(int(site), 0) + amount
                elif measure == b"impressions" and line != b"0":
                    key = int(line), int(site)
                    impressions[key] = impressions.get(key, 0) + amount
    return requests, impressions


def _split(field: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    try:
        line, creative, site, measure = field.split(b".", 3)
    except ValueError:
        raise StoreError(f"Redis has the count {field!r}, which is none of ours") from None
    return line, creative, site, measure
