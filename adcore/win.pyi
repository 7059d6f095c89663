from typing import final

@final
class Win:
    """A line item that won a placement, with the ad to show and the price to pay."""

    line: int
    """Position in `catalog.line_items`."""
    ad: int
    """Running number over `for line in line_items: for ad in line.ads`."""
    line_item_id: int
    creative_id: int
    priority: int
    ecpm_micros: int
    clear_price_micros: int
    """In the unit of the line item's rate."""
    clear_ecpm_micros: int
    """What the clear price is worth, for a thousand impressions."""
    lease: int
    """The caller's: what it reserved for this win. The engine gives 0."""

    def __init__(self) -> None: ...
