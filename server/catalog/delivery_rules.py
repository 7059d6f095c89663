"""Whether goals, budgets and pacing can be kept: what a line item and its campaign ask for."""

from collections.abc import Iterator
from typing import Final

from adcore.catalog import Campaign, Cpa, Cpc, Flat, LineItem
from adcore.zones import HOURS_PER_WEEK
from server.catalog.fault import Fault

CURVE_LENGTHS: Final = (24, HOURS_PER_WEEK)

# Which rate says how probable one of these is. An impression is certain.
_RATES_OF_UNITS: Final = {"clicks": Cpc, "conversions": Cpa}


def limits_faults(owner: LineItem | Campaign) -> Iterator[Fault]:
    """Yield goals and budgets that limit nothing, or whose day is larger than their total."""
    if owner.goal is not None:
        yield from _total_and_daily("goal", owner.goal.total, owner.goal.daily, "")
    if owner.budget is not None:
        total, daily = owner.budget.total_micros, owner.budget.daily_micros
        yield from _total_and_daily("budget", total, daily, "_micros")


def spending_faults(item: LineItem, campaign: Campaign | None) -> Iterator[Fault]:
    """Yield limits in a unit of which this rate does not say what an impression takes.

    Before an impression is sent, its share of every limit is set aside. A line item of another rate
    beside it in a campaign may well be flat: it spends nothing of the campaign's budget.
    """
    if item.budget is not None and isinstance(item.rate, Flat):
        yield Fault(("budget",), "a flat rate is not spent by impressions: leave it out")
    for owner, steps in ((item, ("goal", "unit")), (campaign, ("rate", "type"))):
        unit = owner.goal.unit if owner is not None and owner.goal is not None else ""
        needed = _RATES_OF_UNITS.get(unit)
        if needed is not None and not isinstance(item.rate, needed):
            whose = "" if owner is item else "the campaign's goal: "
            kind = needed.__struct_config__.tag
            message = f"{whose}{unit} need a {kind} rate, which says how probable one is"
            yield Fault(steps, message)


def pacing_faults(item: LineItem) -> Iterator[Fault]:
    curve = item.pacing_curve
    if item.pacing != "custom":
        if curve:
            yield Fault(("pacing_curve",), f"is for custom pacing, not for {item.pacing}")
    elif len(curve) not in CURVE_LENGTHS:
        message = f"custom pacing needs 24 or {HOURS_PER_WEEK} hourly weights, not {len(curve)}"
        yield Fault(("pacing_curve",), message)
    elif not any(curve):
        yield Fault(("pacing_curve",), "all its hours are 0: nothing would serve")


def _total_and_daily(
    field: str, total: int | None, daily: int | None, unit: str
) -> Iterator[Fault]:
    if total is None and daily is None:
        yield Fault((field,), f"needs total{unit}, daily{unit} or both")
    elif total is not None and daily is not None and daily > total:
        yield Fault((field, f"daily{unit}"), f"must be <= total{unit}, which is {total}")
