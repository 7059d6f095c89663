from typing import final

from server.ledger.ids import IdTable

KEPT_S: int
IDS_MAX: int
CLICK_KEPT_S: int
CLICKS_MAX: int
CROWD_KEPT_S: int
DOUBLE_CLICK_S: int
CLICKS_A_MINUTE_MAX: int

@final
class Ids:
    served: IdTable
    events: IdTable
    def __init__(self) -> None: ...

@final
class Memory:
    def __init__(self) -> None: ...
