from pathlib import Path
from typing import final

SLOTS_MAX: int
WINDOW_NS: int

@final
class LeaseTable:
    """What this server may still serve of its leases, shared by its workers and their agent.

    The agent opens it with `create` and is the only one that calls what stands below; a worker
    takes units by the slots that it has found for its line items.
    """

    path: str
    clock_ns: int
    """Redis's time less CLOCK_MONOTONIC, never too small: by it leases end."""

    def __init__(self, path: Path, create: bool = False) -> None:
        """Map the file; `create` makes it when there is none that fits. OSError, ValueError."""
    @property
    def version(self) -> int: ...
    @property
    def count(self) -> int: ...
    def find_all(self) -> dict[int, int]:
        """Slots by line item id."""
    def insert(self, line_item_id: int) -> int:
        """Give a line item a new slot; `announce` lets workers see it. OSError: no room."""
    def reuse(self, slot: int, line_item_id: int) -> None:
        """Give the slot to another line item; 0: to nobody."""
    def announce(self) -> None:
        """Have workers look for their line items again."""
    def put(self, slot: int, window: int, units: int) -> tuple[int, int]:
        """Add units of a window's lease; return the window and the units of the one before.

        (0, 0) when that is the same lease, which grows.
        """
    def withdraw(self, slot: int) -> tuple[int, int]:
        """Take all that is left away; its window and units."""
    def left(self, slot: int) -> tuple[int, int]:
        """Window and units, for this moment."""
    def wake(self, slot: int, awake: bool) -> None:
        """Say whether units are asked for: if so, without units the line item is not selected."""
    def is_awake(self, slot: int) -> bool: ...
    def look(self) -> list[tuple[int, int, int]]:
        """Slot, units taken and takes that failed since the last look, where there were any."""
    def held(self) -> int:
        """All units that are left."""
    def take(self, slot: int, line_item_id: int, monotonic_ns: int) -> int:
        """Take a unit: the window of its lease, or 0 when there is none; then it is wanted."""
    def give_back(self, slot: int, line_item_id: int, window: int) -> bool:
        """Undo a take; False when that lease has been replaced meanwhile."""
