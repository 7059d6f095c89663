"""Servers, a ledger and control around the accounts, and everything that may happen to them.

What was granted, used and billed is kept here, outside of Redis. After every step, for each
account: what is billed, and all that may yet be of what servers hold or have sent, is within the
limit.
"""

from collections import Counter
from random import Random
from typing import Any, NamedTuple

from server.events.leases import closed_window, used_until_s, window_of
from server.pacing.accounts import MILLION, Account
from server.store.budgets import Call, Limit, Want

START_S = 1_793_500_005
DAY_WINDOWS = 40  # a short one, so that days change often
ARRIVES_S_MAX = 120
SIZES = (50, 50, 50, 60, 300, 5000, 10**5, 10**7)
COPIES = 60

Key = tuple[str, str]  # period, name


def day_of(window: int) -> str:
    number = (window - window_of(START_S)) // DAY_WINDOWS
    return f"2026-{1 + number // 28:02}-{1 + number % 28:02}"


class Line(NamedTuple):
    number: int
    accounts: tuple[Account, ...]

    def keys(self, window: int) -> list[Key]:
        return [(day_of(window) if a.zone else "ever", a.name) for a in self.accounts]

    def limits(self, window: int) -> list[Limit]:
        return [
            Limit(period, a.name, a.limit, a.window_max)
            for (period, _), a in zip(self.keys(window), self.accounts, strict=True)
        ]


