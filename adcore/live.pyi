from typing import final

from adcore.index import Index

@final
class Live:
    """Which rows may serve; exact for seconds in [valid_from_s, valid_until_s)."""

    index: Index
    valid_from_s: int
    valid_until_s: int
    count: int

    def __init__(self) -> None: ...
