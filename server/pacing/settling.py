"""What control does to the accounts: settle what the ledger has closed, open what is new, reset.

Every step starts from what Redis says, so it may be left at any point, and done again by another
control. Nothing is settled that a shard has not closed, and nothing is read as the truth while a
shard's counts are being made again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol, TypeAlias

from adcore.catalog import Catalog
from server.events.leases import closed_window, window_of, window_start_s
from server.pacing.accounts import (
    EVENT_PARTS,
    EVER,
    accounts_of,
    campaign_prefix,
    day_bounds_s,
    line_item_prefix,
    parts_of,
    period,
)
from server.store import buckets
from server.store.buckets import Bucket, Spent
from server.store.budgets import UNSETTLED_MAX, Amounts, State
from server.store.counts import SpentByLine, summed

AHEAD_S: Final = 3600  # a day's account is there before the day is
# As far ahead of a shard's time as a lease's window may be, and still be counted (`HELD_S`).
LEASES_AHEAD_S: Final = 330
SETTLED_A_STEP_MAX: Final = 60
OPENED_A_CALL_MAX: Final = 1000
QUARTER_S: Final = buckets.SPANS[buckets.QUARTER].seconds
NOTHING: Final = Spent()
MICROS: Final = "micros"

ByOwner: TypeAlias = dict[str, Spent]
"""By what the names of its accounts begin with: what a line item or a campaign spent."""


class Ledger(Protocol):
    """What a shard has counted, as `CountsStore` tells it."""

    def spent(
        self, wanted: Iterable[Bucket], now_s: int = 0, /
    ) -> tuple[int | None, list[SpentByLine]]: ...


class Accounts(Protocol):
    """What settling asks of `BudgetStore`."""

    def state(self) -> State | None: ...
    def opened(self, period: str, /) -> dict[str, int]: ...
    def settle(self, window: int, billed: Amounts, /) -> int | str | None: ...
    def open(self, settled: int, spent: Amounts, /) -> int | str | None: ...
    def reset(self, settled: int, ghosts_to: int, periods: Iterable[str], /) -> str | None: ...


class Step(NamedTuple):
    """What one step did."""

    is_known: bool = True  # False: a shard does not say what it has counted, nothing was done
    was_reset: bool = False
    settled: int = 0  # windows
    opened: int = 0  # accounts


class Settling:
    """One control's hand on the accounts."""

    def __init__(self, accounts: Accounts, shards: Sequence[Ledger]) -> None:
        self._accounts = accounts
        self._shards = shards
        self._wanted: set[tuple[str, str]] = set()  # name and zone, of the current catalog
        # Of all catalogs so far: a line item that is gone is still billed for minutes.
        self._owners: dict[int, tuple[str, str]] = {}
        self._zones: dict[str, str] = {}
        self._names: set[str] = set()
        self._opened: dict[str, set[str]] = {}
        self._settled = 0

    def take(self, catalog: Catalog) -> None:
        """Go by this catalog from now on."""
        for campaign in catalog.campaigns:
            self._zones[campaign_prefix(campaign.id)] = campaign.time_zone
        for item in catalog.line_items:
            own = line_item_prefix(item.id)
            self._owners[item.id] = own, campaign_prefix(item.campaign_id)
            self._zones[own] = item.time_zone
        accounts = [each for of in accounts_of(catalog).values() for each in of]
        self._wanted = {(each.name, each.zone) for each in accounts}
        self._names.update(each.name for each in accounts)

    def forget(self) -> None:
        """Ask anew which accounts are open; now and then, for Redis may have lost some."""
        self._opened.clear()

    def step(self, now_s: int) -> Step:
        """Do what is to be done at this moment of Redis's clock."""
        closed = self._closed()
        if closed is None:
            return Step(is_known=False)
        state, was_reset = self._accounts.state(), False
        if state is None or state.is_lost:
            was_reset = self._reset(closed, now_s)
            state = self._accounts.state()
            if state is None or state.is_lost:
                return Step()
        if state.settled < self._settled:  # Redis went back, and may have lost openings too
            self.forget()
        settled = self._settle(state.settled, closed, now_s)
        self._settled = state.settled + settled
        opened = self._open(self._settled, now_s)
        return Step(True, was_reset, settled, opened)

    # -- settling

    def _closed(self) -> int | None:
        """The last window that all shards have closed."""
        times = [shard.spent(())[0] for shard in self._shards]
        known = [time_s for time_s in times if time_s is not None]
        return closed_window(min(known)) if known and len(known) == len(times) else None

    def _settle(self, last: int, closed: int, now_s: int) -> int:
        """Settle what is closed, but not all at once; give how many windows."""
        if closed - last > UNSETTLED_MAX:
            return 0  # their counts may be gone: the next grant finds that, and asks for a reset
        for window in range(last + 1, min(closed, last + SETTLED_A_STEP_MAX) + 1):
            spent = self._read([buckets.window(window)], window, now_s)
            if spent is None:
                return window - last - 1
            billed = self._by_account(window, spent[0])
            if self._accounts.settle(window, billed) is not None:
                return window - last - 1  # another control was faster, or it is lost
        return max(0, min(closed - last, SETTLED_A_STEP_MAX))

    def _read(self, wanted: Sequence[Bucket], closed: int, now_s: int) -> list[SpentByLine] | None:
        """Add up the shards' buckets; None if one of them has not closed that window (any more).

        By Redis's clock too: it lets go of counts by that, and of a log that stood still for hours
        it may have let go of what is not settled yet. Gone is not unspent.
        """
        found = []
        for shard in self._shards:
            time_s, spent = shard.spent(wanted, now_s)
            if time_s is None or closed_window(time_s) < closed:
                return None
            found.append(spent)
        return [summed(parts) for parts in zip(*found, strict=True)]

    def _by_account(self, window: int, spent: SpentByLine) -> Amounts:
        """What each account is charged for a window: of its day, and for ever."""
        moment_s = window_start_s(window)
        amounts: dict[str, dict[str, int]] = {}
        for prefix, of in self._by_owner(spent).items():
            for name, amount in named(prefix, of):
                if amount and name in self._names:
                    for when in (EVER, period(moment_s, self._zones[prefix])):
                        amounts.setdefault(when, {})[name] = amount
        return amounts

    def _by_owner(self, spent: SpentByLine) -> ByOwner:
        found: ByOwner = {}
        for line, of in spent.items():
            for prefix in self._owners.get(line, ()):
                found[prefix] = Spent(*map(int.__add__, found.get(prefix, NOTHING), of))
        return found

    # -- opening

    def _open(self, settled: int, now_s: int) -> int:
        """Open what is wanted now or in an hour and is not open; give how many accounts."""
        missing: dict[tuple[str, str], list[str]] = {}  # by period and zone: names
        for name, zone in self._wanted:
            for when in {period(now_s + ahead, zone) for ahead in (0, AHEAD_S)} if zone else {EVER}:
                if name not in self._known(when):
                    missing.setdefault((when, zone), []).append(name)
        spent = self._spent_until(settled, now_s, missing) if missing else None
        opened = 0
        for when, amounts in spent or ():
            for part in _parts(amounts):
                if self._accounts.open(settled, {when: part}) is not None:
                    return opened
                self._opened[when].update(part)
                opened += len(part)
        return opened

    def _known(self, when: str) -> set[str]:
        if when not in self._opened:
            self._opened[when] = set(self._accounts.opened(when))
            self._names |= self._opened[when]
        return self._opened[when]

    def _spent_until(
        self, settled: int, now_s: int, missing: Mapping[tuple[str, str], list[str]]
    ) -> list[tuple[str, dict[str, int]]] | None:
        """What each account spent in windows up to `settled`: all, less what came after.

        All that is read of a shard is of one moment, or a window could be missed or taken twice.
        """
        later = range(settled + 1, window_of(now_s + LEASES_AHEAD_S) + 1)
        parts = {  # all of a period, and of that what came later
            (when, zone): (
                _quarters(when, zone) if zone else [buckets.EVER],
                [buckets.window(n) for n in later if not zone or when == _day_of(n, zone)],
            )
            for when, zone in missing
        }
        wanted = sorted({bucket for both in parts.values() for of in both for bucket in of})
        read = self._read(wanted, settled, now_s)
        if read is None:
            return None
        by_bucket = dict(zip(wanted, map(self._by_owner, read), strict=True))
        found = []
        for (when, zone), names in missing.items():
            total: Counter[str] = Counter()
            for sign, of in zip((1, -1), parts[when, zone], strict=True):
                for bucket in of:
                    for prefix, spent in by_bucket[bucket].items():
                        for field, amount in zip(Spent._fields, spent, strict=True):
                            total[prefix + field] += sign * amount
            found.append((when, {name: _amount(total, name) for name in names}))
        return found

    # -- starting again

    def _reset(self, closed: int, now_s: int) -> bool:
        now = window_of(now_s)
        if now - closed > UNSETTLED_MAX:
            return False  # the ledger is hours behind: nothing may be granted until it is not
        self.forget()
        return self._accounts.reset(closed, now + 2, [EVER, *_days_around(now_s)]) is None


