"""What counts are summed by: spans of time, and all time.

| kind | of which moment | fields | for |
|---|---|---|---|
| `hour` | the ad was decided | `line.creative.site.measure` | reports |
| `window` | the lease was granted, else the log's time | `line.measure` | settling leases |
| `quarter` | the same | `line.measure` | a day's spend in any time zone, pacing |
| `ever` | none | `line.measure` | a budget without an end |

A line item's measures are those of `Spent`. What is summed by `window` is summed by `quarter` and
`ever` too, so the three always agree. A window, and a quarter with it, changes no more once it is
closed (`server.events.leases`); an hour may, for a month.
"""

from typing import Final, NamedTuple, Self

from server.errors import StoreError
from server.events.leases import WINDOW_S

HOUR: Final = "hour"
QUARTER: Final = "quarter"
WINDOW: Final = "window"


class Span(NamedTuple):
    seconds: int
    kept_s: int  # after its end, and in Redis after its last change


# Two months of reports; every quarter of a local day, of which the longest has 25 hours; what
# control has not settled while it was away.
SPANS: Final = {
    HOUR: Span(3600, 62 * 86_400),
    QUARTER: Span(900, 50 * 3600),
    WINDOW: Span(WINDOW_S, 2 * 3600),
}


class Bucket(NamedTuple):
    kind: str
    number: int = 0  # since 1970, UTC

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}" if self.kind in SPANS else self.kind

    @classmethod
    def parse(cls, text: str) -> Self:
        """StoreError if it is none of ours."""
        kind, _, number = text.partition(":")
        bucket = cls(kind, int(number) if number.isdecimal() else 0)
        if str(bucket) != text or (kind not in SPANS and bucket != EVER):
            raise StoreError(f"Redis has counts of {text!r}, which is none of ours")
        return bucket

    @property
    def start_s(self) -> int:
        """When it begins; 0 if it has no time."""
        return self.number * SPANS[self.kind].seconds if self.kind in SPANS else 0

    @property
    def kept_s(self) -> int:
        """How long it is kept; 0: for ever."""
        return SPANS[self.kind].kept_s if self.kind in SPANS else 0

    def is_over(self, now_s: int) -> bool:
        """Whether nobody need know it any more."""
        span = SPANS.get(self.kind)
        return span is not None and (self.number + 1) * span.seconds + span.kept_s < now_s


EVER: Final = Bucket("ever")


def hour(number: int) -> Bucket:
    return Bucket(HOUR, number)


def quarter(number: int) -> Bucket:
    return Bucket(QUARTER, number)


def window(number: int) -> Bucket:
    return Bucket(WINDOW, number)


class Spent(NamedTuple):
    """What is billed of one line item. Its fields are the names of the measures."""

    impressions: int = 0
    clicks: int = 0
    conversions: int = 0
    revenue_nanos: int = 0


Totals = dict[Bucket, dict[bytes, int]]
"""By bucket, by field: sums, or what is to be added to them."""


def add(totals: Totals, deltas: Totals) -> None:
    for bucket, fields in deltas.items():
        add_fields(totals.setdefault(bucket, {}), fields)


def add_fields(sums: dict[bytes, int], deltas: dict[bytes, int]) -> None:
    for field, delta in deltas.items():
        sums[field] = sums.get(field, 0) + delta


def forget(totals: Totals, now_s: int) -> None:
    """Let go of what is over."""
    for bucket in [bucket for bucket in totals if bucket.is_over(now_s)]:
        del totals[bucket]
