import asyncio
from collections.abc import Callable
from typing import Any, final

from server.metrics import Metrics
from server.store.keyspace import Keyspace

FAILURES_MAX: int
FAILING_NS: int
PROBE_S: float
GAP_S: float
USERS_MAX: int
WAITING_MAX: int

@final
class Users:
    turn: Any
    broken: bool
    def __init__(
        self,
        url: str,
        keyspace: Keyspace,
        hasher: Callable[[str], bytes],
        metrics: Metrics,
        deadline_ms: float,
    ) -> None: ...
    def share_turn(self, turn: Any) -> None:
        """Take the door's own lock for ours; before `start`."""
    def start(self, loop: asyncio.AbstractEventLoop, resume: Callable[[Any], object]) -> None: ...
    def close(self) -> None: ...
    @property
    def waits(self) -> int: ...
    def hashed(self, key: str) -> bytes: ...
