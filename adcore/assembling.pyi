from typing import final

from adcore.booking import Booking

@final
class Assembly:
    """A booked catalog on its way into one buffer: measured first, then filled in."""

    row_count: int
    def __init__(self, booking: Booking) -> None: ...
    def measure(self) -> list[int]:
        """Return how many bytes each section has."""
    def fill(self, buffer: object, offsets: list[int]) -> None:
        """Write the sections that are measured here, all but SCHEDULES and ZONES."""
