"""The lease agent: one a server, a process of its own, that speaks to Redis for all workers.

Each second it looks at what the workers took and missed, gives back what was not used, and asks for
what comes next; what it is granted goes into the lease table. It holds little: three seconds of a
line item's own use, two standard deviations more, and a single unit where use is rare. A line item
that nobody has wanted for ten minutes costs nothing at all: it sleeps, and the first worker that
misses it wakes it.

Nothing here has to go well for ads to go on. When the agent or Redis is gone, leases end by the
clock, and with them the line items that need them; whatever was asked, taken or on its way when
somebody died counts as spent until its window is settled.
"""

import logging
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from server.clock import monotonic_ns, now_s
from server.delivery.bundle import Leasable
from server.delivery.leasing import LeaseTable
from server.errors import SnapshotError, StoreError
from server.events.leases import WINDOW_S, WINDOWS_USED, window_start_s
from server.metrics import Metrics
from server.pacing.accounts import MILLION, Account
from server.store.budgets import UNKNOWN, WANT_MAX, Answer, Granter, Limit, Want

STEP_S: Final = 1.0
HELD_S: Final = 3.0  # of use: a step, a step that failed, and one to spare
DEVIATIONS: Final = 2.0
MEMORY_S: Final = 3.0  # over which use is averaged
RAMP: Final = 3.0  # a line item that used up all it had is given so much more of it
SLEEPS_AFTER_S: Final = 600.0
EMPTY_S: Final = 60.0  # an entry is empty for so long before another line item has it
WANTS_MAX: Final = 500  # in one call: Redis answers nobody else for some milliseconds
RENEWAL_STEPS: Final = 8  # a window's renewals are spread over so many of its seconds
_NS: Final = 1e9

log = logging.getLogger(__name__)


class Line:
    """A line item that units are asked for."""

    def __init__(self, slot: int, accounts: tuple[Account, ...], now_s: float) -> None:
        self.slot = slot
        self.accounts = accounts
        self.rate_per_s = 0.0
        self.wanted_at_s = now_s
        self.target = 1
        # What the lease in the table was granted from; None: not by us, or from several.
        self.window = 0
        self.granted_from: tuple[Account, ...] | None = None

    def note(self, taken: int, missed: int, left: int, since_s: float, now_s: float) -> None:
        """Learn from a step: what was taken, missed, and is left."""
        weight = 1 - math.exp(-since_s / MEMORY_S)
        self.rate_per_s += weight * (taken / since_s - self.rate_per_s)
        held = self.rate_per_s * HELD_S
        self.target = max(1, math.ceil(held + DEVIATIONS * math.sqrt(held)))
        if taken or missed:
            self.wanted_at_s = now_s
        if missed and not left:
            self.target = max(self.target, math.ceil(RAMP * taken))
        self.target = min(self.target, WANT_MAX)


