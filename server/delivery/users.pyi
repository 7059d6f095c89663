import asyncio
from collections.abc import Callable
from typing import Any, final

from typing_extensions import disjoint_base

from server.delivery.http import Answer
from server.metrics import Metrics
from server.store.keyspace import Keyspace

DEADLINE_NS: int
FAILURES_MAX: int
FAILING_NS: int
PROBE_S: float
GAP_S: float
USERS_MAX: int
WAITING_MAX: int

@disjoint_base
class Visit:
    user: bytes | None
    visit_s: int
    counts: bool
    deliver: Callable[[Answer], object] | None
    def __init__(self, user: bytes | None, visit_s: int, counts: bool) -> None: ...

@final
class Sent:
    """A command whose answer is due."""

@final
class Users:
    turn: Any
    broken: bool
    def __init__(
        self, url: str, keyspace: Keyspace, hasher: Callable[[str], bytes], metrics: Metrics
    ) -> None: ...
    def share_turn(self, turn: Any) -> None: ...
    def start(self, loop: asyncio.AbstractEventLoop, resume: Callable[[Any], object]) -> None: ...
    def close(self) -> None: ...
    @property
    def waits(self) -> int: ...
    def hashed(self, key: str) -> bytes: ...