def lines(random: Random) -> list[Line]:
    """Each with limits of its own, by day and for ever, in all units, and with its campaign's."""
    shared = random.choice(SIZES)
    made = []
    for number in range(1, random.randint(2, 4)):
        size = shared if random.random() < 0.5 else random.choice(SIZES)
        price = random.choice((1, 700, 2_000_000, 30_000_000))
        per_million = price * 1000
        accounts = [
            Account("c7.impressions", "", shared, MILLION),
            Account(f"l{number}.impressions", "", size, MILLION),
            Account(f"l{number}.impressions", "x", max(50, size // 3), MILLION),
            Account(f"l{number}.micros", "", max(1, size * price // 1100), per_million),
            Account("c7.micros", "x", max(1, shared * 500), per_million),
            # In thousandths of a click, of which an impression takes one and a quarter.
            Account(f"l{number}.clicks", "", max(1, size * 8 // 7), MILLION * 5 // 4),
        ]
        kept = [each for each in accounts if random.random() < 0.4] or accounts[:1]
        made.append(Line(number, tuple(kept)))
    return made


class Server:
    def __init__(self, name: str) -> None:
        self.name = name
        self.sequence = self.seen = 0
        self.held: dict[tuple[int, int], int] = {}  # by line and window


class Flying(NamedTuple):
    line: Line
    window: int
    units: int
    arrives_s: float


class World:
    def __init__(self, box: Any, random: Random) -> None:
        self.box, self.random = box, random
        self.now_s = START_S + random.random() * 10
        self.lines = lines(random)
        self.limits = {(a.name, a.zone): a.limit for line in self.lines for a in line.accounts}
        self.named = 0
        self.servers = [self._server() for _ in range(3)]
        self.flying: list[Flying] = []
        self.billed: dict[int, Counter[int]] = {}  # by window, by line: impressions
        self.spent: Counter[Key] = Counter()  # millionths
        self.late: list[Call] = []
        self.copies: list[Any] = []
        self.seen: Counter[str] = Counter()
        # Few kinds at a time: after a reset, nothing else can be seen to go wrong for minutes.
        faults = [self.restart, self.tear, self.flush, self.hear_late, self.die]
        self.faults = random.sample(faults, random.choice((0, 1, 1, 1, 2, 5)))
        self.fault_share = random.choice((0.003, 0.01, 0.03))
        # Nobody has granted anything yet, so there is no need to wait for the ledger.
        box.reset(self.now - 1, self.now + 1, ["ever"], self.now_us)
        for window in range(self.now, self.now + 2):
            box.settle(window, {})
        self.now_s += 20
        self._open()

    @property
    def now(self) -> int:
        return window_of(int(self.now_s))

    @property
    def now_us(self) -> int:
        return int(self.now_s * 1_000_000)

    def _server(self) -> Server:
        self.named += 1
        return Server(f"s{self.named}")

    # -- servers

    def ask(self) -> None:
        random, server = self.random, self.random.choice(self.servers)
        window = self.now
        call = self._call(server, window)
        how = random.random() if self.hear_late in self.faults else 0.0
        asked = random.sample(self.lines, random.randint(1, len(self.lines)))
        call = self._wanting(call, asked)
        answer = self._grant(call)
        if how > 0.95:
            self.late.append(call)
        if how > 0.9:
            answer = self._grant(call)  # as a client does whose first answer got lost
        if 0.8 < how < 0.9:
            return  # nobody hears it
        server.seen = max(server.seen, answer.seq)
        for line, part in zip(asked, answer.granted, strict=False):
            if part > 0:
                held = server.held.get((line.number, window), 0)
                server.held[line.number, window] = held + part

    def _call(self, server: Server, window: int) -> Call:
        """Return what is left of older windows, or a part of this one's."""
        returns: dict[int, dict[str, int]] = {}
        for (number, of), units in [*server.held.items()]:
            if of < window or self.random.random() < 0.2:
                back = units if of < window - 1 else self.random.randint(0, units)
                server.held[number, of] = units - back
                amounts = returns.setdefault(of, {})
                line = self.lines[number - 1]
                for key, account in zip(line.keys(of), line.accounts, strict=True):
                    field = "/".join(key)
                    amounts[field] = amounts.get(field, 0) + account.refund(back)
                if not units - back:
                    del server.held[number, of]
        server.sequence += 1
        return Call(server.name, server.sequence, server.seen, window, (), (), returns)

    def _wanting(self, call: Call, asked: list[Line]) -> Call:
        limits: list[Limit] = []
        wants = []
        for line in asked:
            impressions = self.random.choice((1, 3, 20, 20, 1000, 10**6))
            costs = []
            for limit, account in zip(line.limits(call.window), line.accounts, strict=True):
                if limit not in limits:
                    limits.append(limit)
                costs.append((limits.index(limit), account.cost(impressions)))
            wants.append(Want(impressions, tuple(costs)))
        return call._replace(limits=limits, wants=wants)

    def _grant(self, call: Call) -> Any:
        answer = self.box.grant(call, self.now_us)
        self.seen[answer.status] += 1
        self._remember()
        return answer

    def hear_late(self) -> None:
        """A call that was given up reaches Redis all the same."""
        if self.late:
            self._grant(self.late.pop(self.random.randrange(len(self.late))))

    def use(self) -> None:
        server = self.random.choice(self.servers)
        for (number, window), units in [*server.held.items()]:
            if self.now_s >= used_until_s(window):
                continue
            used = self.random.choice((units, units, units, self.random.randint(0, units)))
            server.held[number, window] = units - used
            if not units - used:
                del server.held[number, window]
            if used and self.random.random() < 0.97:  # else nobody looks at them
                arrives_s = self.now_s + self.random.random() * ARRIVES_S_MAX
                self.flying.append(Flying(self.lines[number - 1], window, used, arrives_s))

    def die(self) -> None:
        self.servers[self.random.randrange(len(self.servers))] = self._server()

    # -- time and the ledger

    def wait(self) -> None:
        self.now_s += self.random.choice((0.1, 1, 1, 3, 3, 3, 5, 40))
        still = []
        for each in self.flying:
            if each.arrives_s > self.now_s:
                still.append(each)
            elif closed_window(int(each.arrives_s)) < each.window:
                counted = self.billed.setdefault(each.window, Counter())
                counted[each.line.number] += each.units
                self._spend(self.spent, each.line, each.window, each.units)
            else:
                self.seen["refused"] += each.units
        self.flying = still

    def _spend(self, spent: Counter[Key], line: Line, window: int, units: int) -> None:
        for key, account in zip(line.keys(window), line.accounts, strict=True):
            spent[key] += units * account.cost_per_million

    def spent_in(self, windows: Any) -> dict[str, dict[str, int]]:
        spent: Counter[Key] = Counter()
        for window in windows:
            for number, units in self.billed.get(window, {}).items():
                self._spend(spent, self.lines[number - 1], window, units)
        amounts: dict[str, dict[str, int]] = {}
        for (period, name), millionths in spent.items():
            amounts.setdefault(period, {})[name] = -(-millionths // MILLION)
        return amounts

    # -- control

    def control(self) -> None:
        closed = closed_window(int(self.now_s))
        state = self.box.state()
        if state is None or state.is_lost:
            days = {day_of(self.now + away) for away in range(-60, 60, 10)}
            ghosts_to = self.now + self.random.choice((1, 1, 2))
            found = self.box.reset(closed, ghosts_to, ["ever", *days], self.now_us)
            self.seen["reset"] += found is None
        else:
            last = state.settled
            for window in range(last + 1, closed + 1)[: self.random.choice((1, 5, 999))]:
                self.box.settle(window, self.spent_in([window]))
                if self.random.random() < 0.2:
                    self.box.settle(window, self.spent_in([window]))
        self._open()
        self._remember()

    def _open(self) -> None:
        state = self.box.state()
        if state is None or state.is_lost:
            return
        until = self.spent_in(each for each in self.billed if each <= state.settled)
        wanted: dict[str, dict[str, int]] = {}
        for line in self.lines:
            for period, name in {*line.keys(self.now), *line.keys(self.now + 6)}:
                amount = until.get(period, {}).get(name, 0)
                wanted.setdefault(period, {})[name] = amount
        self.box.open(state.settled, wanted)

    # -- faults

    def _remember(self) -> None:
        self.copies.append(self.box.copy())
        del self.copies[:-COPIES]

    def restart(self) -> None:
        """With all, with less (a lost tail, a stale replica), or twice with the same."""
        if self.copies:
            place = max(0, len(self.copies) - 1 - int(self.random.expovariate(0.15)))
            del self.copies[place + 1 :]
            self.box.restart(self.copies[place])
            self.seen["restart"] += 1

    def tear(self) -> None:
        """Start with half a transaction in the log, for the second time."""
        self.restart()
        self.box.tear()

    def flush(self) -> None:
        self.box.flush()

    # -- one step, and what must hold after it

    def step(self) -> None:
        steps = [self.ask] * 12 + [self.use] * 8 + [self.wait] * 4 + [self.control] * 2
        if self.faults and self.random.random() < self.fault_share:
            self.random.choice(self.faults)()
        else:
            self.random.choice(steps)()
        self.check()

    def worst(self) -> Counter[Key]:
        """In millionths: what was billed, and what still may be."""
        worst = Counter(self.spent)
        for each in self.flying:
            if closed_window(int(each.arrives_s)) < each.window:
                self._spend(worst, each.line, each.window, each.units)
        for server in self.servers:
            for (number, window), units in server.held.items():
                if self.now_s < used_until_s(window):
                    self._spend(worst, self.lines[number - 1], window, units)
        return worst

    def check(self) -> None:
        for (period, name), millionths in self.worst().items():
            limit = self.limits[name, "" if period == "ever" else "x"]
            assert millionths <= limit * MILLION, (period, name, millionths / MILLION, limit)


def run(box: Any, seed: int, steps: int = 400) -> World:
    random = Random(seed)
    world = World(box, random)
    for _ in range(steps):
        world.step()
    return world
