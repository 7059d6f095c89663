"""Goals, budgets and pacing that can't be kept are faults of the catalog."""

import pytest

from tests.test_catalog_check import FLAT, ITEM, checked


@pytest.mark.parametrize(
    ("curve", "part"),
    [
        ([1] * 23, "not 23"),
        ([1] * 25, "not 25"),
        ([0] * 168, "all its hours are 0"),
        ([0] * 24, "0"),
    ],
)
def test_a_curve_has_an_hour_of_a_day_or_a_week_that_serves(curve, part):
    [fault] = checked((f"{ITEM}.pacing", "custom"), (f"{ITEM}.pacing_curve", curve))
    assert fault.path == f"{ITEM}.pacing_curve"
    assert part in fault.message
    for length in (24, 168):
        right = [0] * (length - 1) + [1]
        assert checked((f"{ITEM}.pacing", "custom"), (f"{ITEM}.pacing_curve", right)) == []


def test_a_flat_price_has_no_budget_but_may_stand_in_a_campaign_that_has_one():
    rate = ("line_items[0].rate", FLAT)
    budget = {"total_micros": 10**9}
    assert checked(rate, ("campaigns[0].budget", budget)) == []
    [fault] = checked(rate, ("line_items[0].budget", budget))
    assert (fault.path, fault.severity) == ("line_items[0].budget", "error")
