"""Why a line item stands where it does: what is known is said, and nothing else."""

from datetime import datetime
from types import SimpleNamespace

import msgspec
import numpy as np

from adcore.catalog import Cpc, Daypart, Flight, FrequencyCap, Goal
from server.pacing import pace
from server.pacing.booked import QUARTER_S, booked
from server.pacing.counted import Counted
from server.pacing.forecast import Forecast
from server.pacing.solving import seen_of, supply_of
from server.pacing.standing import HOURS_SHOWN, REASONS
from server.pacing.state import State
from server.pacing.viewing import _SLUGS, Known, is_in_hours, standings, unlimited
from server.store.buckets import Spent
from tests.test_booked import NOW_S, Shard, catalog


def known(
    shard: Shard | None = None, *, plan: bool = True, rate_ppm: int = 1_000_000, **fields
) -> Known:
    of = catalog(**fields)
    made = booked(of, NOW_S)
    shard = shard or Shard(NOW_S)
    state = State.fresh(made.goals)
    supply = supply_of(Forecast(), made, NOW_S)
    billed = Counted([shard], 1).look(made)
    pace.observe(made.goals, state, supply, seen_of(made, billed), NOW_S)
    return Known(
        catalog=of,
        booked=made,
        state=state,
        supply=supply,
        billed=billed,
        rates_ppm={40: rate_ppm, 41: rate_ppm} if plan else None,
        accounts=dict.fromkeys(made.goals.keys, (0, 3)),
        ghosts=0,
        quarters=shard.by_quarter,
        now_s=NOW_S,
    )


def first(of: Known):
    return next(each for each in standings(of) if each.id == 40)


def test_each_reason_of_the_law_has_a_word():
    assert {*_SLUGS} == {*range(len(pace.REASONS))}
    assert {*_SLUGS.values()} <= {*REASONS}


def test_what_is_idle():
    at = datetime.fromisoformat
    past, future = at("2020-01-01T00:00:00Z"), at("2030-01-01T00:00:00Z")
    assert first(known(status="paused")).reason == "paused"
    ended = first(known(flight=Flight(past, at("2021-01-01T00:00:00Z"))))
    assert ended.reason == "ended"
    assert ended.limit.forecast == ended.limit.billed
    assert first(known(flight=Flight(future, at("2031-01-01T00:00:00Z")))).reason == "not_started"
    assert first(known(dayparts=(Daypart(("tue",), 0, 24),))).reason == "outside_hours"


def test_hours_are_local():
    item = SimpleNamespace(dayparts=(Daypart(("tue",), 0, 1),), time_zone="Europe/Berlin")
    assert is_in_hours(item, NOW_S)  # 23:45 of a Monday in London
    assert not is_in_hours(item, NOW_S - 3600)


def test_what_is_spent_not_opened_or_without_a_plan():
    shard = Shard(NOW_S)
    shard.bill(40, Spent(100), NOW_S)
    assert first(known(shard)).reason == "spent"
    missing = known()
    del missing.accounts["ever/l40.impressions"]
    assert first(missing).reason == "not_opened"
    none = first(known(plan=False))
    assert (none.reason, none.rate_ppm) == ("no_plan", None)


def test_what_ghosts_hold_is_told():
    shard = Shard(NOW_S)
    shard.bill(40, Spent(90), NOW_S)
    of = known(shard)
    of.accounts["2026-11-30/l40.impressions"] = (90, 0)
    of.ghosts = 1  # 5 impressions, of the 10 that are left
    assert first(of).reason != "no_lease"
    of.ghosts = 2
    assert first(of).reason == "no_lease"
    assert first(of).hint


def test_clicks_are_shown_whole_and_held_back_to_the_thousandth():
    of = known(rate=Cpc(400_000, 1000), goal=Goal("clicks", 10))
    of.accounts["ever/l40.clicks"] = (8000, 1001)
    limit = first(of).limits[0]
    assert (limit.key, limit.limit, limit.leased) == ("ever/l40.clicks", 10, 2)
    assert limit.window_max == 1  # 200 thousandths
    of.ghosts = 4  # 800 thousandths, of the 999 that are left
    assert first(of).reason != "no_lease"
    of.ghosts = 5
    assert first(of).reason == "no_lease"


def test_a_hint_names_what_it_may_be_and_does_not_claim_it():
    of = known(frequency_caps=(FrequencyCap(3, 86_400),))
    of.state.slow_due[:] = 1e6  # a million were due, and none came
    standing = first(of)
    if standing.reason == "too_little_supply":
        assert "may be" in standing.hint
        assert "3 in 1 day" in standing.hint
        assert "adcore explain" in standing.hint
    assert standing.reason in ("too_little_supply", "learning", "catching_up")


def test_throttled_is_a_plan_at_work():
    of = known(rate_ppm=200_000)
    of.state.slow_due[:] = of.state.slow_seen[:] = 1e5
    standing = first(of)
    assert standing.rate_ppm == 200_000
    assert standing.reason in ("throttled", "learning", "catching_up", "ahead")


def test_the_tightest_limit_is_shown():
    shard = Shard(NOW_S)
    shard.bill(40, Spent(995), NOW_S - 5 * 86_400)
    of = known(shard, flight=Flight(datetime.fromisoformat("2020-01-01T00:00:00Z"),
                                    datetime.fromisoformat("2026-12-01T12:00:00Z")))  # fmt: skip
    assert first(of).limit.key == "ever/l40.impressions"  # 5 are left of all, 100 of today
    assert {limit.key for limit in first(of).limits} == {
        "ever/l40.impressions", "2026-11-30/l40.impressions", "2026-11-30/c30.micros",
    }  # fmt: skip


def test_the_last_24_hours_are_summed_by_the_hour():
    shard = Shard(NOW_S)
    for back in (0, 4, 4 * 23, 4 * 24):
        shard.bill(40, Spent(1 + back), NOW_S - back * QUARTER_S)
    shard.bill(40, Spent(10), NOW_S - NOW_S % 3600)
    standing = first(known(shard, goal=Goal("impressions", 10**6)))
    assert len(standing.hours) == HOURS_SHOWN
    assert standing.hours[-2:] == (5, 11)
    assert standing.hours[0] == 93
    assert sum(standing.hours) == 109


def test_a_forecast_is_within_the_limit_and_not_below_what_is_billed():
    shard = Shard(NOW_S)
    shard.bill(40, Spent(60), NOW_S)
    of = known(shard)
    of.state.slow_due[:] = of.state.slow_seen[:] = 1e4
    for limit in first(of).limits:
        assert limit.billed <= limit.forecast <= limit.limit
    assert unlimited(of.catalog, of.booked) == 0


def test_without_anything_learned_the_table_is_still_there():
    of = known()
    of.supply, of.billed = None, None
    standing = first(of)
    assert standing.reason == "learning"
    assert standing.limit.forecast is standing.limit.planned is None
    assert np.isfinite(standing.limit.billed)
    assert msgspec.to_builtins(standing)


def test_no_line_items_are_no_standings():
    of = known()
    base = msgspec.structs.replace(of.catalog, line_items=())
    of.booked = booked(base, NOW_S)
    of.state = State.fresh(of.booked.goals)
    assert standings(of) == []
