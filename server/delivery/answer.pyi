from typing import final

from adcore import Win
from server.delivery.kevel import Asked
from server.delivery.snapshot import Snapshot
from server.delivery.tokens import Keyring

DECISION_ID_BYTES: int

@final
class Moment:
    decision_id: bytes
    now_s: int
    flags: int
    def __init__(self, decision_id: bytes, now_s: int, preview: bool) -> None: ...

@final
class Writer:
    def __init__(self, keyring: Keyring, base_url: str) -> None: ...
    def write(
        self, asked: Asked, wins: list[list[Win]], snapshot: Snapshot | None, moment: Moment
    ) -> bytes: ...
