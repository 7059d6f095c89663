from collections.abc import Iterable
from typing import final

from adcore.catalog import Catalog, LineItem, Rate

class LayoutError(ValueError):
    """The catalog can't be compiled; `line_item_id` says where, if a line item is at fault."""

    line_item_id: int | None
    def __init__(self, message: str, line_item_id: int | None = None) -> None: ...

@final
class Booking:
    """All line items of a catalog as records, in the order of booking."""

    second_price: bool
    label_numbers: dict[str, int]
    zone_numbers: dict[str, int]
    schedule_numbers: dict[tuple[int, int], int]  # by hours of the week and zone
    settings_numbers: dict[bytes, int]
    def __init__(self, catalog: Catalog) -> None: ...
    def book(self, line_items: Iterable[LineItem]) -> None:
        """Add line items; LayoutError names the first that is at fault."""

def ecpm_micros(rate: Rate) -> int:
    """Return what a rate is worth in the ranking."""