class Agent:
    """What `adcore lease` does; `step` is one second of it."""

    def __init__(
        self, granter: Granter, table: LeaseTable, run_dir: Path, metrics: Metrics
    ) -> None:
        self._granter = granter
        self._table = table
        self._run_dir = run_dir
        self._metrics = metrics
        self._snapshot = ""
        self._leasable: Leasable | None = None
        self._slots = table.find_all()
        self._ids = {slot: id_ for id_, slot in self._slots.items()}
        self._emptied: list[tuple[float, int]] = []
        self._lines: dict[int, Line] = {}
        self._returns: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._stepped_at_s = 0.0
        self._returned = 0
        self._status = ""
        # Whatever a dead predecessor had awake is looked at again.
        self._inherited = True

    # -- the catalog

    def follow(self) -> None:
        """Give the line items of the current snapshot their slots."""
        try:
            name = os.readlink(self._run_dir / "current")
        except OSError:
            return
        if name == self._snapshot:
            return
        try:
            self._leasable = Leasable(self._run_dir / name)
        except SnapshotError as error:
            log.error("snapshot refused", extra={"file": name, "reason": str(error)})
            return
        self._snapshot = name
        self._place(self._leasable)
        for line in list(self._lines.values()):
            id_ = self._ids.get(line.slot)
            if id_ is None:
                del self._lines[line.slot]
            else:
                line.accounts = self._leasable[id_]

    def _place(self, leasable: Leasable) -> None:
        now = monotonic_ns() / _NS
        wanted = set(leasable)
        for id_ in self._slots.keys() - wanted:
            # A worker may still serve the snapshot before, which has it: for now it is only empty.
            slot = self._slots.pop(id_)
            del self._ids[slot]
            self._give_back(slot)
            self._table.reuse(slot, 0)
            self._emptied.append((now, slot))
        missing = sorted(wanted - self._slots.keys())
        for count, id_ in enumerate(missing):
            try:
                slot = self._free_slot(now, id_)
            except OSError as error:
                left = len(missing) - count
                log.error("lease table", extra={"detail": str(error), "without_slot": left})
                break
            self._slots[id_], self._ids[slot] = slot, id_
        self._table.announce()

    def _free_slot(self, now: float, id_: int) -> int:
        if self._emptied and now - self._emptied[0][0] > EMPTY_S:
            _, slot = self._emptied.pop(0)
            self._table.reuse(slot, id_)
            return slot
        return self._table.insert(id_)

    # -- a second

    def step(self) -> bool:
        """Return, ask and put; False when Redis did not answer."""
        self.follow()
        self._look(monotonic_ns() / _NS)
        window = self._window()
        self._expire(window)
        wanting = self._wanting(window)
        answered = True
        if not self._slots and not self._returns:
            return answered
        for first in range(0, max(len(wanting), 1), WANTS_MAX):
            answered = answered and self._call(wanting[first : first + WANTS_MAX])
        self._metrics.leases_held(self._table.held(), len(self._lines))
        return answered

    def _window(self) -> int:
        """Redis's window; a guess before its first word, which costs a call."""
        if not self._table.clock_ns:
            return now_s() // WINDOW_S
        return int((monotonic_ns() + self._table.clock_ns) / _NS) // WINDOW_S

    def _look(self, now: float) -> None:
        since_s = max(now - self._stepped_at_s, 0.001) if self._stepped_at_s else STEP_S
        self._stepped_at_s = now
        seen = {slot: (taken, missed) for slot, taken, missed in self._table.look()}
        if self._inherited:
            self._inherited = False
            for slot in self._ids:
                if self._table.left(slot)[1] or self._table.is_awake(slot):
                    seen.setdefault(slot, (0, 0))
        for slot in seen.keys() - self._lines.keys():
            self._wake(slot, now)
        for line in list(self._lines.values()):
            taken, missed = seen.get(line.slot, (0, 0))
            line.note(taken, missed, self._table.left(line.slot)[1], since_s, now)
            if now - line.wanted_at_s > SLEEPS_AFTER_S:
                self._give_back(line.slot)
                self._table.wake(line.slot, False)
                del self._lines[line.slot]

    def _wake(self, slot: int, now: float) -> None:
        id_ = self._ids.get(slot)
        if id_ is not None and self._leasable is not None:
            self._lines[slot] = Line(slot, self._leasable[id_], now)
            self._table.wake(slot, True)

    def _expire(self, window: int) -> None:
        """Take back what may no longer be used."""
        for line in self._lines.values():
            of, units = self._table.left(line.slot)
            if units and of + WINDOWS_USED <= window:
                self._give_back(line.slot)

    def _wanting(self, window: int) -> list[tuple[Line, int]]:
        """Who needs how much: new leases in a new window, and more where use says so."""
        wanting = []
        phase = int(self._stepped_at_s) % RENEWAL_STEPS
        for line in self._lines.values():
            of, units = self._table.left(line.slot)
            if of == window:
                want = line.target - units
                if want > 0 and units <= line.target * 2 // 3:
                    wanting.append((line, want))
            # A lease of the window before is good for this one: idle ones take turns.
            elif units < line.target or line.slot % RENEWAL_STEPS == phase:
                wanting.append((line, line.target))
        return wanting

    # -- a call

    def _call(self, wanting: Sequence[tuple[Line, int]]) -> bool:
        returns = {window: dict(amounts) for window, amounts in self._returns.items()}
        returned = self._returned
        # Whatever comes of it, they are not returned twice.
        self._returns.clear()
        self._returned = 0
        try:
            window, answer = self._ask(self._window(), wanting, returns)
            if answer.status == "window":
                window, answer = self._ask(
                    answer.now_us // (WINDOW_S * 1_000_000), wanting, returns
                )
        except StoreError as error:
            self._metrics.lease_called("failed")
            self._note("failed", str(error))
            return False
        self._note(answer.status)
        if answer.status == "granted":
            self._metrics.leases_returned(returned)
            self._put(window, wanting, answer.granted)
        return True

    def _ask(
        self,
        window: int,
        wanting: Sequence[tuple[Line, int]],
        returns: dict[int, dict[str, int]],
    ) -> tuple[int, Answer]:
        limits: list[Limit] = []
        places: dict[Limit, int] = {}
        wants = []
        for line, want in wanting:
            costs = []
            # No more than its smallest limit is worth: then all amounts are numbers to a script.
            want = min(want, *(_worth(account) for account in line.accounts))
            for account in line.accounts:
                period = account.period(window_start_s(window))
                limit = Limit(period, account.name, account.limit, account.window_max)
                if limit not in places:
                    places[limit] = len(limits)
                    limits.append(limit)
                costs.append((places[limit], account.cost(want)))
            wants.append(Want(want, tuple(costs)))
        sent_ns = monotonic_ns()
        answer = self._granter.ask(window, limits, wants, returns)
        # As if it had answered when we asked: so our clock is ahead of Redis's, never behind.
        self._table.clock_ns = answer.now_us * 1000 - sent_ns
        self._metrics.lease_called(answer.status)
        return window, answer

    def _put(self, window: int, wanting: Sequence[tuple[Line, int]], granted: list[int]) -> None:
        total = unopened = 0
        for (line, _), units in zip(wanting, granted, strict=True):
            unopened += units == UNKNOWN
            if units <= 0:
                continue
            total += units
            before, left = self._table.put(line.slot, window, units)
            if line.window != window:
                self._count_back(line, before, left)
                line.window, line.granted_from = window, line.accounts
            elif line.granted_from != line.accounts:
                line.granted_from = None  # of two kinds: what a unit of it took can't be told
        self._metrics.leases_granted(total, unopened, now_s())

    def _note(self, status: str, detail: str = "") -> None:
        """Log a status that is another one than before."""
        if status != self._status:
            self._status = status
            level = logging.INFO if status == "granted" else logging.WARNING
            log.log(level, "leases", extra={"status": status, "detail": detail})

    # -- returns

    def _give_back(self, slot: int) -> None:
        window, units = self._table.withdraw(slot)
        if slot in self._lines:
            self._count_back(self._lines[slot], window, units)

    def _count_back(self, line: Line, window: int, units: int) -> None:
        """Note what the next call returns; what a predecessor was granted is left to settling."""
        if not units or window != line.window or line.granted_from is None:
            return
        self._returned += units
        for account in line.granted_from:
            period = account.period(window_start_s(window))
            field = Limit(period, account.name, 0, 0).field
            self._returns[window][field] += account.refund(units)


def _worth(account: Account) -> int:
    """The impressions that a whole limit is good for, at least one."""
    return max(1, account.limit * MILLION // max(1, account.cost_per_million))
