from typing import final

from adcore import Live, Request, Win
from server.delivery.snapshot import Snapshot

@final
class Filler:
    """Selects until every winner may be served."""

    def fill(
        self, request: Request, snapshot: Snapshot, live: Live, draw: int, billed: bool
    ) -> list[list[Win]]:
        """Give the winners of each placement; a winner that needs a lease has its `lease`.

        What is not `billed` takes none. Errors are `Index.select`'s.
        """
