"""From a catalog and counts to arrays: each limit with its span, its users, and what it had."""

from datetime import datetime

import msgspec
import numpy as np
import pytest

from adcore.catalog import Budget, Catalog, Cpc, Cpm, Daypart, Expression, Flight, Goal
from server.events.leases import closes_s
from server.pacing import pace
from server.pacing.booked import QUARTER_S, booked, named_sites
from server.pacing.counted import Counted, final_quarter
from server.pacing.goals import ASAP, CLICK, CUSTOM, EVEN, FRONTLOADED, HOURS, IMPRESSION
from server.pacing.solving import Solver, seen_of, supply_of
from server.store.buckets import Spent
from tests.catalogs import minimal

NOW_S = 1_796_082_310  # 2026-11-30 23:45:10 UTC, a Monday
MIDNIGHT_S = 1_796_083_200
DAY_S = 86_400


def catalog(**fields: object) -> Catalog:
    base = minimal()
    given = {"goal": Goal("impressions", 1000, 100), "rate": Cpm(8_000_000)}
    first = msgspec.structs.replace(base.line_items[0], **given | fields)
    second = msgspec.structs.replace(base.line_items[1], campaign_id=30)
    campaign = msgspec.structs.replace(base.campaigns[0], budget=Budget(daily_micros=10**7))
    return msgspec.structs.replace(
        base, line_items=(second, first), campaigns=(campaign, base.campaigns[1])
    )


def place(made, key: str) -> int:
    return made.goals.keys.index(key)


def test_lines_rise_and_every_limit_is_an_account_once():
    made = booked(catalog(), NOW_S)
    goals = made.goals
    assert goals.ids.tolist() == [40, 41]
    assert set(goals.keys) == {
        "ever/l40.impressions", "2026-11-30/l40.impressions", "2026-11-30/c30.micros",
        "ever/l41.clicks", "2026-12-01/l41.clicks", "ever/l41.micros", "2026-12-01/l41.micros",
    }  # fmt: skip
    assert goals.guaranteed.tolist() == [True, False]  # the other tier is a lottery
    assert goals.event.tolist() == [IMPRESSION, CLICK]
    assert goals.booked_ppm.tolist() == [1_000_000, 1500]
    shared = place(made, "2026-11-30/c30.micros")
    uses = goals.use_account == shared
    assert goals.use_line[uses].tolist() == [0, 1]
    assert goals.use_event[uses].tolist() == [IMPRESSION, CLICK]
    assert goals.use_price[uses].tolist() == [8000.0, 400_000.0]


def test_a_day_is_its_owner_s_and_the_goals_end_with_the_first():
    made = booked(catalog(), NOW_S)
    goals = made.goals
    utc, berlin = place(made, "2026-11-30/l40.impressions"), place(made, "2026-12-01/l41.clicks")
    assert (goals.begin_s[utc], goals.close_s[utc]) == (MIDNIGHT_S - DAY_S, MIDNIGHT_S)
    assert (goals.begin_s[berlin], goals.close_s[berlin]) == (
        MIDNIGHT_S - 3600,
        MIDNIGHT_S - 3600 + DAY_S,
    )
    assert goals.until_s == MIDNIGHT_S
    tomorrow = booked(catalog(), MIDNIGHT_S)
    assert "2026-12-01/l40.impressions" in tomorrow.goals.keys


def test_a_day_begins_and_ends_with_the_flight():
    at = datetime.fromisoformat
    flight = Flight(at("2026-11-30T12:00:00Z"), at("2026-11-30T23:50:00Z"))
    made = booked(catalog(flight=flight), NOW_S)
    for key in ("2026-11-30/l40.impressions", "ever/l40.impressions"):
        number = place(made, key)
        assert made.goals.begin_s[number] == flight.start.timestamp()
        assert made.goals.close_s[number] == flight.end.timestamp()
    over = booked(catalog(flight=Flight(at("2020-01-01T00:00:00Z"), at("2020-01-02T00:00:00Z"))),
                  NOW_S)  # fmt: skip
    assert (over.goals.close_s > over.goals.begin_s).all()


@pytest.mark.parametrize(
    ("pacing", "ever", "daily"),
    [("even", EVEN, EVEN), ("frontloaded", FRONTLOADED, EVEN), ("asap", ASAP, ASAP)],
)
def test_pacing(pacing, ever, daily):
    made = booked(catalog(pacing=pacing), NOW_S)
    assert made.goals.pacing[place(made, "ever/l40.impressions")] == ever
    assert made.goals.pacing[place(made, "2026-11-30/l40.impressions")] == daily
    assert made.goals.pacing[place(made, "2026-11-30/c30.micros")] == EVEN


