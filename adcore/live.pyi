from typing import final

from adcore.index import Index
from adcore.plan import Plan

@final
class Live:
    """Which rows may serve; exact for seconds in [valid_from_s, valid_until_s)."""

    index: Index
    valid_from_s: int
    valid_until_s: int
    count: int  # rows, whether stopped or not
    plan: Plan

    def stop(self, line_item_id: int) -> None:
        """Keep a line item out from the next request on, in every Live with this plan.

        KeyError if the index does not have it. It stays out in those made later, too.
        """
    def resume(self, line_item_id: int) -> None:
        """Undo `stop`: the line item serves again, if it is its time and its rate is not 0."""

    def __init__(self) -> None: ...