def named(prefix: str, spent: Spent) -> Iterator[tuple[str, int]]:
    """Name what was spent, as accounts are reckoned; micros are rounded up."""
    yield f"{prefix}impressions", spent.impressions
    yield f"{prefix}clicks", spent.clicks * EVENT_PARTS
    yield f"{prefix}conversions", spent.conversions * EVENT_PARTS
    yield f"{prefix}micros", -(-spent.revenue_nanos // 1000)


def _amount(total: Mapping[str, int], name: str) -> int:
    """What an account spent, of what was summed by `Spent`'s names."""
    if name.endswith(MICROS):
        return -(-total[f"{name.removesuffix(MICROS)}revenue_nanos"] // 1000)
    return total[name] * parts_of(name)


def _day_of(window: int, zone: str) -> str:
    return period(window_start_s(window), zone)


def _quarters(day: str, zone: str) -> list[Bucket]:
    start_s, end_s = day_bounds_s(day, zone)
    return [buckets.quarter(n) for n in range(start_s // QUARTER_S, end_s // QUARTER_S)]


def _parts(amounts: Mapping[str, int]) -> Iterator[dict[str, int]]:
    pairs = [*amounts.items()]
    for first in range(0, len(pairs), OPENED_A_CALL_MAX):
        yield dict(pairs[first : first + OPENED_A_CALL_MAX])


def _days_around(now_s: int) -> list[str]:
    """Every local day that it may be somewhere, or was or will be in a day."""
    today = datetime.fromtimestamp(now_s, UTC).date()
    return [(today + timedelta(days=away)).isoformat() for away in range(-2, 3)]
