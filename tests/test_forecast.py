"""Hours of the week are learned by site; what is new looks like what is alike."""

from datetime import UTC, datetime

import numpy as np
import pytest

from server.pacing.forecast import SHARE, Forecast, Line, open_hours_utc, week_hour
from server.pacing.goals import HOURS

pytestmark = pytest.mark.plain

MONDAY_HOUR = 1_795_996_800 // 3600
DAY_SITE, NIGHT_SITE = 10, 20


def busy(site, hour):
    """Requests in an hour: one site lives by day, the other by night, both more on Sundays."""
    wave = np.sin((week_hour(hour) % 24 - 14) / 24 * 2 * np.pi + np.pi / 2)
    sunday = 1.5 if week_hour(hour) >= 144 else 1.0
    if site == DAY_SITE:
        return 36_000 * (1 + 0.5 * wave) * sunday
    return 7200 * (1 - 0.5 * wave) * sunday


def taught(weeks=6, sites=(DAY_SITE, NIGHT_SITE), impressions=None, seed=1):
    draw, forecast = np.random.default_rng(seed), Forecast()
    for hour in range(MONDAY_HOUR, MONDAY_HOUR + int(weeks * HOURS)):
        requests = {site: int(draw.poisson(busy(site, hour))) for site in sites}
        forecast.learn(hour, requests, impressions or {})
    return forecast


def told(forecast, *lines):
    supply = forecast.supply(lines, 0.0)
    return supply, supply.shapes[supply.shape] * supply.scale[:, None] / SHARE


def truth(*sites):
    return np.array(
        [sum(busy(site, MONDAY_HOUR + hour) for site in sites) / 3600 for hour in range(HOURS)]
    )


def test_each_hour_of_the_week_is_learned_by_site():
    _, found = told(taught(), Line(1, (DAY_SITE,)), Line(2, (NIGHT_SITE,)), Line(3))
    assert found[0] == pytest.approx(truth(DAY_SITE), rel=0.1)
    assert found[1] == pytest.approx(truth(NIGHT_SITE), rel=0.1)
    assert found[2] == pytest.approx(truth(DAY_SITE, NIGHT_SITE), rel=0.06)


def test_one_day_is_enough_for_the_shape_of_days():
    _, found = told(taught(weeks=1 / 7, sites=(DAY_SITE,)), Line(1, (DAY_SITE,)))
    monday = truth(DAY_SITE)[:24]
    assert found[0][24:48] == pytest.approx(monday, rel=0.2)
    assert np.corrcoef(found[0][24:48], monday)[0, 1] > 0.98


def test_a_new_site_has_its_own_level_and_the_shape_of_all():
    forecast = taught(sites=(DAY_SITE,))
    first = forecast.last_hour + 1
    for hour in range(first, first + 3):
        forecast.learn(hour, {DAY_SITE: int(busy(DAY_SITE, hour)),
                              30: int(busy(DAY_SITE, hour) / 10)}, {})  # fmt: skip
    _, found = told(forecast, Line(1, (30,)))
    assert found[0] == pytest.approx(truth(DAY_SITE) / 10, rel=0.15)


def test_a_site_that_falls_silent_is_forgotten_by_and_by():
    forecast = taught(weeks=4)
    for hour in range(forecast.last_hour + 1, forecast.last_hour + 1 + 8 * HOURS):
        forecast.learn(hour, {DAY_SITE: 1000}, {})
    _, found = told(forecast, Line(1, (NIGHT_SITE,)))
    assert found[0].mean() < 0.2 * truth(NIGHT_SITE).mean()


def test_where_a_line_item_delivers_gives_its_shape_and_leaves_its_level():
    _, before = told(taught(), Line(1))
    _, after = told(taught(impressions={(1, NIGHT_SITE): 50}), Line(1))
    assert after.mean() == pytest.approx(before.mean())
    shape = truth(NIGHT_SITE) / truth(NIGHT_SITE).mean()
    assert after[0] / after.mean() == pytest.approx(shape, rel=0.1)


