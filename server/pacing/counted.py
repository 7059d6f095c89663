"""What the ledger has billed, from Redis into the arrays that `pace` reckons with.

A day's spend is the sum of its quarters of an hour. One whose leases are all settled is final: it
is read once. So a look costs the sums for all time, and the two or three quarters not final yet.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from server.events.leases import WINDOW_S, closed_window
from server.pacing.accounts import EVER
from server.pacing.booked import QUARTER_S, UNITS, Booked
from server.pacing.goals import Numbers, Whole
from server.store.buckets import Spent

QUARTERS_KEPT: Final = 28 * 4  # the longest day, and the last 24 hours, begin after that
NANOS_PER_MICRO: Final = 1000
WINDOWS_PER_QUARTER: Final = QUARTER_S // WINDOW_S

SpentByLine = Mapping[int, Spent]


class Counts(Protocol):
    """What is asked of a shard's `server.store.counts.CountsStore`."""

    def ever(self) -> tuple[int | None, SpentByLine]: ...
    def quarters(self, numbers: Iterable[int]) -> tuple[int | None, Mapping[int, SpentByLine]]: ...


@dataclass(frozen=True, slots=True)
class Billed:
    """Of each line item and account, in a `Booked`'s order."""

    time_s: int
    """What all of it stands for: the least time of the shards that go on."""
    ever: Whole
    """[n, 4] billed for all time, in the order of UNITS."""
    spent: Numbers
    """[a] billed of each account in its period."""


def final_quarter(time_s: int) -> int:
    """Give the last quarter that a log with this time has closed for good."""
    return (closed_window(time_s) + 1) // WINDOWS_PER_QUARTER - 1


class Counted:
    """The counts of all shards, read again and again. For one thread.

    The first `required` of them go on; the time of what is left is that of a shard's last day.
    """

    def __init__(self, shards: Sequence[Counts], required: int) -> None:
        self._shards = shards
        self._required = required
        self._final: list[dict[int, SpentByLine]] = [{} for _ in shards]
        self._booked: Booked | None = None
        self._days: dict[str, _Day] = {}

    def look(self, booked: Booked) -> Billed | None:
        """Read what is billed by now; None when a shard's counts are not whole."""
        places = {int(number): place for place, number in enumerate(booked.goals.ids)}
        ever = np.zeros((len(places), len(UNITS)), np.int64)
        times: list[int] = []
        for shard in self._shards:
            time_s, spent = shard.ever()
            if time_s is None:
                return None
            times.append(time_s)
            _add(ever, spent, places)
        now_s, latest_s = min(times[: self._required]), max(times)
        if booked is not self._booked:
            self._booked = booked
            self._days = {
                zone: _Day(start, np.zeros_like(ever)) for zone, (start, _) in booked.days.items()
            }
        days: dict[str, Whole] = {}
        for zone, (_, end) in booked.days.items():
            day = self._days[zone]
            quarters = self.quarters(range(day.following, min(end, latest_s // QUARTER_S + 1)))
            if quarters is None:
                return None
            days[zone] = day.with_(quarters, final_quarter(now_s), places)
        for sums in (ever, *days.values()):
            sums[:, UNITS.index("micros")] //= NANOS_PER_MICRO
        return Billed(now_s, ever, _by_account(booked, ever, days))

    def quarters(self, numbers: Iterable[int]) -> dict[int, SpentByLine] | None:
        """Give what was billed in each of these quarters; None when counts are not whole."""
        wanted = [*numbers]
        sums: dict[int, dict[int, Spent]] = {number: {} for number in wanted}
        for shard, final in zip(self._shards, self._final, strict=True):
            missing = [number for number in wanted if number not in final]
            found: Mapping[int, SpentByLine] = {}
            if missing:
                time_s, found = shard.quarters(missing)
                if time_s is None:
                    return None
                last = final_quarter(time_s)
                final.update((number, found[number]) for number in missing if number <= last)
                for number in [number for number in final if number < last - QUARTERS_KEPT]:
                    del final[number]
            for number in wanted:
                of_quarter = sums[number]
                for line, spent in (final.get(number) or found.get(number) or {}).items():
                    before = of_quarter.get(line)
                    of_quarter[line] = spent if before is None else _sum(before, spent)
        return dict(sums)


@dataclass(slots=True)
class _Day:
    """A local day's quarters that are final, added up; of one `Booked`."""

    following: int  # the first quarter that is not among them
    sums: Whole

    def with_(
        self, quarters: Mapping[int, SpentByLine], final: int, places: Mapping[int, int]
    ) -> Whole:
        """Add the quarters up; what is final stays."""
        open_sums = np.zeros_like(self.sums)
        for number, spent in sorted(quarters.items()):
            if number <= final:
                _add(self.sums, spent, places)
                self.following = number + 1
            else:
                _add(open_sums, spent, places)
        return self.sums + open_sums


def _sum(one: Spent, other: Spent) -> Spent:
    return Spent(*map(int.__add__, one, other))


def _add(sums: Whole, spent: SpentByLine, places: Mapping[int, int]) -> None:
    rows, values = [], []
    for line, amounts in spent.items():
        place = places.get(line)
        if place is not None:
            rows.append(place)
            values.append(amounts)
    if rows:
        sums[rows] += np.array(values, np.int64)


def _by_account(booked: Booked, ever: Whole, days: Mapping[str, Whole]) -> Numbers:
    """[a] the sum over an account's line items, of its unit, in its period."""
    goals = booked.goals
    if not goals.accounts:
        return np.zeros(0)
    periods = {EVER: 0} | {zone: number for number, zone in enumerate(days, 1)}
    sums = np.stack([ever, *days.values()])
    column = np.array([UNITS.index(limited.unit) for limited in booked.limits])
    period = np.array(
        [
            0 if limited.period == EVER else periods[limited.account.zone]
            for limited in booked.limits
        ]
    )
    account = goals.use_account
    amounts = sums[period[account], goals.use_line, column[account]]
    found: Numbers = np.bincount(account, amounts, goals.accounts).astype(np.float64)
    return found
