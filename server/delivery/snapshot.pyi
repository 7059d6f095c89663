from collections.abc import Callable
from pathlib import Path
from typing import final

from adcore import Index, Live
from server.delivery.bundle import Bundle
from server.delivery.conversions import Lookbacks
from server.delivery.leased import LeasedLines
from server.delivery.leasing import LeaseTable
from server.delivery.planning import PlanFile
from server.delivery.render import AdTemplate
from server.delivery.sightings import Rule

LEASES: str
POLL_INTERVAL_S: float
TEMPLATES_MAX: int
RULES_MAX: int

@final
class Snapshot:
    generation: int
    index: Index
    click_url: Callable[[int], str | None]
    lookbacks: Callable[[int], Lookbacks]
    names: memoryview
    has_caps: bool
    sharing: Callable[[int], memoryview]
    leased: LeasedLines
    def __init__(self, bundle: Bundle) -> None: ...
    def live(self, now_s: int) -> Live: ...
    def booked(self, at_s: int) -> Live: ...
    def template(self, ad: int) -> AdTemplate: ...
    def rule(self, line_item_id: int) -> Rule | None: ...
    def follow(
        self, plan: PlanFile | None, table: LeaseTable | None, now_s: int, replan: bool
    ) -> None: ...

@final
class Holder:
    snapshot: Snapshot | None
    table: LeaseTable | None
    plan: PlanFile | None
    def __init__(self, run_dir: Path) -> None: ...
    def click_url(self, creative_id: int) -> str | None: ...
    def lookbacks(self, line_item_id: int) -> Lookbacks: ...
    def poll(self, now_s: int) -> bool: ...
