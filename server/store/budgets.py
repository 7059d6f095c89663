"""Budgets in Redis: what of each account is spent, and what is out on leases. See docs/budgets.md.

For each account, billed <= base + open <= limit, whatever happens to servers, control and Redis:
scripts are the only writers, each all or nothing, and what Redis itself may lose is fenced off by
`grant.lua`. Control alone calls `settle`, `open` and `reset`; agents `grant`, through `Granter`.
All amounts are whole and below 2^53, because Lua's numbers are doubles.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec
import redis
from redis.exceptions import NoScriptError

from server.events.leases import WINDOW_S
from server.store.client import translated
from server.store.keyspace import Keyspace

WANT_MAX: Final = 1_000_000  # impressions in one want; with it every product in the script is exact
AMOUNT_MAX: Final = (1 << 53) - 1
UNSETTLED_MAX: Final = 720  # windows: two hours, for which the ledger keeps a window's counts
GHOSTS_MAX: Final = 64  # windows: more would leave nothing of any limit, so a reset costs no more
DATED_KEPT_S: Final = 50 * 3600  # a day's account: 25 hours, opened an hour ahead, settled later
UNKNOWN: Final = -1
"""In place of what was granted: an account of this line item has not been opened yet."""

_WAIT_MS: Final = 50
_WINDOW_US: Final = WINDOW_S * 1_000_000

Status: TypeAlias = Literal[
    "granted",
    "window",  # the caller's is not Redis's own: nothing was changed, ask again with this moment
    "repeat",  # this call or a later one was taken before: what it gave is lost until it is settled
    "fenced",  # nothing is granted in this window, because Redis may have lost what it had granted
    "late",  # Redis's clock is behind itself: nothing is granted until it has caught up
    "lost",  # nothing is granted until control has reset the accounts
    "alone",  # too few replicas have it: another primary may not know of it, so it may not be used
]
STATUSES: Final[tuple[str, ...]] = get_args(Status)

Amounts: TypeAlias = Mapping[str, Mapping[str, int]]
"""By period, by account's name."""


class Limit(NamedTuple):
    """An account, as far as a grant must know it."""

    period: str
    name: str
    limit: int
    window_max: int  # the most that one window may grant; the same in all calls

    @property
    def field(self) -> str:
        return field_of(self.period, self.name)


class Want(NamedTuple):
    """Impressions for one line item, and what they take: places among the limits, and the costs."""

    impressions: int
    costs: tuple[tuple[int, int], ...]


class Call(NamedTuple):
    """What an agent asks in one go."""

    server: str  # one life of one server: a restarted one has another name
    sequence: int  # rises with every call of this server
    seen: int  # the highest `seq` it was answered with
    window: int  # the one it believes to be in, by Redis's clock
    limits: Sequence[Limit]
    wants: Sequence[Want]
    returns: Mapping[int, Mapping[str, int]]  # by window, by Limit.field


class Answer(NamedTuple):
    status: Status
    now_us: int  # by Redis's clock
    seq: int
    granted: list[int]  # to each want, or UNKNOWN; none but with `granted`


class State(NamedTuple):
    """What control must know."""

    settled: int  # the last window
    window: int  # in which the last call came
    is_lost: bool


def field_of(period: str, name: str) -> str:
    return f"{period}/{name}"


