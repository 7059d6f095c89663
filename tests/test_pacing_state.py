"""What control learns of supply and clicks, and that a new leader goes on where the last stood."""

import numpy as np
import pytest

from server.pacing import pace
from server.pacing.goals import CLICK, PPM
from server.pacing.pace import State
from tests.pacing_goals import MONDAY, goals, seen, supply

pytestmark = pytest.mark.plain

START = MONDAY + 3600.0


def driven(bought, forecast, truth, steps, state=None, start_s=START, **more):
    """Steps of 5 s in which exactly `truth` a second times the rate is billed."""
    state = state or State.fresh(bought)
    billed = np.zeros(bought.lines)
    spent = np.zeros(bought.accounts)
    rates = np.zeros(bought.lines)
    for step in range(steps):
        now_s = start_s + 5 * step
        billed += np.asarray(truth) * rates * 5
        spent[: bought.lines] = billed
        look = seen(now_s, spent, np.floor(billed), **more)
        pace.observe(bought, state, forecast, look, now_s)
        found = pace.rates(bought, state, forecast, now_s)
        pace.apply(state, found, now_s)
        rates = found / PPM
    return state


@pytest.mark.parametrize("truth", [0.2, 1.0, 5.0])
def test_the_level_is_learned_from_what_is_billed(truth):
    bought, forecast = goals(limits=[50_000.0]), supply([10.0])
    state = driven(bought, forecast, [10 * truth], 400)
    assert pace.levels(state, forecast)[0] == pytest.approx(truth, rel=0.1)


def test_little_evidence_moves_it_little():
    bought, forecast = goals(limits=[50.0]), supply([10.0])
    state = driven(bought, forecast, [0.0], 100)
    assert 0.7 < pace.levels(state, forecast)[0] < 1


def test_nothing_is_learned_while_leases_are_blocked_or_counts_are_away():
    bought, forecast = goals(limits=[50_000.0]), supply([10.0])
    state = driven(bought, forecast, [0.0], 100, blocked=True)
    assert pace.levels(state, forecast)[0] == 1
    state = driven(bought, forecast, [10.0], 100)
    before = pace.levels(state, forecast)[0]
    billed = state.impressions.copy()
    late_s = state.time_s + 300
    pace.observe(bought, state, forecast, seen(late_s, billed, billed), late_s)
    assert pace.levels(state, forecast)[0] == pytest.approx(before, abs=0.02)


def test_counts_that_go_back_are_no_news():
    bought, forecast = goals(limits=[50_000.0]), supply([10.0])
    state = driven(bought, forecast, [10.0], 100)
    before = pace.levels(state, forecast)[0]
    now_s = state.time_s + 5
    pace.observe(bought, state, forecast, seen(now_s, [0.0], [0]), now_s)
    assert pace.levels(state, forecast)[0] == pytest.approx(before, rel=0.02)
    assert (state.fast_seen >= 0).all()


def test_the_same_counts_twice_are_no_news():
    bought, forecast = goals(), supply()
    state = driven(bought, forecast, [1.0], 10)
    due = state.fast_due.copy()
    look = seen(state.time_s, state.spent, state.impressions)
    pace.observe(bought, state, forecast, look, state.time_s + 5)
    assert (state.fast_due == due).all()


def test_a_new_line_item_is_careful_until_it_knows_better():
    # It is guessed at one a second, and could have a thousand: 20 s of that are 1 % of its budget.
    bought = goals(limits=[20_000.0])
    forecast = supply([1.0], strength=1.0, ceiling=1000.0)
    state = driven(bought, forecast, [0.0], 1)
    assert state.rates_ppm[0] <= PPM * 200 / (1000 * 20) + 1
    assert pace.REASONS[pace.reasons(bought, state, forecast, START)[0]] == "learning its supply"
    state = driven(bought, forecast, [1.0], 400)
    assert state.rates_ppm[0] > PPM * 0.2


def test_an_underestimated_supply_never_runs_far_ahead():
    bought = goals(limits=[20_000.0])
    forecast = supply([1.0], strength=1.0, ceiling=5000.0)
    state = driven(bought, forecast, [2000.0], 700, start_s=MONDAY)
    plan = pace.planned(bought, state, forecast, state.time_s)[0]
    assert plan * 0.97 < state.spent[0] < plan * 1.05