def test_dayparts_close_hours_and_alike_share_a_row():
    hours = tuple(hour % 24 < 12 for hour in range(HOURS))
    supply, found = told(taught(), Line(1, (), hours), Line(2, (), hours), Line(3), Line(4))
    assert (found[0][np.array(hours)] > 0).all()
    assert (found[0][~np.array(hours)] == 0).all()
    assert list(supply.shape) == [0, 0, 1, 1]
    assert len(supply.shapes) == 2


@pytest.mark.parametrize("sites", [(), (99,)])
def test_of_nothing_known_there_is_some_at_all_hours(sites):
    for forecast in (Forecast(), taught(weeks=1)):
        if forecast.last_hour >= 0 and not sites:
            continue
        supply, found = told(forecast, Line(1, sites))
        assert (found > 0).all()
        assert supply.ceiling[0] == np.inf
        assert np.isfinite(supply.shapes).all()


def test_the_ceiling_is_above_all_there_is():
    supply, _ = told(taught(), Line(1, (DAY_SITE,)))
    assert supply.ceiling[0] > truth(DAY_SITE).max()


def test_an_hour_is_learned_once_and_gaps_do_no_harm():
    forecast = taught(weeks=1)
    packed = forecast.packed()
    forecast.learn(forecast.last_hour, {DAY_SITE: 10**9}, {(1, DAY_SITE): 5})
    forecast.learn(forecast.last_hour - 5, {DAY_SITE: 10**9}, {})
    assert forecast.packed() == packed
    forecast.learn(forecast.last_hour + 500, {DAY_SITE: 36_000}, {})
    _, found = told(forecast, Line(1, (DAY_SITE,)))
    assert found[0] == pytest.approx(truth(DAY_SITE), rel=0.3)


def test_no_line_items_at_all():
    supply = taught(weeks=1).supply((), 0.0)
    assert len(supply.scale) == 0


def test_the_same_counts_give_the_same_forecast_in_any_order():
    one, other = Forecast(), Forecast()
    one.learn(MONDAY_HOUR, {1: 5, 2: 7}, {(1, 1): 2, (2, 2): 3})
    other.learn(MONDAY_HOUR, {2: 7, 1: 5}, {(1, 1): 2, (2, 2): 3})
    assert one.packed() == other.packed()


def test_a_new_leader_forecasts_the_same():
    forecast = taught(weeks=2, impressions={(1, NIGHT_SITE): 50, (2, DAY_SITE): 1})
    again = Forecast.restored(forecast.packed())
    lines = [Line(1), Line(2, (DAY_SITE,)), Line(3)]
    assert (again.supply(lines, 0.0).shapes == forecast.supply(lines, 0.0).shapes).all()
    for each in (forecast, again):
        each.learn(each.last_hour + 1, {DAY_SITE: 40_000}, {(2, DAY_SITE): 9})
    assert again.packed() == forecast.packed()


@pytest.mark.parametrize("cut", [lambda b: b"", lambda b: b[:-3], lambda b: b"\x93\x01\x02\x03",
                                 lambda b: b[:1] + b"\x07" + b[2:]])  # fmt: skip
def test_what_is_no_forecast_is_refused(cut):
    with pytest.raises(ValueError, match=r".+"):
        Forecast.restored(cut(taught(weeks=0.1).packed()))


@pytest.mark.parametrize(
    ("zone", "day", "first", "count"),
    [("UTC", "2026-07-01", 9, 8), ("Europe/Berlin", "2026-07-01", 7, 8),
     ("Europe/Berlin", "2026-12-01", 8, 8), ("Asia/Kathmandu", "2026-12-01", 3, 9)],
)  # fmt: skip
def test_open_hours_move_with_their_zone_and_an_hour_open_in_part_is_open(zone, day, first, count):
    now_s = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    found = open_hours_utc([([1], 9, 17)], zone, now_s)
    assert [hour - 24 for hour in range(HOURS) if found[hour]] == list(range(first, first + count))
    assert open_hours_utc([], zone, now_s) == ()


def test_open_hours_run_over_the_weeks_end():
    now_s = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    found = open_hours_utc([([0], 0, 2)], "Asia/Tokyo", now_s)
    assert [hour for hour in range(HOURS) if found[hour]] == [159, 160]
