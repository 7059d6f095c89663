"""The shape of traffic by site and hour of week, learned from the ledger's hourly counts.

forecast = Forecast()                         # or Forecast.restored(blob)
each hour that has ended, once:               # hour: UTC seconds // 3600
    forecast.learn(hour, requests, impressions)
supply = forecast.supply(lines, now_s)        # after each, and when the catalog changes
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from server.pacing.goals import Supply

MEMORY_WEEKS: Final = 4.0  # an hour of the week seen so long ago counts a third


class Line(Struct, frozen=True):
    """What the forecast must know of a line item."""

    id: int
    sites: tuple[int, ...] = ()
    """Those its targeting names, if it does; empty: any. Only until it has delivered."""
    open_hours: tuple[bool, ...] = ()
    """[HOURS] by UTC hour of week, from its dayparts (`open_hours_utc`); empty: always."""


class Forecast:
    """Requests by site and hour of week; of each line item on which sites it delivers."""

    last_hour: int
    """The last hour learned; -1 before the first. Learn each hour once, in order; gaps are fine."""

    def learn(
        self,
        hour: int,
        requests: Mapping[int, int],
        impressions: Mapping[tuple[int, int], int],
    ) -> None:
        """Take in an hour that has ended: requests by site, impressions by (line item, site)."""
        raise ValueError

    def supply(self, lines: Sequence[Line], now_s: float) -> Supply:
        """The forecast for these line items, in this order (that of `Goals.ids`)."""
        raise ValueError

    def packed(self) -> bytes:
        """All that was learned, for `{pace}:state` (a few hundred bytes a site and line item)."""
        raise ValueError

    @classmethod
    def restored(cls, blob: bytes) -> "Forecast":
        """What `packed` gave. ValueError: it is none of ours."""
        raise ValueError


def open_hours_utc(
    dayparts: Sequence[tuple[Sequence[int], int, int]], zone: str, now_s: float
) -> tuple[bool, ...]:
    """[HOURS] from (weekdays 0..6 from Monday, start_hour, end_hour) in a time zone, as it is now.

    A UTC hour that is open in part counts as open.
    """
    raise ValueError
