from typing import final

from adcore import Win
from server.delivery.answer import Moment
from server.delivery.kevel import PlacementAsked
from server.delivery.snapshot import Snapshot
from server.delivery.spool import Spool
from server.delivery.tally import Tally

@final
class DecisionLog:
    def __init__(self, spool: Spool, one_in: int, tally: Tally) -> None: ...
    def keeps(self, decision_id: bytes) -> bool: ...
    def write(
        self,
        placements: list[PlacementAsked],
        wins: list[list[Win]],
        snapshot: Snapshot | None,
        moment: Moment,
    ) -> None: ...
