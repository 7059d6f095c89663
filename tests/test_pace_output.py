"""What `adcore pace` prints: a table that lines up and fits, a page, JSON; colours only there."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from server.pacing.standing import GROUPS, REASONS, Limit, Standing, View, in_order
from server.pacing.standing_output import (
    age_text,
    amount_text,
    percent_text,
    progress,
    rate_text,
    to_json,
    to_page,
    to_table,
)
from server.terminal import bar, cells, columns_of, cut, sparkline

NOW_S = 1_796_082_310
COLOUR = re.compile(r"\x1b\[\d+m")


def limit(amount: int, billed: int, **fields: object) -> Limit:
    given = {
        "key": "ever/l1.impressions",
        "unit": "impressions",
        "is_campaign": False,
        "is_daily": False,
        "begins_s": NOW_S - 80_000,
        "ends_s": NOW_S + 10_000,
    }
    return Limit(limit=amount, billed=billed, **given | fields)


def standing(number: int, name: str, reason: str, rate: int | None, *limits: Limit) -> Standing:
    return Standing(
        id=number,
        name=name,
        campaign="Launch",
        advertiser="Una Motors",
        priority=6,
        rate_ppm=rate,
        reason=reason,
        hint="Only the servers know." if reason == "too_little_supply" else "",
        limits=limits,
        binding=0,
        hours=tuple(range(0, 2400, 100)),
    )


STANDINGS = [
    standing(6001, "Una launch", "throttled", 371_200,
             limit(60_000, 41_203, planned=42_000, forecast=60_000, leased=77, is_daily=True),
             limit(10**12, 344 * 10**9, unit="micros", key="ever/l1.micros")),
    standing(6003, "Kontor Neun winter collection for all", "too_little_supply", 1_000_000,
             limit(60_000, 31_207, planned=41_900, forecast=47_100, is_daily=True)),
    standing(62, "広告", "ahead", 2_100,
             limit(760_000_000, 500_000_000, unit="micros", planned=430_000_000,
                   forecast=760_000_000, is_campaign=True)),
    standing(63, "Moss", "not_started", None, limit(5, 0, unit="conversions")),
]  # fmt: skip

VIEW = View(
    now_s=NOW_S,
    currency="EUR",
    leader="control-1:7:ab",
    plan_version=812,
    plan_age_s=3,
    counted_s=NOW_S - 2,
    settled_s=NOW_S - 168,
    standings=in_order(STANDINGS),
    unlimited=29,
)

GOLDEN = Path(__file__).parent / "golden"
TABLE = (GOLDEN / "pace.txt").read_text("utf-8")
PAGE = (GOLDEN / "pace-line-item.txt").read_text("utf-8")


def widths(text: str) -> set[int]:
    return {cells(line) for line in text.splitlines()}


def test_the_table():
    assert to_table(VIEW, colour=False) == TABLE


@pytest.mark.parametrize("width", [160, 140, 120, 100, 80])
def test_it_fits_the_terminal(width):
    table = to_table(VIEW, colour=False, width=width)
    assert max(widths(table)) <= width
    for standing in STANDINGS:
        assert str(standing.id) in table
        assert REASONS[standing.reason].text in table
    if width >= 140:
        assert "▇" in table  # the last 24 hours


def test_colours_change_nothing_but_colours():
    table = to_table(VIEW, colour=True)
    assert COLOUR.sub("", table) == TABLE
    assert "\x1b[31m▼" in table
    page = to_page(VIEW, STANDINGS[0], colour=True)
    assert COLOUR.sub("", page) == to_page(VIEW, STANDINGS[0], colour=False)
    assert "\x1b" not in TABLE


def test_a_name_is_no_command_to_the_terminal():
    named = msgspec.structs.replace(STANDINGS[0], name="\x1b[2Jwipe \u202e", campaign="\x9b31m")
    view = msgspec.structs.replace(VIEW, standings=(named,), leader="\x1b[1mme")
    for text in (to_table(view, colour=False), to_page(view, named, colour=False)):
        assert not {"\x1b", "\x9b", "\u202e"} & {*text}


def test_rows_that_do_not_fit_are_told():
    table = to_table(VIEW, colour=False, rows=2)
    assert "62  広告" in table
    assert "6001" not in table
    assert "2 more do not fit" in table
    assert "● 1 on plan" in table  # and are counted all the same


def test_what_needs_a_person_comes_first():
    assert [each.id for each in VIEW.standings] == [6003, 62, 6001, 63]
    assert {reason.group for reason in REASONS.values()} == {*GROUPS}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"plan_version": 0}, "no plan"),
        ({"plan_age_s": 121}, "plan aged out, 2 min old"),
        ({"plan_age_s": 120}, "plan 2 min old"),
        ({"counted_s": None}, "counts not whole"),
        ({"settled_s": None}, "nothing settled"),
        ({"leader": ""}, "nobody leads"),
        ({"notes": ("Redis has lost accounts",)}, "Redis has lost accounts"),
        ({"standings": ()}, "No line item has a goal or a budget."),
    ],
)
def test_what_is_missing_is_said(changes, said):
    assert said in to_table(msgspec.structs.replace(VIEW, **changes), colour=False)


def test_the_page_of_a_line_item():
    page = to_page(VIEW, STANDINGS[0], colour=False)
    assert page == PAGE
    assert "Only the servers know." in to_page(VIEW, STANDINGS[1], colour=False)


def test_json_has_every_number_and_no_rounding():
    document = json.loads(to_json(VIEW))
    assert document["plan"] == {"version": 812, "age_s": 3, "used": True}
    first = document["line_items"][0]
    assert first["id"] == 6003
    assert (first["state"], first["reason"]) == ("behind", "too_little_supply")
    assert first["limits"][0]["billed"] == 31_207
    assert first["hours"] == [*range(0, 2400, 100)]
    unknown = document["line_items"][-1]
    assert unknown["rate_ppm"] is None
    assert unknown["limits"][0]["forecast"] is None
    assert to_json(VIEW, one_line=True).count("\n") == 1
    assert json.loads(to_json(VIEW, one_line=True)) == document


def test_amounts():
    money = limit(10, 0, unit="micros")
    assert amount_text(1_234_565_000, money) == "1,234.56"
    assert amount_text(None, money) == "-"
    assert percent_text(999, 1000) == "99%"  # not all there
    assert percent_text(1000, 1000) == "100%"
    assert [rate_text(ppm) for ppm in (None, 0, 1, 99, 100, 9_999, 10_000, 10**6)] == [
        "-", "0%", "<0.01%", "<0.01%", "0.01%", "1.00%", "1%", "100%",
    ]  # fmt: skip
    assert [age_text(s) for s in (-1, 0, 119, 120, 7199, 7200, 172_800)] == [
        "0 s", "0 s", "119 s", "2 min", "119 min", "2 h", "2 d",
    ]  # fmt: skip


def test_drawings():
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "··"
    assert sparkline([0, 1, 50, 100]) == "·▁▄▇"
    assert bar(0, 4) == "────"
    assert bar(0.0001, 4) == "╸───"
    assert bar(2, 4) == "━━━━"
    assert columns_of([0, 1, 8, 16], 2) == ["   █", " ▁██"]
    assert progress(limit(100, 50, planned=75)) == "━━━━━━───┼──"
    assert progress(limit(100, 100, planned=50)) == "━━━━━━╋━━━━━"
    assert cut("広告広告", 5) == "広告…"