def test_a_curve_is_shared_by_all_accounts_that_have_it():
    made = booked(catalog(pacing="custom", pacing_curve=tuple(range(24))), NOW_S)
    numbers = [place(made, f"{day}/l40.impressions") for day in ("ever", "2026-11-30")]
    assert made.goals.pacing[numbers].tolist() == [CUSTOM, CUSTOM]
    assert made.goals.curve[numbers].tolist() == [0, 0]
    assert made.goals.curves.shape == (1, HOURS)


def test_what_is_paused_dear_or_free():
    base = catalog(status="paused", rate=Cpm(0), budget=Budget(5))
    made = booked(base, NOW_S)
    assert made.goals.active.tolist() == [False, True]
    assert not any("l40.micros" in key for key in made.goals.keys)  # costs nothing, limits nothing
    campaign = msgspec.structs.replace(base.campaigns[0], status="paused")
    both = msgspec.structs.replace(base, campaigns=(campaign, base.campaigns[1]))
    assert booked(both, NOW_S).goals.active.tolist() == [False, False]


def test_a_catalog_without_limits_has_no_lines():
    base = minimal()
    plain = msgspec.structs.replace(base, line_items=base.line_items[:1])
    made = booked(plain, NOW_S)
    assert (made.goals.lines, made.goals.accounts) == (0, 0)
    assert made.goals.until_s == float("inf")


def test_the_forecast_hears_of_sites_and_hours():
    parts = (Daypart(("mon",), 6, 12),)
    targeting = Expression(
        all=(Expression(dimension="site", include=(10, "11")), Expression(key="x", include=("y",)))
    )
    made = booked(catalog(dayparts=parts, targeting=targeting), NOW_S)
    assert made.lines[0].sites == (10, 11)
    assert sum(made.lines[0].open_hours) == 6
    site = Expression(dimension="site", include=(7,))
    country = Expression(dimension="country", include=("DE",))
    assert named_sites(Expression(any=(site, site))) == (7,)
    assert named_sites(Expression(any=(site, country))) is None
    assert named_sites(Expression(not_=site)) is None


# -- counts