class BudgetStore:
    """The accounts below one prefix. For one thread."""

    def __init__(self, client: redis.Redis, keyspace: Keyspace, replicas: int = 0) -> None:
        self._client: Any = client
        self._keys = keyspace
        self._replicas = replicas
        scripts = resources.files("server.store") / "scripts"
        texts = {
            name: (scripts / f"{name}.lua").read_text("utf-8")
            for name in ("grant", "settle", "open", "reset")
        }
        self._grant_text = texts["grant"]
        self._grant = client.register_script(texts["grant"])
        self._settle = client.register_script(texts["settle"])
        self._open = client.register_script(texts["open"])
        self._reset = client.register_script(texts["reset"])

    def close(self) -> None:
        self._client.close()

    # -- the agent's

    def grant(self, call: Call, moment_us: int | None = None) -> Answer:
        """Return and grant, all or nothing. Asked twice, it answers `repeat` the second time.

        After a StoreError nobody knows whether it was done: what was returned and wanted counts as
        neither, and comes back when its window is settled.
        """
        keys, content = self._encoded(call)
        arguments = [content, _moment(moment_us), _WINDOW_US, UNSETTLED_MAX, GHOSTS_MAX]
        with translated():
            (status, now_us, seq, *granted), acked = self._ask(keys, arguments)
        if status == b"granted" and acked < self._replicas:
            status, granted = b"alone", []
        return Answer(status.decode(), now_us, seq, granted)

    def _ask(self, keys: list[str], arguments: list[Any]) -> tuple[list[Any], int]:
        for _ in range(2):
            # One connection, and no other in between: WAIT is about its own connection's writes.
            pipeline = self._client.pipeline(transaction=False)
            pipeline.evalsha(self._grant.sha, len(keys), *keys, *arguments)
            if self._replicas:
                pipeline.execute_command("WAIT", self._replicas, _WAIT_MS)
            answer, *acked = pipeline.execute(raise_on_error=False)
            if not isinstance(answer, NoScriptError):
                break
            self._client.script_load(self._grant_text)
        for failed in (answer, *acked):
            if isinstance(failed, Exception):
                raise failed
        return answer, acked[0] if acked else 0

    def _encoded(self, call: Call) -> tuple[list[str], bytes]:
        keys = [*self._shared, self._keys.budget_granted(call.window)]
        places: dict[str, int] = {}

        def place(key: str) -> int:
            if key not in places:
                keys.append(key)
                places[key] = len(keys)
            return places[key]

        limits = [(place(self._keys.budget_base(limit.period)), *limit) for limit in call.limits]
        wants = [
            (
                want.impressions,
                *(number for cost in want.costs for number in (cost[0] + 1, cost[1])),
            )
            for want in call.wants
        ]
        returns = [
            (place(self._keys.budget_granted(window)), window, _flat(amounts))
            for window, amounts in call.returns.items()
        ]
        head = (call.server, call.sequence, call.seen, call.window)
        return keys, msgspec.msgpack.encode((*head, limits, wants, returns))

    # -- control's

    def state(self) -> State | None:
        """None: there is none, and `reset` makes one."""
        fields = ("settled", "window", "begun", "done", "lost")
        with translated():
            settled, window, begun, done, lost = self._client.hmget(self._keys.budget_state, fields)
        if settled is None:
            return None
        return State(int(settled), int(window), begun != done or lost is not None)

    def opened(self, period: str) -> dict[str, int]:
        """What of each account was spent in windows that are settled."""
        with translated():
            found = self._client.hgetall(self._keys.budget_base(period))
        return {name.decode(): int(amount) for name, amount in found.items()}

    def out(self) -> dict[str, int]:
        """What is granted in windows that are not settled, by `Limit.field`."""
        with translated():
            found = self._client.hgetall(self._keys.budget_open)
        return {name.decode(): int(amount) for name, amount in found.items()}

    def ghosts(self) -> set[int]:
        with translated():
            return {int(window) for window in self._client.smembers(self._keys.budget_ghosts)}

    def now_us(self) -> int:
        """Redis's clock."""
        with translated():
            seconds, micros = self._client.time()
        return int(seconds) * 1_000_000 + int(micros)

    def settle(self, window: int, billed: Amounts) -> int | str | None:
        """Settle the window after the last one.

        Gives None or, with nothing changed, what it found: the last window settled, or "lost".
        """
        keys = [*self._shared, self._keys.budget_granted(window)]
        keys += (self._keys.budget_base(period) for period in billed)
        arguments = [window, *(_packed(amounts) for amounts in billed.values())]
        return self._found(self._settle, keys, arguments)

    def open(self, settled: int, spent: Amounts) -> int | str | None:
        """Open those that are not open yet, with what was spent up to window `settled`.

        Gives None or, with nothing changed, what it found, as `settle` does.
        """
        keys = [self._keys.budget_state, *map(self._keys.budget_base, spent)]
        arguments: list[Any] = [settled]
        for period, amounts in spent.items():
            arguments += (DATED_KEPT_S if period[0].isdigit() else 0, _packed(amounts))
        return self._found(self._open, keys, arguments)

    def reset(
        self, settled: int, ghosts_to: int, periods: Iterable[str], moment_us: int | None = None
    ) -> str | None:
        """Start again from what the ledger has closed; then every account is to be opened.

        `periods` are all that may still matter. Gives None or, with nothing changed, "kept" (the
        state is not lost) or "late" (`ghosts_to` does not reach the next window).
        """
        windows = range(settled + 1, ghosts_to + 1)
        keys = [*self._shared, *map(self._keys.budget_base, periods)]
        keys += map(self._keys.budget_granted, windows)
        arguments = [settled, ghosts_to, _moment(moment_us), _WINDOW_US]
        found = self._found(self._reset, keys, arguments)
        return None if found is None else str(found)

    @property
    def _shared(self) -> list[str]:
        keys = self._keys
        return [keys.budget_state, keys.budget_servers, keys.budget_ghosts, keys.budget_open]

    def _found(self, script: Any, keys: list[str], arguments: list[Any]) -> int | str | None:
        with translated():
            found: bytes | None = script(keys=keys, args=arguments)
        if found is None:
            return None
        return int(found) if found.isdigit() else found.decode()


class Granter:
    """An agent's way to its grants: numbers its calls and remembers what it has seen."""

    def __init__(self, store: BudgetStore, server: str) -> None:
        self._store = store
        self._server = server
        self._sequence = 0
        self._seen = 0

    def ask(
        self,
        window: int,
        limits: Sequence[Limit],
        wants: Sequence[Want],
        returns: Mapping[int, Mapping[str, int]],
        moment_us: int | None = None,
    ) -> Answer:
        self._sequence += 1
        call = Call(self._server, self._sequence, self._seen, window, limits, wants, returns)
        answer = self._store.grant(call, moment_us)
        self._seen = max(self._seen, answer.seq)
        return answer


def _moment(moment_us: int | None) -> int | str:
    return "" if moment_us is None else moment_us


def _flat(amounts: Mapping[str, int]) -> list[str | int]:
    return [part for pair in amounts.items() for part in pair]


def _packed(amounts: Mapping[str, int]) -> bytes:
    return msgspec.msgpack.encode(_flat(amounts))
