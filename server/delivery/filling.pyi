from typing import final

from adcore import Live, Request, Win
from server.delivery.capping import Capper
from server.delivery.snapshot import Snapshot
from server.delivery.visits import Visit

ROUNDS_MAX: int

@final
class Filler:
    """Selects until every winner may be served."""

    refused: int
    """Winners without a lease so far."""

    def __init__(self, capper: Capper) -> None: ...
    def fill(
        self,
        request: Request,
        snapshot: Snapshot,
        live: Live,
        draw: int,
        billed: bool,
        visit: Visit,
    ) -> list[list[Win]] | None:
        """Give the winners of each placement; a winner that needs a lease has its `lease`.

        What is not `billed` takes none. None: the visit waits, holds no lease, and is resumed.
        Errors are `Index.select`'s.
        """
