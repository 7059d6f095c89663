"""Random calls of every kind, made of Redis and of its twin, which must answer alike."""

from random import Random
from typing import Any

from server.store import Keyspace
from server.store.budgets import BudgetStore, Call, Limit, Want
from tests.sim.budget_twin import WINDOW_US, BudgetTwin

START = 179_350_000
STEPS = 60
PERIODS = ("ever", "2026-11-30", "2026-12-01")


class _Both:
    def __init__(self, store: BudgetStore, twin: BudgetTwin, random: Random) -> None:
        self.store, self.twin, self.random = store, twin, random
        self.now_us = START * WINDOW_US
        self.limits = [
            Limit(random.choice(PERIODS), f"{owner}.{unit}", amount, max(5, amount // 50))
            for owner in ("l1", "l2", "c7")
            for unit in ("impressions", "micros")
            for amount in (random.choice((3, 50, 1000, 10**7, 10**15)),)
        ]
        self.sequences = dict.fromkeys("abc", 0)
        self.seen = dict.fromkeys("abc", 0)
        self.given: dict[int, dict[str, int]] = {}

    def each(self, method: str, *arguments: Any) -> Any:
        real, twin = (getattr(on, method)(*arguments) for on in (self.store, self.twin))
        assert real == twin, (method, arguments)
        return real

    def compare(self) -> None:
        for method in ("state", "out", "ghosts"):
            self.each(method)
        for period in PERIODS:
            self.each("opened", period)

    # -- steps

    def grant(self) -> None:
        random, server = self.random, self.random.choice("abc")
        self.sequences[server] += random.choice((0, 1, 1, 1, 1, 1))
        window = self.now_us // WINDOW_US + random.choice((0,) * 9 + (1,))
        limits = random.sample(self.limits, random.randint(1, len(self.limits)))
        wants = [self._want(limits) for _ in range(random.randint(0, 3))]
        returns = {
            of: {name: random.randint(0, amount + 1) for name, amount in amounts.items()}
            for of, amounts in self.given.items()
            if random.random() < 0.3
        }
        seen = self.seen[server] + (random.random() < 0.01)
        call = Call(server, self.sequences[server], seen, window, limits, wants, returns)
        answer = self.each("grant", call, self.now_us)
        self.seen[server] = max(self.seen[server], answer.seq)
        for want, part in zip(wants, answer.granted, strict=False):
            for at, cost in want.costs:
                amounts = self.given.setdefault(window, {})
                name = limits[at].field
                amounts[name] = amounts.get(name, 0) + max(part, 0) * cost // want.impressions

    def _want(self, limits: list[Limit]) -> Want:
        random = self.random
        impressions = random.choice((1, 3, 10, 1000, 10**6))
        places = random.sample(range(len(limits)), random.randint(1, min(3, len(limits))))
        costs = (0, 1, impressions, 7 * impressions // 3, 10**9, random.randint(1, 10**12))
        return Want(impressions, tuple((at, random.choice(costs)) for at in places))

    def settle(self) -> None:
        state = self.each("state")
        window = (state.settled if state else START) + self.random.choice((1, 1, 1, 2, 0))
        self.each("settle", window, self._amounts())

    def open(self) -> None:
        state = self.each("state")
        self.each("open", (state.settled if state else START), self._amounts())

    def _amounts(self) -> dict[str, dict[str, int]]:
        amounts: dict[str, dict[str, int]] = {}
        for each in self.limits:
            if self.random.random() < 0.8:
                spent = self.random.randint(0, max(each.limit // 20, 1))
                amounts.setdefault(each.period, {})[each.name] = spent
        return amounts

    def reset(self) -> None:
        now = self.now_us // WINDOW_US
        settled = now - self.random.randint(1, 17)
        self.each("reset", settled, now + self.random.choice((0, 1, 2)), PERIODS, self.now_us)

    def restart(self) -> None:
        """What a process with another run id finds."""
        if self.twin.kept is not None:
            self.store._client.hset(Keyspace().budget_state, "run_id", "before")
            self.twin.kept.run_id = "before"

    def tear(self) -> None:
        if self.twin.kept is not None:
            self.store._client.hincrby(Keyspace().budget_state, "begun", 1)
            self.twin.kept.is_torn = True

    def flush(self) -> None:
        self.store._client.flushall()
        self.twin.kept = None


def play(store: BudgetStore, twin: BudgetTwin, random: Random) -> None:
    both = _Both(store, twin, random)
    steps = [both.grant] * 12 + [both.settle] * 4 + [both.open] * 3 + [both.reset] * 3
    steps += [both.restart]
    for _ in range(STEPS):
        if random.random() < 0.5:
            both.now_us += random.randint(0, WINDOW_US)
        step = random.choice(steps)
        if random.random() < 0.01:
            step = random.choice((both.tear, both.flush))
        step()
        both.compare()
