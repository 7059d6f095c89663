"""What the scripts of `server.store.budgets` do to Redis, in exact integers and plain words."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from server.store.budgets import (
    GHOSTS_MAX,
    UNKNOWN,
    UNSETTLED_MAX,
    Amounts,
    Answer,
    Call,
    Limit,
    State,
    Status,
    Want,
    field_of,
)

WINDOW_US = 10_000_000


@dataclass
class Kept:
    """Everything that lies in Redis."""

    run_id: str = ""
    seq: int = 0
    settled: int = 0
    window: int = 0
    is_torn: bool = False
    is_lost: bool = False
    base: dict[str, dict[str, int]] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)
    granted: dict[int, dict[str, int]] = field(default_factory=dict)
    ghosts: set[int] = field(default_factory=set)
    servers: dict[str, tuple[int, int]] = field(default_factory=dict)


def cost_of(part: int, want: int, cost: int) -> int:
    return -(-part * cost // want)


def fitting(most: int, want: int, cost: int) -> int:
    if cost <= most:
        return want
    return max(0, min(want, most * want // cost)) if cost else 0


class BudgetTwin:
    """The accounts, and one Redis around them: set `run_id` anew when it restarts."""

    def __init__(self, run_id: str = "a", moment_us: int = 0) -> None:
        self.run_id = run_id
        self.moment_us = moment_us  # the clock, for who gives no moment
        self.kept: Kept | None = None

    def copy(self) -> Kept | None:
        return deepcopy(self.kept)

    def restart(self, run_id: str, kept: Kept | None) -> None:
        """Come back as another process, with what there was when `kept` was copied."""
        self.run_id, self.kept = run_id, deepcopy(kept)

    # -- the agent's

    def grant(self, call: Call, moment_us: int | None = None) -> Answer:
        now_us = self.moment_us if moment_us is None else moment_us
        now, kept = now_us // WINDOW_US, self.kept
        if kept is None or kept.is_torn or kept.is_lost:
            return Answer("lost", now_us, kept.seq if kept else 0, [])
        status, granted = self._granted(kept, call, now_us, now)
        if status == "lost":
            kept.is_lost = True
        return Answer(status, now_us, kept.seq, granted)

    def _granted(self, kept: Kept, call: Call, now_us: int, now: int) -> tuple[Status, list[int]]:
        if not self._fence(kept, call, now_us, now):
            return "lost", []
        if kept.seq < call.seen or now - kept.settled > UNSETTLED_MAX:
            return "lost", []
        if call.window != now:
            return "window", []
        if now < kept.window or now <= kept.settled:
            return "late", []
        if call.sequence <= kept.servers.get(call.server, (-1, 0))[0]:
            return "repeat", []
        kept.seq += 1
        kept.window = now
        kept.servers[call.server] = call.sequence, now
        for window, amounts in call.returns.items():
            if window > kept.settled:
                self._take_back(kept, window, amounts)
        if now in kept.ghosts:
            return "fenced", []
        return "granted", [self._grant_one(kept, now, call.limits, want) for want in call.wants]

    def _fence(self, kept: Kept, call: Call, now_us: int, now: int) -> bool:
        if kept.run_id != self.run_id:
            first = max(kept.window, kept.settled + 1)
            final = max(kept.window, now, call.window) + 1
            if final - first >= GHOSTS_MAX:
                return False
            kept.ghosts.update(range(first, final + 1))
            kept.run_id = self.run_id
            kept.seq = max(kept.seq, now_us)
        return True

    def _take_back(self, kept: Kept, window: int, amounts: Any) -> None:
        granted = kept.granted.get(window, {})
        for name, amount in amounts.items():
            amount = min(amount, granted.get(name, 0))
            if amount > 0:
                granted[name] -= amount
                _add(kept.open, name, -amount)

    def _grant_one(self, kept: Kept, now: int, limits: Any, want: Want) -> int:
        part = want.impressions
        for at, cost in want.costs:
            limit: Limit = limits[at]
            base = kept.base.get(limit.period, {}).get(limit.name)
            if base is None:
                return UNKNOWN
            free = limit.limit - base - kept.open.get(limit.field, 0)
            free -= len(kept.ghosts) * limit.window_max
            room = limit.window_max - kept.granted.get(now, {}).get(limit.field, 0)
            share = max(cost_of(1, want.impressions, cost), free // 4)
            part = min(part, fitting(min(free, room, share), want.impressions, cost))
        for at, cost in want.costs if part else ():
            taken = cost_of(part, want.impressions, cost)
            _add(kept.open, limits[at].field, taken)
            _add(kept.granted.setdefault(now, {}), limits[at].field, taken)
        return part

    # -- control's

    def settle(self, window: int, billed: Amounts) -> int | str | None:
        kept = self.kept
        if kept is None or kept.is_torn or kept.is_lost:
            return "lost"
        if kept.settled != window - 1:
            return kept.settled
        for period, amounts in billed.items():
            base = kept.base.get(period, {})
            for name in base.keys() & amounts.keys():
                base[name] += amounts[name]
        for name, amount in kept.granted.pop(window, {}).items():
            _add(kept.open, name, -amount)
        kept.ghosts.discard(window)
        kept.servers = {name: last for name, last in kept.servers.items() if last[1] > window}
        kept.settled = window
        return None

    def open(self, settled: int, spent: Amounts) -> int | str | None:
        kept = self.kept
        if kept is None or kept.is_torn or kept.is_lost:
            return "lost"
        if kept.settled != settled:
            return kept.settled
        for period, amounts in spent.items():
            base = kept.base.setdefault(period, {})
            for name, amount in amounts.items():
                base.setdefault(name, amount)
        return None

    def reset(
        self, settled: int, ghosts_to: int, periods: Any, moment_us: int | None = None
    ) -> str | None:
        now_us = self.moment_us if moment_us is None else moment_us
        kept = self.kept
        if kept is not None and not kept.is_torn and not kept.is_lost:
            return "kept"
        if ghosts_to < now_us // WINDOW_US + 1:
            return "late"
        self.kept = Kept(
            self.run_id, now_us, settled, settled, ghosts=set(range(settled + 1, ghosts_to + 1))
        )
        return None

    def state(self) -> State | None:
        kept = self.kept
        return kept and State(kept.settled, kept.window, kept.is_torn or kept.is_lost)

    def opened(self, period: str) -> dict[str, int]:
        return dict(self.kept.base.get(period, {})) if self.kept else {}

    def out(self) -> dict[str, int]:
        return dict(self.kept.open) if self.kept else {}

    def ghosts(self) -> set[int]:
        return set(self.kept.ghosts) if self.kept else set()

    def now_us(self) -> int:
        return self.moment_us

    def free(self, limit: Limit) -> int:
        """What may still be granted of an account, all windows together."""
        base = self.opened(limit.period).get(limit.name, limit.limit)
        taken = self.out().get(field_of(limit.period, limit.name), 0)
        return limit.limit - base - taken - len(self.ghosts()) * limit.window_max


def _add(amounts: dict[str, int], name: str, amount: int) -> None:
    left = amounts.get(name, 0) + amount
    if left > 0:
        amounts[name] = left
    else:
        amounts.pop(name, None)
