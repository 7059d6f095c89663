"""Opens accounts, settles windows and starts again after a loss, with what the ledger has counted.

    counts of window w, closed in every shard ─► settle: base += billed, open -= granted
    all counts up to the last window settled  ─► open: the base of an account that is new
    no state, or one that is lost             ─► reset, and everything is opened anew

Every amount that goes up to a window is read with its counts in one transaction of each shard: what
is billed between two reads would be counted twice, or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from adcore.catalog import Catalog
from server.errors import AdcoreError
from server.events.leases import (
    closed_window,
    closes_s,
    window_of,
    window_start_s,
)
from server.pacing.accounts import EVER, Account, accounts_of, day_bounds_s
from server.store.buckets import EVER as EVER_BUCKET
from server.store.buckets import QUARTER, SPANS, Bucket, Spent, quarter, window
from server.store.budgets import GHOSTS_MAX, Amounts, State
from server.store.counts import SpentByLine, summed

SETTLED_A_STEP_MAX: Final = 30  # windows: after an hour's absence, half a minute of work
AHEAD_S: Final = 3600  # tomorrow's accounts are open this long before midnight
RESET_AHEAD: Final = 1  # windows: what this one may still grant is used in the next
PERIODS_DAYS: Final = range(-4, 3)  # around now: dated accounts that may be there
CHECK_S: Final = 60.0  # between looks whether what was opened is still there
QUARTER_S: Final = SPANS[QUARTER].seconds
NANOS_PER_MICRO: Final = 1000

HELD_S: Final = 300  # as in server/ledger/counter.pyx: a lease that begins later is refused


class CountsMissing(AdcoreError):
    """The counts are not whole, or not there yet: nothing is reckoned with half of them."""


class Counts(Protocol):
    """What is asked of a shard's `server.store.counts.CountsStore`."""

    def spent(self, buckets: Iterable[Bucket]) -> tuple[int | None, list[SpentByLine]]: ...


class Budgets(Protocol):
    """What is asked of `server.store.budgets.BudgetStore`."""

    def state(self) -> State | None: ...
    def now_us(self) -> int: ...
    def opened(self, period: str) -> dict[str, int]: ...
    def ghosts(self) -> set[int]: ...
    def settle(self, window: int, billed: Amounts) -> int | str | None: ...
    def open(self, settled: int, spent: Amounts) -> int | str | None: ...
    def reset(self, settled: int, ghosts_to: int, periods: Iterable[str]) -> str | None: ...


class Done(NamedTuple):
    """What a step has done, and where it stands."""

    settled: int = 0  # windows
    opened: int = 0  # accounts
    resets: int = 0
    last: int = 0  # the last window settled
    ghosts: int = 0


class _New(NamedTuple):
    """An account that is to be open."""

    period: str
    name: str
    zone: str


