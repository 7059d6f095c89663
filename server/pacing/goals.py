"""What was bought and what is seen of it, as arrays: the words that `pace` and `forecast` share.

A *line* is a line item's place in these arrays, an *account* a limit's (spec: what may be spent
once), a *use* says that impressions of a line cost something of an account.
"""

from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.float64]
Whole: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

HOURS: Final = 168  # of a week, from Monday 00:00 UTC
PPM: Final = 1_000_000

EVEN, FRONTLOADED, ASAP, CUSTOM = range(4)
"""How an account is spent. A campaign's is ASAP when all its line items are, else EVEN: it limits,
and leaves the shape to them. A line item's daily account is EVEN when the line item is
FRONTLOADED: what is brought forward is the flight's."""

IMPRESSION, CLICK, CONVERSION = range(3)
"""What a price is paid for, and what a limit counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Goals:
    """What was bought. Made again when the catalog changes or a day ends (at `until_s`).

    Of n line items, a accounts and u uses; every index is into the other arrays here.
    """

    ids: Whole
    """[n] line item ids, rising."""
    priority: Whole
    """[n] its tier: the smaller number is served first."""
    guaranteed: Flags
    """[n] of a tier in which each line item has a goal of impressions, and time for it: there the
    scarcest is given supply first (`ranking`)."""
    start_s: Numbers
    end_s: Numbers
    """[n] the flight. Outside of it, and while `active` is false, the rate is 0."""
    active: Flags
    """[n] neither paused itself nor its campaign."""
    event: Whole
    """[n] what its rate type pays for: IMPRESSION (CPM, flat), CLICK or CONVERSION."""
    booked_ppm: Whole
    """[n] how likely that event is after an impression, as booked; PPM for IMPRESSION."""

    keys: tuple[str, ...]
    """[a] an account's name with its period, `ever/l42.impressions`, `2026-11-30/c7.micros`."""
    limit: Numbers
    """[a] whole impressions, clicks, conversions or micros; > 0."""
    begin_s: Numbers
    close_s: Numbers
    """[a] when it is to be spent: its flight, or one local day of it. close > begin."""
    pacing: Whole
    """[a] EVEN, FRONTLOADED, ASAP or CUSTOM."""
    curve: Whole
    """[a] of CUSTOM: its row in `curves`; else -1."""

    use_line: Whole
    use_account: Whole
    """[u] each pair once. Lines without any use go at full rate."""
    use_event: Whole
    """[u] what costs: IMPRESSION, CLICK or CONVERSION."""
    use_price: Numbers
    """[u] what one such event takes from the account: 1 where units are limited, of micros the
    price (of a CPM: a thousandth)."""

    curves: Numbers
    """[c, HOURS] weights of CUSTOM by UTC hour of week, from `curve_utc`; [0, HOURS] without."""
    until_s: float
    """When these goals are out of date: the first close of a daily account, or infinity."""

    @property
    def lines(self) -> int:
        return len(self.ids)

    @property
    def accounts(self) -> int:
        return len(self.limit)


@dataclass(frozen=True, slots=True, eq=False)
class Supply:
    """The forecast: impressions that a line item would be billed at rate 1, by hour of week.

    Of line l in hour h: `scale[l] * shapes[shape[l], h]` a second. Lines that are alike share a
    row. `pace` learns from what it sees how far off `scale` is; it may be wrong at first.
    """

    shapes: Numbers
    """[k, HOURS] >= 0, of any unit; hours in which a daypart forbids it are 0."""
    shape: Whole
    """[n] the row of each line."""
    scale: Numbers
    """[n] >= 0."""
    strength: Numbers
    """[n] how many impressions of evidence stand behind `scale`: 25 is a sure 20 %, 1 a guess."""
    ceiling: Numbers
    """[n] impressions a second, at the most, were all traffic of its sites at their peak its own;
    infinity when not known. What a new line item is careful about."""
    cumulative: Numbers = field(init=False)
    """[k, HOURS + 1] what `shapes` come to from Monday 00:00 UTC on, in seconds."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cumulative", cumulative(self.shapes))

    def between(self, line: Whole, begin_s: Numbers, end_s: Numbers) -> Numbers:
        """Impressions forecast at rate 1 for these lines from begin to end; 0 if end <= begin."""
        row = self.shape[line]
        return self.scale[line] * between(self.cumulative, row, begin_s, end_s)


def cumulative(weekly: Numbers) -> Numbers:
    """[k, HOURS + 1] the running integral of hourly rates, in seconds."""
    sums = np.zeros((len(weekly), HOURS + 1))
    np.cumsum(weekly * 3600.0, axis=1, out=sums[:, 1:])
    return sums


def between(sums: Numbers, row: Whole, begin_s: Numbers, end_s: Numbers) -> Numbers:
    """The integral from begin to end, of one row of `cumulative` each; 0 if end <= begin."""
    return np.maximum(until(sums, row, end_s) - until(sums, row, begin_s), 0.0)


def until(sums: Numbers, row: Whole, moment_s: Numbers) -> Numbers:
    """The integral since 1970, of one row of `cumulative` each."""
    hours = np.asarray(moment_s) / 3600.0 + 72.0  # 1970 began on a Thursday
    weeks = np.floor(hours / HOURS)
    hours = hours - weeks * HOURS
    whole = np.minimum(hours.astype(np.int64), HOURS - 1)
    flat = sums.reshape(-1)
    place = row * (HOURS + 1) + whole
    low = flat[place]
    total: Numbers = weeks * sums[row, HOURS] + low + (hours - whole) * (flat[place + 1] - low)
    return total


@dataclass(frozen=True, slots=True)
class Seen:
    """What the ledger has billed, as of its own time. All totals, never differences."""

    time_s: float
    """What the counts stand for (`{count}:time`, the least of all shards), UTC seconds."""
    impressions: Whole
    clicks: Whole
    conversions: Whole
    """[n] billed of each line item, ever."""
    spent: Numbers
    """[a] billed of each account in its period, settled or not."""
    blocked: Flags
    """[n] no lease could be had lately (Redis away, ghosts, not opened): no word on supply."""
