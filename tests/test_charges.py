"""No advertiser is charged more than was booked, nor less than could be; what is more is shown."""

import csv
import io
import os
from collections import defaultdict
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from adcore.catalog import Budget, Cpc, Goal
from server import cli
from server.events.records import Beacon, Kind
from server.ledger import cli as ledger_cli
from server.ledger.charges import Budgets, Spending
from server.pacing.accounts import line_item_accounts
from server.store import Keyspace, connect
from server.store.catalogs import CatalogStore
from tests.catalogs import minimal
from tests.shards import HOUR_S, NOON_S, Shard, beacon

pytestmark = pytest.mark.plain

DAY = ("--from", "2026-10-31", "--to", "2026-11-01")
CPC = 1 << 1
GOAL = Goal(unit="clicks", total=1)  # no charge goes by it
PRICE_MICROS = 400_000  # of line item 41: 25 clicks are its 10 EUR of a day
MIDNIGHT_S = NOON_S + 11 * HOUR_S  # in Berlin


def catalog(lines=None, campaign=None):
    """Two line items paid by clicks in campaign 31, with budgets as told."""
    made = minimal()
    first = made.line_items[1]
    given_ = lines if lines is not None else {41: first.budget, 42: None}
    items = tuple(
        structs.replace(first, id=number, budget=budget, goal=GOAL, rate=Cpc(PRICE_MICROS, 1500))
        for number, budget in given_.items()
    )
    campaigns = tuple(
        structs.replace(each, budget=campaign) if each.id == 31 else each for each in made.campaigns
    )
    return structs.replace(made, line_items=(made.line_items[0], *items), campaigns=campaigns)


# -- rules


LIMITS = st.none() | st.integers(1, 20)
BUDGETS = st.none() | st.builds(
    lambda total, daily: Budget(total_micros=total or 7, daily_micros=daily), LIMITS, LIMITS
)


