from typing import Any, final

from server.delivery.cap_records import LineCaps

def packed(words: list[bytes | int]) -> bytes: ...

@final
class Scope:
    field: bytes
    keep: int
    keep_s: int
    cap_count: int
    def __init__(
        self, field: bytes, keep: int, keep_s: int, caps: tuple[tuple[int, int], ...]
    ) -> None: ...
    def cap(self, place: int) -> tuple[int, int]: ...

@final
class Rule:
    line_item_id: int
    strict: bool
    allow: bool
    checks: bool
    scopes: list[Scope]
    counted: bytes
    checked: bytes
    word_count: int
    def __init__(self, line_item_id: int, caps: LineCaps) -> None: ...

@final
class Seen:
    read_ns: int
    def __init__(self, flat: list[Any], first: int, read_ns: int) -> None: ...
    def fields(self) -> list[bytes]: ...
    def room(self, rule: Rule, now_s: int, spare: int = 0) -> bool: ...
    def seen(self, rule: Rule, now_s: int) -> None: ...
