"""A rate is what is left over what is left to come, within 0 and 10^6, whatever the state."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from server.pacing import pace
from server.pacing.goals import ASAP, CLICK, CUSTOM, EVEN, FRONTLOADED, PPM
from server.pacing.pace import State
from tests.pacing_goals import DAY, MONDAY, goals, seen, supply

NOON = MONDAY + DAY / 2
REACH_S = DAY / 288
PLAN_S = DAY - 1800  # plans end half an hour early


def solved(bought, forecast, now_s, spent, **more):
    """The first rates after a look at what was spent."""
    state = State.fresh(bought)
    pace.observe(bought, state, forecast, seen(now_s, spent, **more), now_s)
    return pace.rates(bought, state, forecast, now_s)


def on_plan(limit, now_s):
    """What a plan is aimed at: a little below it."""
    return limit * (now_s - MONDAY) / PLAN_S - (limit * REACH_S / PLAN_S) ** 0.5


# -- the law ---------------------------------------------------------------------------------------


def test_on_plan_it_is_what_is_left_over_what_is_left_to_come():
    (rate,) = solved(goals(), supply(), NOON, [on_plan(1000, NOON)])
    assert rate == pytest.approx(PPM * 1000 / PLAN_S, rel=1e-3)


def test_warm_start_at_the_first_second_is_the_forecasts():
    (rate,) = solved(goals(), supply(), MONDAY, [0.0])
    assert rate == pytest.approx(PPM * 1000 / PLAN_S, rel=1e-3)


def test_ahead_it_stops_and_behind_it_hurries_but_only_so_much():
    plan = on_plan(1000, NOON)
    ahead, behind, far = (
        solved(goals(), supply(), NOON, [spent])[0] for spent in (plan * 1.05, plan * 0.999, 0.0)
    )
    nominal = PPM * 1000 / PLAN_S
    assert ahead == 0
    assert nominal < behind < 2 * nominal
    assert far < 2.1 * 3 * nominal  # twice as much is left, and no faster than three times that


def test_when_supply_is_short_everything_is_taken():
    assert solved(goals(limits=[200_000.0]), supply(), NOON, [0.0])[0] == PPM


def test_no_supply_at_all_is_full_rate_and_said_so():
    bought, forecast = goals(), supply([0.0])
    assert solved(bought, forecast, NOON, [0.0])[0] == PPM
    state = State.fresh(bought)
    pace.observe(bought, state, forecast, seen(NOON, [0.0]), NOON)
    assert pace.REASONS[pace.reasons(bought, state, forecast, NOON)[0]] == "too little supply"


@pytest.mark.parametrize(
    ("now_s", "spent", "change"),
    [
        (NOON, 1000.0, {}),
        (NOON, 1200.0, {}),
        (MONDAY - 1, 0.0, {}),
        (MONDAY + DAY, 0.0, {}),
        (NOON, 0.0, {"active": [False]}),
        (NOON, 0.0, {"close_s": [NOON]}),
        (NOON, 1000.0, {"pacing": [ASAP]}),
    ],
)
def test_zero_when_spent_or_paused_or_out_of_its_time(now_s, spent, change):
    assert solved(goals(**change), supply(), now_s, [spent])[0] == 0


def test_the_last_second_of_a_flight_still_sells_what_is_left():
    assert solved(goals(), supply(), MONDAY + DAY - 1, [990.0])[0] == PPM


def test_the_plan_of_a_short_flight_ends_a_sixteenth_early():
    bought = goals(end_s=[MONDAY + 3600.0], close_s=[MONDAY + 3600.0])
    state = State.fresh(bought)
    for now_s, share in ((MONDAY + 3600 * 15 / 32, 0.5), (MONDAY + 3600 * 15 / 16, 1.0)):
        assert pace.planned(bought, state, supply(), now_s)[0] == pytest.approx(1000 * share)


@given(
    some.floats(0, DAY), some.floats(0, 1.2), some.floats(0, 1.2), some.floats(50, 1e7),
    some.floats(1e-5, 1e4), some.sampled_from([EVEN, FRONTLOADED, ASAP]),
)  # fmt: skip
def test_rates_are_whole_in_bounds_and_fall_with_what_was_spent(
    after_s, share, more, limit, a_second, mode
):
    bought, forecast = goals(limits=[limit], pacing=[mode]), supply([a_second])
    low, high = sorted((limit * share, limit * more))
    rates = [solved(bought, forecast, MONDAY + after_s, [spent]) for spent in (low, high)]
    assert all(rate.dtype == np.int64 and 0 <= rate[0] <= PPM for rate in rates)
    assert rates[1][0] <= rates[0][0]
    assert (solved(bought, forecast, MONDAY + after_s, [low]) == rates[0]).all()


def test_solving_changes_nothing():
    bought, forecast = goals(), supply()
    state = State.fresh(bought)
    pace.observe(bought, state, forecast, seen(NOON, [10.0]), NOON)
    before = state.packed()
    for moment in (NOON, NOON + 5, NOON + 5):
        pace.rates(bought, state, forecast, moment)
        pace.reasons(bought, state, forecast, moment)
    assert state.packed() == before


# -- modes -----------------------------------------------------------------------------------------


def test_frontloaded_stays_within_40_25_and_5_percent():
    bought = goals(pacing=[FRONTLOADED])
    before = 0.0
    for x in np.linspace(0.01, 1, 50):
        state = State.fresh(bought)
        planned = pace.planned(bought, state, supply(), MONDAY + x * PLAN_S)[0] / 1000
        assert before < planned or planned == 1
        assert planned <= min(x * (1 + np.interp(x, [0, 0.5, 1], [0.4, 0.25, 0.05])), 1)
        assert planned >= x
        before = planned


def test_asap_takes_part_in_all():
    assert solved(goals(pacing=[ASAP]), supply(), MONDAY, [0.0])[0] == PPM


def test_a_custom_curve_is_followed_hour_by_hour():
    weights = (1.0,) * 6 + (0.0,) * 6 + (3.0,) * 12
    curve = pace.curve_utc(weights, "UTC", MONDAY)
    bought = goals(pacing=[CUSTOM], curve=[0], curves=curve[None, :])
    whole = 6 + 3 * 11.5
    for hour, share in ((0, 0), (3, 3), (6, 6), (9, 6), (12, 6), (14, 12)):
        state = State.fresh(bought)
        planned = pace.planned(bought, state, supply(), MONDAY + hour * 3600)[0]
        assert planned == pytest.approx(1000 * share / whole)
    assert solved(bought, supply(), MONDAY + 9 * 3600, [1000 * 6 / whole])[0] == 0


@pytest.mark.parametrize(
    ("zone", "day", "quarters"),
    [("UTC", "2026-07-01", 0), ("Europe/Berlin", "2026-07-01", 8),
     ("Europe/Berlin", "2026-12-01", 4),
     ("Asia/Kathmandu", "2026-12-01", 23), ("America/New_York", "2026-12-01", -20)],
)  # fmt: skip
def test_a_curve_moves_with_its_zone_and_daylight_saving(zone, day, quarters):
    now_s = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    found = pace.curve_utc(tuple(map(float, range(168))), zone, now_s)
    for hour in (30, 100):
        parts = [(hour * 4 + part + quarters) // 4 for part in range(4)]
        assert found[hour] == pytest.approx(np.mean(parts))
    with pytest.raises(ValueError, match="25 weights"):
        pace.curve_utc((1.0,) * 25, zone, now_s)


@pytest.mark.parametrize("hours", [23, 24, 25])
def test_a_day_of_23_to_25_hours_is_spent_by_its_end(hours):
    close_s = MONDAY + hours * 3600
    bought = goals(end_s=[MONDAY + 7 * DAY], close_s=[close_s])
    half = pace.planned(bought, State.fresh(bought), supply(), MONDAY + (hours - 0.5) * 1800)
    assert half[0] == pytest.approx(500)
    assert pace.planned(bought, State.fresh(bought), supply(), close_s - 1800)[0] == 1000


def test_the_plan_follows_the_traffic():
    shape = np.tile(np.r_[np.zeros(12), np.ones(12)], 7)
    bought = goals()
    planned = [
        pace.planned(bought, State.fresh(bought), supply(shape=shape), MONDAY + hour * 3600)[0]
        for hour in (6, 12, 18)
    ]
    assert planned == pytest.approx([0, 0, 1000 * 6 / 11.5])


# -- several accounts ------------------------------------------------------------------------------


def test_the_tightest_account_rules():
    both = goals(limits=[1000.0, 100.0], uses=[(0, 0), (0, 1)])
    (rate,) = solved(both, supply(), MONDAY, [0.0, 0.0], billed=[0])
    assert rate == solved(goals(limits=[100.0]), supply(), MONDAY, [0.0])[0]
    assert solved(both, supply(), NOON, [100.0, 100.0], billed=[100])[0] == 0


def test_a_campaigns_budget_is_shared_by_what_each_can_use():
    # Line 0 wants 1000 of its own; line 1 has only the campaign's 3000, and three times the supply.
    bought = goals(2, limits=[1000.0, 3000.0], uses=[(0, 0), (0, 1), (1, 1)])
    first, second = solved(bought, supply([1.0, 3.0]), MONDAY, [0.0, 0.0], billed=[0, 0])
    nominal = PPM / PLAN_S
    assert first * 1.0 + second * 3.0 == pytest.approx(3000 * nominal, rel=1e-3)
    assert first <= 1000 * nominal + 1
    assert (solved(bought, supply([1.0, 3.0]), NOON, [0.0, 3000.0], billed=[0, 3000]) == 0).all()


def test_money_is_paced_by_price_and_probability():
    bought = goals(limits=[1e6], use_price=[500.0], use_event=[CLICK], event=[CLICK],
                   booked_ppm=[20_000])  # fmt: skip
    (rate,) = solved(bought, supply([10.0]), MONDAY, [0.0], billed=[0])
    assert rate == pytest.approx(PPM * (1e6 / (500 * 0.02)) / (10 * PLAN_S), rel=1e-3)


def test_without_accounts_it_goes_at_full_rate():
    bought = goals(1, limits=[], uses=[])
    assert solved(bought, supply(), NOON, [], billed=[0])[0] == PPM


def test_no_line_items_at_all():
    bought = goals(0, limits=[], uses=[])
    assert len(solved(bought, supply([]), NOON, [], billed=[])) == 0
