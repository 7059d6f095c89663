from collections.abc import Callable
from typing import final

from typing_extensions import disjoint_base

from server.delivery.http import Answer

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
