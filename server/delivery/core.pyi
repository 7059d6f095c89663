from collections.abc import Callable, Mapping
from typing import final

from server.config import Config
from server.delivery.http import Answer, Ask, Headers
from server.delivery.snapshot import Holder
from server.delivery.tally import Tally
from server.delivery.tokens import Keyring
from server.delivery.tracing import Tracer
from server.delivery.tracking import Tracker
from server.delivery.users import Users
from server.delivery.visits import Visit

API: str
PING: str
BODY_BYTES_MAX: int
URL_CHARS_MAX: int
HEADERS_MAX: int
SHADOW_ONE_IN: int
SHADOW_WORDS: int
JSON_HEADERS: Headers
TOO_LARGE: Answer
LATE: Answer
BROKEN: Answer
FAILED: Answer

def refusal(status: int, error: str, *headers: tuple[str, str]) -> Answer: ...

@final
class Pending(Visit):
    """A request that is being decided: whatever it takes to go on after it has waited."""

@final
class Core:
    def __init__(
        self,
        config: Config,
        holder: Holder,
        keyring: Keyring,
        tracker: Tracker,
        tally: Tally,
        pages: Mapping[str, Callable[[], Answer]],
        users: Users,
        tracer: Tracer | None = None,
    ) -> None: ...
    def admit(self, ask: Ask) -> Answer | None: ...
    def decide(self, ask: Ask, body: bytes) -> Answer | Pending: ...
    def resume(self, pending: Pending) -> None: ...
    def done(self, ask: Ask, answer: Answer) -> Answer: ...
    def leases_refused(self) -> int: ...
    def lookups(self) -> dict[str, tuple[int, int]]: ...
