"""In a guaranteed tier the scarcest line item comes first, and none falls short that need not."""

from itertools import product

import msgspec
import numpy as np
import pytest

from adcore import Placement, Request
from adcore import compile as compile_index
from adcore.catalog import Catalog
from server.pacing import ranking
from server.pacing.booked import booked
from server.pacing.goals import PPM
from tests import catalogs

NOW_S = 1_800_000_000
NARROW, WIDE = 40, 41
GOALS = {NARROW: 400, WIDE: 500}
CPC = {"type": "cpc", "price_micros": 9, "ctr_ppm": 9}
REQUESTS = 1000
SHARES = np.array([0.5, 1.0])  # half of them come from Germany: all that the narrow one may have
STEP = 20  # requests from one plan to the next


def contracts(**changes) -> Catalog:
    """Two line items of one tier; the wide one pays more and would win each auction."""
    records = catalogs.minimal_records()
    del records["advertisers"][0]["labels"]
    common = records["line_items"][0] | {"priority": 4, "ads": [{"creative_id": 50}]}
    records["line_items"] = [
        common
        | {
            "id": id_,
            "name": str(id_),
            "rate": {"type": "cpm", "price_micros": price},
            "goal": {"unit": "impressions", "total": GOALS[id_]},
        }
        | more
        for id_, price, more in (
            (NARROW, 1_000_000, {"targeting": {"dimension": "country", "include": ["DE"]}}),
            (WIDE, 9_000_000, {}),
        )
    ]
    records["line_items"][0] |= changes
    return msgspec.convert(records, Catalog)


def delivered(ranked: bool) -> dict[int, int]:
    """Serve all requests, each line item at the rate that it needs of what it can win."""
    catalog = contracts()
    index, made = compile_index(catalog), booked(catalog, NOW_S)
    goals, won, tried = np.array([*GOALS.values()]), np.zeros(2), np.zeros(2)
    steps = np.full(2, np.nan)
    for number in range(REQUESTS):
        if number % STEP == 0:
            left = (REQUESTS - number) * SHARES
            needs = (goals - won) / (
                left * (won + STEP) / (tried + STEP)
            )  # as `pace` learns levels
            steps = ranking.steps(needs, steps)
            multipliers = ranking.multipliers_ppm(made.goals, made.ecpms, steps, NOW_S)
            rates = np.clip(needs * PPM, 0, PPM).astype(np.int64)
            plan = index.plan(
                made.goals.ids, rates_ppm=rates, multipliers_ppm=multipliers if ranked else None
            )
            live = index.live(NOW_S, plan)
            tried += STEP * SHARES * rates / PPM
        request = Request(
            placements=[Placement(name="p", site=10, ad_types=[1])],
            country="DE" if number % 2 else "FR",
        )
        draw = number * 0x9E3779B97F4A7C15 % 2**64
        for win in index.select(request, live, draw)[0]:
            won[[*GOALS].index(win.line_item_id)] += 1
    return dict(zip(GOALS, won.tolist(), strict=True))


def test_the_scarcer_has_the_first_choice_and_both_are_delivered():
    by_price, by_need = delivered(ranked=False), delivered(ranked=True)
    assert by_price[NARROW] < 0.85 * GOALS[NARROW]
    assert all(by_need[id_] >= 0.99 * GOALS[id_] for id_ in GOALS)


def test_a_rank_is_no_price():
    """Whoever is ranked first by need pays what it booked, not what another would."""
    catalog = contracts()
    index, made = compile_index(catalog), booked(catalog, NOW_S)
    multipliers = ranking.multipliers_ppm(made.goals, made.ecpms, np.array([0.0, -2.0]), NOW_S)
    live = index.live(NOW_S, index.plan(made.goals.ids, multipliers_ppm=multipliers))
    request = Request(
        placements=[Placement(name="p", site=10, ad_types=[1], count=2)], country="DE"
    )
    (wins,) = index.select(request, live, 1)
    assert [(win.line_item_id, win.clear_price_micros) for win in wins] == [
        (NARROW, 1_000_000),
        (WIDE, 9_000_000),
    ]


@pytest.mark.parametrize(("ratio", "gap"), [*product((1, 3, 1000), (1, 4, 20))])
def test_scores_follow_need_alone(ratio, gap):
    made = booked(contracts(), NOW_S)
    ecpms = np.array([1_000_000.0, 1_000_000.0 * ratio])
    found = ranking.multipliers_ppm(made.goals, ecpms, np.array([0.0, -float(gap)]), NOW_S)
    scores = found * ecpms
    assert scores[0] > scores[1]
    assert found.max() == PPM
    assert found.min() >= 1


@pytest.mark.parametrize(
    "changes",
    [
        {"priority": 16},
        {"goal": {"unit": "clicks", "total": 5}, "rate": CPC},
        {"pacing": "asap"},
        {"goal": None, "budget": {"total_micros": 5}},
        {"status": "paused"},
        {"flight": {"start": "2020-01-01T00:00:00Z", "end": "2021-01-01T00:00:00Z"}},
    ],
)  # fmt: skip
def test_price_decides_where_nobody_competes_or_a_tier_is_not_guaranteed(changes):
    made = booked(contracts(**changes), NOW_S)
    assert ranking.multipliers_ppm(made.goals, made.ecpms, np.zeros(2), NOW_S) is None


def test_a_need_that_trembles_keeps_its_step():
    first = ranking.steps(np.array([0.5, 0.5, 1e-9, 7.0]), np.full(4, np.nan))
    assert first.tolist() == [-2, -2, -20, 0]
    again = ranking.steps(np.array([0.55, 0.8, 1e-9, 1.0]), first)
    assert again.tolist() == [-2, -1, -20, 0]
