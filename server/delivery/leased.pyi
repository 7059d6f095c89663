from typing import final

from adcore import Index, Live
from server.delivery.leasing import LeaseTable

@final
class LeasedLines:
    """The line items of one snapshot that serve on a lease only."""

    count: int
    def __init__(self, index: Index, ids: memoryview, lines: memoryview) -> None: ...
    def needs(self, line: int) -> bool:
        """Tell whether a line, as a Win has it, needs a lease."""
    def look_up(self, table: LeaseTable | None) -> None:
        """Find each line item's slot, unless nothing has changed since the last time."""
    def apply(self, live: Live, monotonic_ns: int) -> int:
        """Stop those that have nothing left in this Live's plan, and resume those that have."""
