"""What advertisers are charged: what was billed, up to the budgets that they booked.

    all that was billed ever, and when ─► step after step, against what is left ─► charged, free

No lease can hold back a click: it comes after its ad was shown, within a day, and whether it comes
nobody knows. So line items paid by clicks or conversions may be billed for a few more than their
budget has money for. These are the advertiser's for nothing.

Steps go in the order of time, and within one by the line item's id; whatever a budget of the line
item or its campaign, of the day or in total, has nothing left for is free. Budgets are those of
today's catalog.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from adcore.catalog import Catalog
from server.pacing.accounts import EVER, Account, day_bounds_s, line_item_accounts, period
from server.store.buckets import HOUR, QUARTER, SPANS, quarter
from server.store.counts import CountsStore

HOUR_S: Final = SPANS[HOUR].seconds
QUARTER_S: Final = SPANS[QUARTER].seconds
AHEAD_S: Final = 900  # a lease may be of a window that the clock of this machine has yet to see
NANOS_PER_MICRO: Final = 1000
_REVENUE: Final = b"revenue_nanos"

Nanos = dict[int, int]
"""By line item."""


class Charge(NamedTuple):
    hour: int
    line_item_id: int
    charged_nanos: int
    free_nanos: int


class Spending(NamedTuple):
    """What was billed: before a moment, and from it on in steps."""

    before: Nanos
    steps: dict[int, Nanos]  # by when they begin, in seconds
    is_by_hour: bool  # of the decision; else by the quarter of an hour in which it was billed


class Budgets:
    """The budgets of a catalog's line items and of their campaigns."""

    def __init__(self, catalog: Catalog) -> None:
        campaigns = {campaign.id: campaign for campaign in catalog.campaigns}
        self._of: dict[int, tuple[Account, ...]] = {}
        for item in catalog.line_items:
            accounts = line_item_accounts(item, campaigns[item.campaign_id])
            if found := tuple(each for each in accounts if each.name.endswith(".micros")):
                self._of[item.id] = found

    @property
    def _all(self) -> set[Account]:
        return {account for accounts in self._of.values() for account in accounts}

    @property
    def have_total(self) -> bool:
        """Whether what was spent long ago matters."""
        return any(not account.zone for account in self._all)

    @property
    def have_days(self) -> bool:
        return any(account.zone for account in self._all)

    def first_s(self, from_s: int) -> int:
        """Give when the earliest of the days begins that a moment lies in; or the moment itself."""
        zones = {account.zone for account in self._all if account.zone}
        days = [day_bounds_s(period(from_s, zone), zone)[0] for zone in zones]
        return min([from_s, *days])

    def charge(self, spending: Spending) -> Iterator[Charge]:
        """Give what each line item is charged for each step, and what it has for nothing."""
        left = self._left(spending.before)
        for start_s in sorted(spending.steps):
            for line, nanos in sorted(spending.steps[start_s].items()):
                keys = []
                for account in self._of.get(line, ()):
                    key = (account.name, account.period(start_s))
                    left.setdefault(key, account.limit * NANOS_PER_MICRO)
                    keys.append(key)
                charged = min([nanos, *(left[key] for key in keys)])
                for key in keys:
                    left[key] -= charged
                yield Charge(start_s // HOUR_S, line, charged, nanos - charged)

    def _left(self, before: Nanos) -> dict[tuple[str, str], int]:
        """Give what the budgets without days have left at the beginning."""
        left: dict[tuple[str, str], int] = {}
        for line, accounts in self._of.items():
            charged = before.get(line, 0)
            for account in accounts:  # its own first: what was free is not its campaign's to pay
                if not account.zone:
                    key = (account.name, EVER)
                    limit = left.get(key, account.limit * NANOS_PER_MICRO)
                    charged = min(charged, limit)
                    left[key] = limit - charged
        return left


def spent(stores: list[CountsStore], budgets: Budgets, from_s: int, now_s: int) -> Spending | None:
    """Read what was billed from the first day on that a moment belongs to.

    By quarters while Redis has all of them. None while the counts of a shard are being rebuilt.
    """
    first_s = budgets.first_s(from_s) // HOUR_S * HOUR_S
    is_by_hour = quarter(first_s // QUARTER_S).is_over(now_s)
    steps: dict[int, Nanos] = {}
    ever: Nanos = {}
    for store in stores:
        if store.place()[1] is None:
            return None
        read = _by_hour(store, first_s) if is_by_hour else _by_quarter(store, first_s, now_s)
        for start_s, line, nanos in read:
            _add(steps.setdefault(start_s, {}), line, nanos)
        # After the steps: what comes meanwhile is taken for older than it is, and never for free.
        if budgets.have_total:
            time_s, lines = store.ever()
            if time_s is None:
                return None
            for line, sums in lines.items():
                _add(ever, line, sums.revenue_nanos)
    for step in steps.values():
        for line, nanos in step.items():
            _add(ever, line, -nanos)
    return Spending({line: max(nanos, 0) for line, nanos in ever.items()}, steps, is_by_hour)


def _by_quarter(store: CountsStore, first_s: int, now_s: int) -> Iterator[tuple[int, int, int]]:
    numbers = range(first_s // QUARTER_S, (now_s + AHEAD_S) // QUARTER_S + 1)
    for number, lines in store.quarters(numbers)[1].items():
        for line, sums in lines.items():
            if sums.revenue_nanos:
                yield number * QUARTER_S, line, sums.revenue_nanos


def _by_hour(store: CountsStore, first_s: int) -> Iterator[tuple[int, int, int]]:
    hours = [hour for hour in store.hours() if hour * HOUR_S >= first_s]
    for hour, _, fields in store.read(hours):
        for line, nanos in _revenue(fields.items()):
            yield hour * HOUR_S, line, nanos


def _revenue(fields: Iterable[tuple[bytes, int]]) -> Iterator[tuple[int, int]]:
    for field, nanos in fields:
        if field.endswith(_REVENUE):
            yield int(field.partition(b".")[0]), nanos


def _add(sums: Nanos, line: int, nanos: int) -> None:
    sums[line] = sums.get(line, 0) + nanos