def test_probabilities_are_shrunk_to_what_was_booked():
    bought = goals(2, limits=[1e9, 1e9], event=[CLICK, 0], booked_ppm=[10_000, PPM])
    forecast = supply([1.0, 1.0])
    state = State.fresh(bought)
    assert list(pace.probabilities_ppm(bought, state)) == [-1, -1]
    found = []
    for number, (billed, clicks) in enumerate([(0, 0), (100, 5), (100_000, 2000)]):
        look = seen(START + 5 * number, [0, 0], [billed, billed], clicks=[clicks, clicks])
        pace.observe(bought, state, forecast, look, START)
        found.append(pace.probabilities_ppm(bought, state))
    assert 10_000 < found[1][0] < 15_000  # five clicks of a hundred are luck
    assert found[2][0] == pytest.approx(20_000, rel=0.02)
    assert found[2][1] == -1


# -- a new leader ----------------------------------------------------------------------------------


def test_a_new_leader_decides_as_the_old_one_would():
    bought, forecast = goals(3, limits=[1000.0, 50_000.0, 300.0]), supply([1.0, 10.0, 3.0])
    state = driven(bought, forecast, [0.5, 12.0, 1.0], 50)
    again = State.restored(state.packed(), bought)
    now_s = state.time_s + 5
    expected = pace.rates(bought, state, forecast, now_s)
    assert (pace.rates(bought, again, forecast, now_s) == expected).all()
    look = seen(now_s, state.spent + 5, state.impressions + 5)
    for each in (state, again):
        pace.observe(bought, each, forecast, look, now_s)
    assert state.packed() == again.packed()


def test_knowledge_moves_with_ids_and_keys():
    bought, forecast = goals(3, limits=[1000.0, 50_000.0, 300.0]), supply([1.0, 10.0, 3.0])
    state = driven(bought, forecast, [0.5, 12.0, 1.0], 50)
    other = goals(2, limits=[300.0, 70.0], ids=[3, 9], keys=("ever/a2", "ever/new"))
    moved = state.moved(other)
    assert moved.slow_due[0] == state.slow_due[2] > 0
    assert moved.even[0] == state.even[2] > 0
    assert moved.slow_due[1] == 0
    assert moved.even[1] == -1
    assert moved.rates_ppm[0] == state.rates_ppm[2]


@pytest.mark.parametrize("cut", [lambda b: b"", lambda b: b[:-3], lambda b: b"\x93\x01\x02\x03",
                                 lambda b: b[:1] + b"\x07" + b[2:]])  # fmt: skip
def test_what_is_no_state_is_refused(cut):
    bought = goals()
    with pytest.raises(ValueError, match=r".+"):
        State.restored(cut(State.fresh(bought).packed()), bought)


def test_another_forecast_keeps_the_level():
    bought, before = goals(limits=[50_000.0]), supply([10.0])
    state = driven(bought, before, [20.0], 300)
    after = supply([40.0])
    expected = pace.levels(state, before)[0] * 10
    pace.rescale(state, before, after)
    assert pace.levels(state, after)[0] * 40 == pytest.approx(expected, rel=0.1)


def test_the_plan_goes_on_from_where_it_stood():
    bought, before = goals(), supply()
    state = driven(bought, before, [1.0], 100)
    now_s = state.time_s
    stood = pace.planned(bought, state, before, now_s)[0]
    night = supply(shape=np.tile(np.r_[np.zeros(2), np.ones(22)], 7))
    assert pace.planned(bought, state, night, now_s)[0] == stood


def test_reasons_tell_what_holds_a_line_item():
    bought = goals(
        5,
        limits=[1000.0, 1000.0, 1000.0, 1000.0, 10.0],
        uses=[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)],
        active=[True, True, False, True, True],
        start_s=[MONDAY, MONDAY, MONDAY, START + 9, MONDAY],
    )
    forecast = supply([1.0] * 5)
    state = State.fresh(bought)
    plan = 1000 * 3600 / (86_400 - 1800)
    look = seen(START, [plan, 5 * plan, 0, 0, 10])
    pace.observe(bought, state, forecast, look, START)
    found = [pace.REASONS[number] for number in pace.reasons(bought, state, forecast, START)]
    assert found == ["on plan", "ahead of plan", "paused", "not started", "spent"]