@given(st.tuples(BUDGETS, BUDGETS, BUDGETS), st.integers(0, 2**32))
def test_all_is_charged_that_the_budgets_have_left_and_no_more(budgets, seed):
    random = Random(seed)
    made = catalog({41: budgets[0], 42: budgets[1]}, budgets[2])
    before = {line: random.randrange(9_000) for line in (41, 42) if random.random() < 0.5}
    steps = {
        NOON_S + 900 * random.randrange(200): {
            line: random.randrange(1, 9_000) for line in random.sample((41, 42, 99), 2)
        }
        for _ in range(random.randrange(8))
    }
    campaign = next(each for each in made.campaigns if each.id == 31)
    accounts = {
        item.id: [
            each for each in line_item_accounts(item, campaign) if each.name.endswith("micros")
        ]
        for item in made.line_items
        if item.id != 40
    }
    taken: dict[tuple[str, str], int] = defaultdict(int)
    for line, nanos in sorted(before.items()):
        for account in accounts[line]:
            if not account.zone:
                nanos = min(nanos, 1000 * account.limit - taken[account.name, "ever"])
                taken[account.name, "ever"] += nanos
    found = iter(Budgets(made).charge(Spending(before, steps, False)))
    for start_s, lines in sorted(steps.items()):
        for line, nanos in sorted(lines.items()):
            charge = next(found)
            assert charge[:2] == (start_s // HOUR_S, line)
            assert charge.charged_nanos + charge.free_nanos == nanos
            room = [nanos]
            for account in accounts.get(line, ()):
                key = account.name, account.period(start_s)
                room.append(1000 * account.limit - taken[key])
                taken[key] += charge.charged_nanos
                assert taken[key] <= 1000 * account.limit
            assert charge.charged_nanos == min(room)
    assert next(found, None) is None


# -- the report


@pytest.fixture
def shard(redis_url, tmp_path):
    return Shard(tmp_path, redis_url)


@pytest.fixture
def publish(redis_url):
    store = CatalogStore(connect(redis_url), Keyspace())
    return lambda made: store.publish(made, source="test", now_s=NOON_S)


@pytest.fixture
def report(redis_url, monkeypatch, capsys):
    for name in os.environ:
        if name.startswith("ADCORE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ADCORE_REDIS_URL", redis_url)

    def run(*arguments: str, now_s: int = MIDNIGHT_S + HOUR_S) -> str:
        monkeypatch.setattr(ledger_cli, "now_s", lambda: now_s)
        assert cli.main(["report", *arguments]) == 0
        return capsys.readouterr().out

    return run


def charged(text: str) -> dict[str, tuple[str, str, str]]:
    rows = [*csv.reader(io.StringIO(text))]
    places = [rows[0].index(name) for name in ("revenue", "charged", "over_delivery")]
    return {row[0]: tuple(row[place] for place in places) for row in rows[1:]}


def clicked(
    shard: Shard, count: int, decided_s: int, clicked_s: int, line: int = 41, **fields: int
) -> None:
    """Show so many ads, and click on each."""
    common = {
        "line_item_id": line, "creative_id": line, "at_s": decided_s,
        "price_micros": PRICE_MICROS, "flags": CPC,
    }  # fmt: skip
    shown = [beacon(**common, network=f"198.51.{n}.0", **fields) for n in range(count)]
    shard.write(shown, decided_s + 2)
    shard.write([_click(each, clicked_s) for each in shown], clicked_s)
    shard.count()


def _click(shown: Beacon, at_s: int) -> Beacon:
    return structs.replace(shown, kind=int(Kind.CLICK), received_s=at_s)


def test_clicks_beyond_a_days_budget_are_free(shard, publish, report):
    publish(catalog())
    clicked(shard, 30, NOON_S, NOON_S + 60)
    clicked(shard, 30, NOON_S, NOON_S + 60, line=42)  # of no budget
    clicked(shard, 2, NOON_S, NOON_S + 60, line=77)  # of no catalog
    rows = charged(report(*DAY, "--format", "csv"))
    assert rows == {
        "41": ("12.00", "10.00", "2.00"),
        "42": ("12.00", "12.00", "0.00"),
        "77": ("0.80", "0.80", "0.00"),
    }
    by_campaign = charged(report(*DAY, "--format", "csv", "--by", "campaign"))
    assert by_campaign == {"31": ("24.00", "22.00", "2.00"), "": ("0.80", "0.80", "0.00")}
    table = report(*DAY, "--line-item", "41").splitlines()
    assert table[2].split()[-3:] == ["revenue", "charged", "free"]
    assert table[-1].split()[-3:] == ["12.00", "10.00", "2.00"]


def test_a_day_is_the_owners_by_quarters_and_by_hours_of_decision_when_those_are_gone(
    shard, publish, report
):
    """Shown before midnight in Berlin, and half of it clicked after: days of 16 and 24 clicks."""
    publish(catalog())
    clicked(shard, 16, MIDNIGHT_S - 600, MIDNIGHT_S - 60)
    clicked(shard, 24, MIDNIGHT_S - 600, MIDNIGHT_S + 60)
    span = ("--from", "2026-10-31", "--to", "2026-11-01T01:00", "--line-item", "41")
    assert charged(report(*span, "--format", "csv")) == {"41": ("16.00", "16.00", "0.00")}
    by_day = ("--by", "line_item,day", "--time-zone", "Europe/Berlin", "--format", "json")
    assert "by days of whole hours" not in report(*span)
    assert report(*span, *by_day).count('"charged": "6.40"') == 1
    late_s = MIDNIGHT_S + 53 * HOUR_S
    assert charged(report(*span, "--format", "csv", now_s=late_s)) == {
        "41": ("16.00", "10.00", "6.00")
    }
    assert "by days of whole hours" in report(*span, now_s=late_s)


@pytest.mark.parametrize("age_s", [0, 60 * HOUR_S])
def test_a_day_that_was_spent_before_the_report_begins_has_nothing_left(
    shard, publish, report, age_s
):
    publish(catalog())
    clicked(shard, 24, NOON_S, NOON_S + 60)
    clicked(shard, 5, NOON_S + HOUR_S, NOON_S + HOUR_S + 60)
    span = ("--from", "2026-10-31T13:00", "--to", "2026-10-31T14:00")
    found = charged(report(*span, "--format", "csv", now_s=MIDNIGHT_S + age_s))
    assert found == {"41": ("2.00", "0.40", "1.60")}


@pytest.mark.parametrize("age_s", [0, 60 * HOUR_S])
def test_a_total_is_of_all_time_whatever_is_asked_for(shard, publish, report, age_s):
    publish(catalog({41: Budget(total_micros=PRICE_MICROS * 10)}))
    clicked(shard, 6, NOON_S, NOON_S + 60)
    clicked(shard, 6, NOON_S + HOUR_S, NOON_S + HOUR_S + 60)
    now_s = MIDNIGHT_S + age_s

    def between(start: str, end: str) -> tuple[str, str, str]:
        span = ("--from", f"2026-10-31T{start}", "--to", f"2026-10-31T{end}")
        return charged(report(*span, "--format", "csv", now_s=now_s))["41"]

    assert between("12:00", "13:00") == ("2.40", "2.40", "0.00")
    assert between("13:00", "14:00") == ("2.40", "1.60", "0.80")
    assert between("12:00", "14:00") == ("4.80", "4.00", "0.80")


def test_a_campaigns_budget_is_shared_by_its_line_items_over_all_shards(
    shard, publish, report, redis_url, tmp_path
):
    publish(catalog({41: None, 42: None}, Budget(total_micros=PRICE_MICROS * 10)))
    clicked(shard, 6, NOON_S, NOON_S + 60)
    other = Shard(tmp_path / "other", redis_url, 1)
    clicked(other, 6, NOON_S, NOON_S + 60, line=42)
    assert charged(report(*DAY, "--format", "csv")) == {
        "41": ("2.40", "2.40", "0.00"),
        "42": ("2.40", "1.60", "0.80"),
    }
    assert charged(report(*DAY, "--format", "csv", "--by", "campaign")) == {
        "31": ("4.80", "4.00", "0.80")
    }


def test_no_charge_is_told_where_it_would_be_a_guess(shard, publish, report, redis_url):
    clicked(shard, 6, NOON_S, NOON_S + 60)
    assert "charged" not in report(*DAY)  # no catalog
    publish(catalog({41: Budget(total_micros=PRICE_MICROS * 5)}))
    assert "charged" in report(*DAY)
    for arguments in (("--by", "site"), ("--by", "line_item,creative"), ("--site", "10")):
        assert "charged" not in report(*DAY, *arguments)
    connect(redis_url).delete(Keyspace().count_time(0))
    for budget in (Budget(total_micros=1), Budget(daily_micros=1)):
        publish(catalog({41: budget}))
        told = report(*DAY)
        assert "charged" not in told
        assert "no charges: the counts are being rebuilt" in told