class Shard:
    """Counts as a shard has them, and how often quarters were asked for."""

    def __init__(self, time_s: int | None) -> None:
        self.time_s = time_s
        self.by_quarter: dict[int, dict[int, Spent]] = {}
        self.asked: list[int] = []

    def bill(self, line: int, spent: Spent, at_s: int) -> None:
        of_quarter = self.by_quarter.setdefault(at_s // QUARTER_S, {})
        of_quarter[line] = Spent(*map(int.__add__, of_quarter.get(line, Spent()), spent))

    def ever(self):
        sums: dict[int, Spent] = {}
        for lines in self.by_quarter.values():
            for line, spent in lines.items():
                sums[line] = Spent(*map(int.__add__, sums.get(line, Spent()), spent))
        return self.time_s, sums

    def quarters(self, numbers):
        asked = [*numbers]
        self.asked += asked
        return self.time_s, {number: self.by_quarter.get(number, {}) for number in asked}

    def hours(self):
        return []


def test_accounts_add_up_over_shards_days_and_a_campaign_s_line_items():
    shards = [Shard(NOW_S), Shard(NOW_S - 3)]
    shards[0].bill(40, Spent(10, 0, 0, 80_000_000), NOW_S - 5 * DAY_S)
    shards[0].bill(40, Spent(3, 0, 0, 24_000_000), NOW_S)
    shards[1].bill(40, Spent(2, 1, 0, 16_000_000), NOW_S - 3600)
    shards[1].bill(41, Spent(90, 4, 0, 1_600_000_000), NOW_S)
    shards[1].bill(999, Spent(5, 5, 5, 5), NOW_S)
    made = booked(catalog(), NOW_S)
    billed = Counted(shards, 2).look(made)
    assert billed.time_s == NOW_S - 3
    spent = dict(zip(made.goals.keys, billed.spent.tolist(), strict=True))
    assert spent == {
        "ever/l40.impressions": 15,
        "2026-11-30/l40.impressions": 5,
        "2026-11-30/c30.micros": 40_000 + 1_600_000,
        "ever/l41.clicks": 4,
        "2026-12-01/l41.clicks": 4,
        "ever/l41.micros": 1_600_000,
        "2026-12-01/l41.micros": 1_600_000,
    }


def test_goals_and_what_is_seen_of_them_are_in_whole_clicks():
    shard = Shard(NOW_S)
    shard.bill(40, Spent(9000, 9), NOW_S)
    made = booked(catalog(goal=Goal("clicks", 10), rate=Cpc(400_000, 1000)), NOW_S)
    clicks = place(made, "ever/l40.clicks")
    billed = Counted([shard], 1).look(made)
    assert (made.goals.limit[clicks], billed.spent[clicks]) == (10, 9)
    # A window may grant a fifth of a click: five of them hold back the one that is left.
    assert [bool(seen_of(made, billed, ghosts).blocked[0]) for ghosts in (4, 5)] == [False, True]


def test_a_quarter_that_is_final_is_read_once():
    shard = Shard(NOW_S)
    shard.bill(40, Spent(1), NOW_S - 7200)
    made = booked(catalog(), NOW_S)
    counted = Counted([shard], 1)
    day = place(made, "2026-11-30/l40.impressions")
    assert counted.look(made).spent[day] == 1
    shard.asked.clear()
    shard.bill(40, Spent(2), NOW_S)
    assert counted.look(made).spent[day] == 3
    assert counted.look(made).spent[day] == 3
    assert {*shard.asked} == {NOW_S // QUARTER_S - 1, NOW_S // QUARTER_S}
    # For a new catalog the day is added up again, of what is known.
    shard.asked.clear()
    assert counted.look(booked(catalog(), NOW_S)).spent[day] == 3
    assert len({*shard.asked}) == 2


def test_a_quarter_is_final_when_its_last_window_is_closed():
    last = QUARTER_S // 10 * 7 - 1  # the last window of quarter 6
    assert final_quarter(closes_s(last)) == 6
    assert final_quarter(closes_s(last) - 1) == 5


def test_counts_that_are_not_whole_are_none():
    made = booked(catalog(), NOW_S)
    assert Counted([Shard(NOW_S), Shard(None)], 1).look(made) is None
    retired = Shard(NOW_S - 9 * DAY_S)
    assert Counted([Shard(NOW_S), retired], 1).look(made).time_s == NOW_S


# -- solving


def test_a_leader_s_knowledge_outlives_it():
    shard = Shard(NOW_S)
    solver = Solver([shard], 1)
    solver.restore(None)
    solver.follow(catalog(), NOW_S)
    for second in range(0, 60, 5):
        shard.time_s = NOW_S + second
        shard.bill(40, Spent(1), NOW_S + second)
        ids, rates_ppm, *_ = solver.solve(NOW_S + second)
        solver.applied(rates_ppm, NOW_S + second)
    learned = solver.learned(1, 1, NOW_S + 60)
    successor = Solver([shard], 1)
    successor.restore(learned)
    successor.follow(catalog(), NOW_S)
    assert np.array_equal(successor.state.rates_ppm, rates_ppm)
    shard.time_s += 5
    mine, theirs = solver.solve(NOW_S + 60), successor.solve(NOW_S + 60)
    assert ids.tolist() == [40, 41]
    assert np.allclose(mine[1], theirs[1], atol=1)


def test_knowledge_that_can_t_be_read_is_learned_again(caplog):
    solver = Solver([Shard(NOW_S)], 1)
    solver.follow(catalog(), NOW_S)
    learned = solver.learned(1, 1, NOW_S)
    solver = Solver([Shard(NOW_S)], 1)
    solver.restore(msgspec.structs.replace(learned, state=b"\x01", forecast=b"\xc1"))
    solver.follow(catalog(), NOW_S)
    assert solver.solve(NOW_S) is not None
    assert caplog.text.count("can't be read") == 2


def test_a_new_day_makes_new_goals():
    shard = Shard(MIDNIGHT_S - 1)
    solver = Solver([shard], 1)
    solver.follow(catalog(), MIDNIGHT_S - 1)
    solver.solve(MIDNIGHT_S - 1)
    assert "2026-11-30/l40.impressions" in solver.booked.goals.keys
    solver.solve(MIDNIGHT_S)
    assert "2026-12-01/l40.impressions" in solver.booked.goals.keys


def test_ghosts_block_what_they_hold_all_of():
    made = booked(catalog(), NOW_S)
    shard = Shard(NOW_S)
    shard.bill(40, Spent(90), NOW_S)  # of a day's 100; a window may grant 5
    billed = Counted([shard], 1).look(made)
    assert seen_of(made, billed, 0).blocked.tolist() == [False, False]
    assert seen_of(made, billed, 1).blocked.tolist() == [False, False]
    assert seen_of(made, billed, 2).blocked.tolist() == [True, False]
    assert seen_of(made, billed, None).blocked.all()


def test_unknown_traffic_has_a_bound():
    made = booked(catalog(), NOW_S)
    solver = Solver([Shard(NOW_S)], 1)
    supply = supply_of(solver.forecast, made, NOW_S)
    assert np.isfinite(supply.ceiling).all()
    assert len(pace.REASONS) == 11  # `viewing` has a word for each
