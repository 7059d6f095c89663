from array import array
from typing import final

@final
class Numbering:
    """Gives each new value and each new predicate the next number."""

    def slots(self) -> array[int]:
        """Return the table of values: two numbers a slot, its tag and its feature number + 1."""
    def add(self, space: int, text: bytes) -> int:
        """Return the number of a value, its feature."""
