from typing import Final, final

from adcore.index import Index

AS_BOOKED: Final[int]
MULTIPLIER_PPM_MAX: Final[int]
PPM: Final[int]

@final
class Directory:
    """Line items by id; filled and read by compiled code only."""

@final
class Plan:
    """How line items stand now: stopped, throttled, or with another score than was booked.

    Made by `Index.plan`, for that index alone. Stops are changed through a `Live` that has it.
    """

    index: Index
    unknown: int
    """How many of the given line items the index does not have."""

    def __init__(self) -> None: ...
