"""The shape of traffic by site and hour of week, learned from the ledger's hourly counts.

    forecast = Forecast()                         # or Forecast.restored(blob)
    each hour that has ended, once:               # hour: UTC seconds // 3600
        forecast.learn(hour, requests, impressions)
    supply = forecast.supply(lines, now_s)        # after each, and when the catalog changes

Only the shape must be right. How much of a site's traffic a line item could win nobody knows
beforehand: all start from the same guess, and `pace` learns the level from what is billed. The
ledger counts by site and not by placement, so a site is the smallest thing forecast.

An hour of the week of one site is seen four times a month. It is shrunk towards the site's level
times the shape of all sites, and that towards the hour of day's: a new site looks like all others.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from msgspec import Struct

from server.pacing.goals import HOURS, Numbers, Supply

MEMORY_WEEKS: Final = 4.0  # an hour of the week seen so long ago counts a third
MIX_HOURS: Final = 168.0  # and where a line item delivered
SHRINK: Final = 0.2  # weeks of evidence that stand against an hour's own: weeks are much alike
SHARE: Final = 0.05  # the first guess: of its sites' requests a line item wins so many
GUESS: Final = 1.0  # what it is worth, in impressions of evidence
PLACES: Final = 2.0  # impressions of one line item a request at most, for the ceiling
PARTS: Final = 8  # a line item's mix of sites is told in eighths, so that many share a row
_ROUNDS: Final = 3
_SCHEMA: Final = 1


class Line(Struct, frozen=True):
    """What the forecast must know of a line item."""

    id: int
    sites: tuple[int, ...] = ()
    """Those its targeting names, if it does; empty: any."""
    open_hours: tuple[bool, ...] = ()
    """[HOURS] by UTC hour of week, from its dayparts (`open_hours_utc`); empty: always."""


class Forecast:
    """Requests by site and hour of week; of each line item on which sites it delivers."""

    def __init__(self) -> None:
        self.last_hour = -1
        """The last hour learned; -1 before the first. Learn each hour once, in order."""
        self._sites: dict[int, int] = {}
        self._sums = np.zeros((0, HOURS))  # requests an hour, decayed
        self._seen = np.zeros((0, HOURS))  # hours they are of, decayed alike
        self._mixes: dict[int, dict[int, float]] = {}  # line item -> site -> impressions, decayed

    # -- learning

    def learn(
        self,
        hour: int,
        requests: Mapping[int, int],
        impressions: Mapping[tuple[int, int], int],
    ) -> None:
        """Take in an hour that has ended: requests by site, impressions by (line item, site)."""
        if hour <= self.last_hour:
            return
        passed = hour - self.last_hour if self.last_hour >= 0 else 0
        self.last_hour = hour
        new = [site for site in sorted(requests) if site not in self._sites and requests[site] > 0]
        for site in new:
            self._sites[site] = len(self._sites)
        more = np.zeros((len(new), HOURS))
        self._sums, self._seen = np.r_[self._sums, more], np.r_[self._seen, more]
        place = week_hour(hour)
        kept = np.exp(-1.0 / MEMORY_WEEKS)
        self._sums[:, place] *= kept
        self._seen[:, place] *= kept
        self._seen[:, place] += 1.0  # a known site without requests had none
        for site, count in requests.items():
            if (row := self._sites.get(site)) is not None:
                self._sums[row, place] += max(count, 0)
        self._learn_mixes(float(np.exp(-passed / MIX_HOURS)), impressions)

    def _learn_mixes(self, kept: float, impressions: Mapping[tuple[int, int], int]) -> None:
        for line, mix in list(self._mixes.items()):
            left = {site: value * kept for site, value in mix.items() if value * kept >= 0.01}
            if left:
                self._mixes[line] = left
            else:
                del self._mixes[line]
        for (line, site), count in impressions.items():
            if count > 0:
                mix = self._mixes.setdefault(line, {})
                mix[site] = mix.get(site, 0.0) + count

    # -- telling

    def traffic(self) -> tuple[dict[int, int], Numbers]:
        """The row of each site, and [row, HOURS] requests a second."""
        return dict(self._sites), self._hourly() / 3600.0

    def _hourly(self) -> Numbers:
        """[site, HOURS] requests an hour."""
        everywhere = np.ones(HOURS)
        level = np.zeros(len(self._sums))
        # Each site by its own level, else one that is new and small would bend the shape of all.
        for _ in range(_ROUNDS):
            level = self._sums.sum(axis=1) / np.maximum((self._seen * everywhere).sum(axis=1), 1e-9)
            everywhere = _shape(self._sums.sum(axis=0), level @ self._seen, level.sum())
        prior = level[:, None] * everywhere
        hourly: Numbers = (self._sums + SHRINK * prior) / (self._seen + SHRINK)
        return hourly

    def supply(self, lines: Sequence[Line], now_s: float) -> Supply:
        """The forecast for these line items, in this order (that of `Goals.ids`)."""
        rates = self._hourly() / 3600.0
        rows: dict[object, int] = {}
        shapes: list[Numbers] = []
        ceilings: list[float] = []
        of_line = np.zeros(len(lines), np.int64)
        for number, line in enumerate(lines):
            key = (self._mix(line), frozenset(line.sites), line.open_hours)
            row = rows.get(key)
            if row is None:
                row = rows[key] = len(shapes)
                shape, most = self._row(rates, *key)
                shapes.append(shape)
                ceilings.append(most)
            of_line[number] = row
        n = len(lines)
        return Supply(
            shapes=np.array(shapes).reshape(-1, HOURS), shape=of_line, scale=np.full(n, SHARE),
            strength=np.full(n, GUESS), ceiling=np.array(ceilings)[of_line] if n else np.zeros(0),
        )  # fmt: skip

    def _mix(self, line: Line) -> tuple[tuple[int, int], ...]:
        """In eighths, by site; what is missing of eight is everywhere."""
        mix = self._mixes.get(line.id)
        if not mix:
            return ()
        total = sum(mix.values())
        parts = ((site, int(PARTS * value / total + 0.5)) for site, value in sorted(mix.items()))
        return tuple((site, count) for site, count in parts if count and site in self._sites)

    def _row(
        self,
        rates: Numbers,
        mix: tuple[tuple[int, int], ...],
        sites: frozenset[int],
        open_hours: tuple[bool, ...],
    ) -> tuple[Numbers, float]:
        """Requests a second by hour of week, and the most a second.

        The level is that of all sites it may run on; where it delivers gives the shape alone. So a
        mix that becomes known does not throw the level over that `pace` has learned.
        """
        mine = [self._sites[site] for site in sites if site in self._sites]
        reach = rates[mine] if sites else rates
        total = reach.sum(axis=0)
        if total.sum() <= 0:  # nothing known of any: some traffic, at all hours
            total, most = np.ones(HOURS), np.inf
        else:
            most = PLACES * float(total.max())
        shape = total / total.mean()
        if mix:
            counts = np.array([count for _, count in mix], np.float64)
            own = rates[[self._sites[site] for site, _ in mix]]
            own = own / np.maximum(own.mean(axis=1, keepdims=True), 1e-9)
            rest = max(PARTS - counts.sum(), 0.0)
            shape = (counts @ own + rest * shape) / (counts.sum() + rest)
        found = shape * total.mean()
        return (found * np.array(open_hours) if open_hours else found), most

    # -- keeping

    def packed(self) -> bytes:
        """All that was learned, for `{pace}:state` (3 KiB a site, 20 bytes a line item's site)."""
        return msgspec.msgpack.encode(
            (_SCHEMA, self.last_hour, list(self._sites), self._sums.astype("<f8").tobytes(),
             self._seen.astype("<f8").tobytes(), self._mixes)
        )  # fmt: skip

    @classmethod
    def restored(cls, blob: bytes) -> "Forecast":
        """What `packed` gave. ValueError: it is none of ours."""
        kind = tuple[int, int, list[int], bytes, bytes, dict[int, dict[int, float]]]
        schema, last_hour, sites, sums, seen, mixes = msgspec.msgpack.decode(blob, type=kind)
        if schema != _SCHEMA:
            raise ValueError(f"a forecast of schema {schema}, not {_SCHEMA}")
        found = cls()
        found.last_hour = last_hour
        found._sites = {site: row for row, site in enumerate(sites)}
        found._sums = np.frombuffer(sums, "<f8").reshape(-1, HOURS).astype(np.float64)
        found._seen = np.frombuffer(seen, "<f8").reshape(-1, HOURS).astype(np.float64)
        found._mixes = mixes
        if len(found._sums) != len(sites) or found._seen.shape != found._sums.shape:
            raise ValueError("a forecast with bad sums")
        return found


def week_hour(hour: int) -> int:
    """Hours since 1970, a Thursday, to the hour of a week that begins on Monday."""
    return (hour + 72) % HOURS


def _shape(sums: Numbers, due: Numbers, a_week: float) -> Numbers:
    """[HOURS] of mean 1: hour of week shrunk to hour of day, and that to no shape at all.

    `due` is what there would be without any shape, `a_week` what one week's hour adds to it.
    """
    if due.sum() <= 0:
        return np.ones(HOURS)
    doubt = SHRINK * a_week
    by_day, due_by_day = sums.reshape(7, 24).sum(axis=0), due.reshape(7, 24).sum(axis=0)
    day = (by_day + doubt * sums.sum() / due.sum()) / (due_by_day + doubt)
    week = (sums + doubt * np.tile(day, 7)) / (due + doubt)
    shape: Numbers = week / week.mean()
    return shape


def open_hours_utc(
    dayparts: Sequence[tuple[Sequence[int], int, int]], zone: str, now_s: float
) -> tuple[bool, ...]:
    """[HOURS] from (weekdays 0..6 from Monday, start_hour, end_hour) in a time zone, as it is now.

    A UTC hour that is open in part counts as open. Empty without dayparts: always.
    """
    if not dayparts:
        return ()
    local = np.zeros((7, 24), np.bool_)
    for days, start_hour, end_hour in dayparts:
        local[list(days), start_hour:end_hour] = True
    quarters = np.roll(np.repeat(local.reshape(HOURS), 4), -offset_quarters(zone, now_s))
    return tuple(bool(part.any()) for part in quarters.reshape(HOURS, 4))


def offset_quarters(zone: str, now_s: float) -> int:
    """How many quarters of an hour a zone is ahead of UTC."""
    offset = datetime.fromtimestamp(now_s, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    assert offset is not None
    return round(offset.total_seconds() / 900)
