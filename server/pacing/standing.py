"""How line items stand, as `adcore pace` shows it: what is known, and why one is behind.

Only what is seen from here is said. Whether a line item lost to a better one, to a floor or to a
frequency cap is known to the server that decided; of those three a reason says that they are what
it may be, and `adcore explain` which it is for one request.
"""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

HOURS_SHOWN: Final = 24
PLAN_AGE_MAX_S: Final = 120.0  # servers drop an older plan: leases alone decide then

Unit = Literal["impressions", "clicks", "conversions", "micros"]
Group = Literal["behind", "blocked", "learning", "ahead", "on_plan", "done", "idle"]

GROUPS: Final[tuple[Group, ...]] = (
    "blocked", "behind", "learning", "ahead", "on_plan", "done", "idle",
)  # fmt: skip
"""What needs a person comes first."""


class Reason(Struct, frozen=True):
    group: Group
    text: str  # for a table: a few words
    meaning: str  # for one line item's page: a sentence or two


REASONS: Final = {
    "on_plan": Reason("on_plan", "on plan", "It has what its plan wants by now."),
    "ahead": Reason(
        "ahead", "ahead of plan", "It has more than its plan wants by now, and is held back for it."
    ),
    "throttled": Reason(
        "on_plan", "throttled to plan", "It takes part in a share of its requests: its plan's pace."
    ),
    "catching_up": Reason(
        "learning",
        "catching up",
        "It is behind its plan, and its rate is as high as it needs to be to be level in time.",
    ),
    "learning": Reason(
        "learning",
        "learning its supply",
        "How much it can have is not known yet: its rate rises step by step.",
    ),
    "too_little_supply": Reason(
        "behind",
        "too little supply",
        "It takes part in every request that it is targeted at, and that is not enough.",
    ),
    "campaign_limit": Reason(
        "behind",
        "its campaign's limit",
        "Its campaign's goal or budget is spent as planned, or spent; it shares that with others.",
    ),
    "no_lease": Reason(
        "blocked",
        "no lease",
        "Nothing was granted to its servers lately: Redis was away or lost what it had, and what"
        " may have been granted then is held back until it is settled.",
    ),
    "not_opened": Reason(
        "blocked",
        "not opened yet",
        "Control has opened no account for it, so nothing is granted. It does so within a second of"
        " the catalog's publishing, if it runs and the counts can be read.",
    ),
    "no_plan": Reason(
        "learning",
        "no plan",
        "There is no plan, or servers have dropped it because of its age: is `adcore control`"
        " running? Leases alone limit it: nothing is overspent, and nothing is paced.",
    ),
    "spent": Reason("done", "spent", "All of a limit is spent; it starts again when that does."),
    "not_started": Reason("idle", "not started", "Its flight has not begun."),
    "ended": Reason("idle", "ended", "Its flight is over."),
    "paused": Reason("idle", "paused", "It is paused, or its campaign is."),
    "outside_hours": Reason("idle", "outside its hours", "Its dayparts leave this hour out."),
    "unknown": Reason("learning", "unknown", "Nothing that is seen from here says why."),
}


class Limit(Struct, frozen=True, kw_only=True):
    """What may be spent once, and what was."""

    key: str  # PERIOD/ACCOUNT, as in Redis
    unit: Unit
    is_campaign: bool  # shared with the campaign's other line items
    is_daily: bool
    limit: int
    window_max: int = 0  # the most that is granted in ten seconds, rounded up
    billed: int  # of its period, by the ledger
    leased: int | None = None  # granted and not settled, rounded up: some is billed already
    planned: int | None = None  # what its plan wants by now
    forecast: int | None = None  # at its end
    begins_s: int
    ends_s: int

    @property
    def is_short(self) -> bool:
        """Whether it is forecast to end with less than all."""
        return self.forecast is not None and self.forecast < self.limit


class Standing(Struct, frozen=True, kw_only=True):
    """One line item that has a limit."""

    id: int
    name: str
    campaign: str
    advertiser: str
    priority: int
    rate_ppm: int | None  # in force; None: there is no plan that servers use
    reason: str  # of REASONS
    hint: str = ""  # what else the reason may come from, of this very line item
    limits: tuple[Limit, ...]
    binding: int  # which of them is the tightest
    hours: tuple[int, ...]  # what was billed of its unit in the last 24 hours, the oldest first

    @property
    def limit(self) -> Limit:
        return self.limits[self.binding]

    @property
    def group(self) -> Group:
        return REASONS[self.reason].group


class View(Struct, frozen=True, kw_only=True):
    """All of it at one moment."""

    now_s: int
    currency: str
    leader: str  # empty: nobody leads
    plan_version: int  # 0: there is none
    plan_age_s: int
    counted_s: int | None  # the ledger's own time; None: its counts can't be read whole
    settled_s: int | None  # the end of the last settled window
    standings: tuple[Standing, ...]
    unlimited: int  # line items without a goal or budget
    notes: tuple[str, ...] = ()

    @property
    def has_plan(self) -> bool:
        return self.plan_version > 0 and self.plan_age_s <= PLAN_AGE_MAX_S


def in_order(standings: Sequence[Standing]) -> tuple[Standing, ...]:
    """Sort: what needs a person first, then by id."""
    return tuple(sorted(standings, key=lambda each: (GROUPS.index(each.group), each.id)))