class Settler:
    """One leader's settling. `step` is called each second; whatever it could not do comes next."""

    def __init__(self, budgets: Budgets, shards: Sequence[Counts], required: int) -> None:
        self._budgets = budgets
        self._shards = shards
        self._required = required  # the first of them go on: a window is closed when they say so
        self._accounts: dict[int, tuple[Account, ...]] = {}
        self._open: set[str] = set()  # PERIOD/ACCOUNT
        self._checked_s = 0.0
        self._last = 0

    def follow(self, catalog: Catalog) -> None:
        """Go by this catalog: what is new in it is opened by the next step.

        What has left it is still settled: its campaign's accounts have granted for it.
        """
        self._accounts = self._accounts | accounts_of(catalog)

    def step(self, now_s: float) -> Done:
        """Do what is due; CountsMissing when the ledger can't tell."""
        state = self._budgets.state()
        resets = 0
        if state is None or state.is_lost:
            self._open.clear()
            resets = int(self._reset())
            state = self._budgets.state()
            if state is None or state.is_lost:
                return Done(resets=resets)  # the window has turned, or it is lost again: next time
        settled = self._settle(state.settled)
        last = state.settled + settled
        if last < self._last or now_s - self._checked_s >= CHECK_S:
            # Redis may have lost what was opened a moment ago, and nothing tells.
            self._open.clear()
            self._checked_s = now_s
        self._last = last
        opened = self._open_new(last)
        return Done(settled, opened, resets, last, len(self._budgets.ghosts()))

    # -- settling

    def _settle(self, settled: int) -> int:
        """Settle what is closed; how many windows that was."""
        count = 0
        while count < SETTLED_A_STEP_MAX:
            number = settled + count + 1
            now_s, (spent,) = self._read([window(number)])
            if now_s < closes_s(number) or window(number).is_over(now_s):
                break
            if self._budgets.settle(number, self._billed(number, spent)) is not None:
                break  # somebody else has, or it is lost: seen by the next step
            count += 1
        return count

    def _billed(self, number: int, spent: SpentByLine) -> dict[str, dict[str, int]]:
        """Give what a window takes of each account, by period and name."""
        moment_s = window_start_s(number)
        nanos: dict[tuple[str, str], int] = {}
        for line, amounts in spent.items():
            for account in self._accounts.get(line, ()):
                key = account.period(moment_s), account.name
                nanos[key] = nanos.get(key, 0) + _amount(account, amounts)
        return _by_period(nanos)

    # -- opening

    def _open_new(self, settled: int) -> int:
        """Open what is not open, with what was spent up to and in the last window settled."""
        moment_s = self._budgets.now_us() // 1_000_000
        wanted = self._wanted(moment_s)
        if wanted.keys() <= self._open:
            return 0
        periods = {each.period for each in wanted.values()}
        there = {f"{period}/{name}" for period in periods for name in self._budgets.opened(period)}
        new = [each for key, each in wanted.items() if key not in there]
        if new and self._budgets.open(settled, self._spent(settled, new)) is not None:
            return 0  # the state has moved on
        self._open |= wanted.keys()
        return len(new)

    def _wanted(self, moment_s: int) -> dict[str, _New]:
        """Give the accounts of now, and of an hour from now, by their key."""
        found: dict[str, _New] = {}
        for accounts in self._accounts.values():
            for account in accounts:
                for at_s in (moment_s, moment_s + AHEAD_S) if account.zone else (moment_s,):
                    new = _New(account.period(at_s), account.name, account.zone)
                    found[f"{new.period}/{new.name}"] = new
        return found

    def _spent(self, settled: int, new: Sequence[_New]) -> dict[str, dict[str, int]]:
        """Give what new accounts have spent up to and in window `settled`."""
        first, final_s = window(settled + 1), window_start_s(settled + 1)
        now_s, _ = self._read([first])
        later = [window(n) for n in range(first.number, window_of(now_s + HELD_S) + 3)]
        days = {(each.period, each.zone): _quarters(each, final_s) for each in new if each.zone}
        numbers = sorted({number for day in days.values() for number in day})
        # What is wholly settled does not change; the rest is read with all time, at one moment.
        final = [n for n in numbers if (n + 1) * QUARTER_S <= final_s]
        moving = numbers[len(final) :]
        sums = {n: self._read([quarter(n)])[1][0] for n in final}
        at_s, read = self._read([EVER_BUCKET, *later, *map(quarter, moving)])
        if at_s < closes_s(settled) or window_of(at_s + HELD_S) > later[-1].number:
            raise CountsMissing("the ledger is behind what is settled already, or was slow to read")
        sums |= dict(zip(moving, read[1 + len(later) :], strict=True))
        after = dict(zip(later, read[1 : 1 + len(later)], strict=True))
        by_period = {(EVER, ""): _without(summed([read[0]]), after.values())} | {
            key: _without(
                summed(sums[n] for n in day),
                (spent for bucket, spent in after.items() if bucket.start_s // QUARTER_S in day),
            )
            for key, day in days.items()
        }
        periods: dict[tuple[str, str], list[str]] = {}
        for each in new:
            periods.setdefault((each.name, each.zone), []).append(each.period)
        nanos: dict[tuple[str, str], int] = {}
        for line, accounts in self._accounts.items():
            for account in accounts:
                for period in periods.get((account.name, account.zone), ()):
                    key = period, account.name
                    spent = by_period[period, account.zone].get(line)
                    more = 0 if spent is None else _amount(account, spent)
                    nanos[key] = nanos.get(key, 0) + more
        return _by_period(nanos)

    # -- after a loss

    def _reset(self) -> bool:
        """Make a new state of what the ledger has closed; CountsMissing when that is too little."""
        log_s, _ = self._read([])
        settled = closed_window(log_s)
        moment_s = self._budgets.now_us() // 1_000_000
        ghosts_to = window_of(moment_s) + RESET_AHEAD
        if ghosts_to - settled > GHOSTS_MAX:
            raise CountsMissing(
                f"the accounts are lost, and the ledger is {moment_s - log_s} s behind: so much"
                " may have been granted since that nothing of any limit would be left"
            )
        today = datetime.fromtimestamp(moment_s, UTC).date()
        periods = [EVER, *((today + timedelta(days=n)).isoformat() for n in PERIODS_DAYS)]
        return self._budgets.reset(settled, ghosts_to, periods) is None

    def _read(self, buckets: Sequence[Bucket]) -> tuple[int, list[SpentByLine]]:
        """Sum buckets over the shards, each read at one moment; the least of these is given too."""
        parts = []
        for shard in self._shards:
            time_s, found = shard.spent(buckets)
            if time_s is None:
                raise CountsMissing("a shard's counts are being made again, or never were")
            parts.append((time_s, found))
        now_s = min(time_s for time_s, _ in parts[: self._required])
        return now_s, [summed(of) for of in zip(*(found for _, found in parts), strict=True)]


def _quarters(new: _New, until_s: int) -> range:
    """Give the quarters of its day that have begun before `until_s`."""
    start_s, end_s = day_bounds_s(new.period, new.zone)
    return range(start_s // QUARTER_S, -(-min(end_s, max(until_s, start_s)) // QUARTER_S))


def _without(sums: SpentByLine, parts: Iterable[SpentByLine]) -> SpentByLine:
    """Take off what was billed of windows that are not settled."""
    left = dict(sums)
    for part in parts:
        for line, spent in part.items():
            left[line] = Spent(*map(int.__sub__, left.get(line, Spent()), spent))
    return left


def _amount(account: Account, amounts: Spent) -> int:
    """Give what was spent in a thousandth of the account's unit, as money is counted."""
    match account.name.rpartition(".")[2]:
        case "impressions":
            return amounts.impressions * NANOS_PER_MICRO
        case "clicks":
            return amounts.clicks * NANOS_PER_MICRO
        case "conversions":
            return amounts.conversions * NANOS_PER_MICRO
    return amounts.revenue_nanos


def _by_period(nanos: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Round up to whole units: what is begun of a micro is spent."""
    found: dict[str, dict[str, int]] = {}
    for (period, name), amount in nanos.items():
        found.setdefault(period, {})[name] = max(-(-amount // NANOS_PER_MICRO), 0)
    return found
