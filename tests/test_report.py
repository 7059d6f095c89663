"""A report says what the log says, in each of its shapes, and never more than it knows."""

import csv
import io
import json
import os
import random
from collections import Counter
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow.parquet
import pytest
import redis

from server import cli
from server.events.records import Kind, Outcome
from server.ledger.report import Names, Query, collect
from server.ledger.report_output import decimal_text, to_csv, to_table
from server.store import Keyspace, connect
from server.store.buckets import hour
from server.store.catalogs import CatalogStore
from tests.catalogs import minimal
from tests.shards import HOUR_S, NOON_S, Shard, beacon, decision

pytestmark = pytest.mark.process

NOON = NOON_S // HOUR_S
DAY = ("--from", "2026-10-31", "--to", "2026-11-01")


@pytest.fixture
def shard(redis_url, tmp_path):
    return Shard(tmp_path, redis_url)


@pytest.fixture
def published(redis_url):
    CatalogStore(connect(redis_url), Keyspace()).publish(minimal(), source="test", now_s=NOON_S)


@pytest.fixture
def adcore(redis_url, monkeypatch, capsys):
    for name in os.environ:
        if name.startswith("ADCORE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ADCORE_REDIS_URL", redis_url)

    def run(*arguments: object, code: int = 0) -> str:
        try:
            found: object = cli.main([str(argument) for argument in arguments])
        except SystemExit as ended:
            found = ended.code
        streams = capsys.readouterr()
        assert found == code, streams.err
        return streams.out if code == 0 and streams.out else streams.err

    return run


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def fill(shard: Shard, seed: int = 7) -> None:
    """Three hours of two line items and one that is in no catalog."""
    dice = random.Random(seed)
    for number in range(3):
        at_s = NOON_S + number * HOUR_S
        shown = [
            beacon(at_s=at_s, line_item_id=line, creative_id=creative, price_micros=8_000_123)
            for line, creative in ((40, 50), (40, 51), (41, 52), (77, 99))
            for _ in range(dice.randrange(20, 60))
        ]
        clicked = [
            beacon(
                Kind.CLICK,
                at_s=at_s,
                id=each.id,
                line_item_id=each.line_item_id,
                creative_id=each.creative_id,
                network=f"192.0.{number}.0",
            )
            for number, each in enumerate(shown)
            if number % 9 == 0
        ]
        asked = [decision((10, 40, 50), weight=10, at_s=at_s), decision((10, 0, 0), at_s=at_s)]
        shard.write([*shown, *clicked, shown[0], *asked])
    shard.count()


def test_a_table_shows_names_and_adds_up(adcore, shard, published):
    shard.write([beacon(price_micros=1_234_567_000), beacon(line_item_id=77, creative_id=99)])
    shard.write([decision((10, 40, 50)), decision((10, 0, 0))])
    shard.count()
    assert adcore("report", *DAY).splitlines() == [
        "2026-10-31 00:00 to 2026-11-01 00:00 UTC, EUR",
        "",
        "line item               decisions  impressions  clicks    CTR  revenue  charged",
        "40 Front page takeover          1            1       0  0.00%     1.23     1.23",
        "77                              0            1       0  0.00%     0.01     0.01",
        "total                           1            2       0  0.00%     1.24     1.24",
        "",
        "charged by days of whole hours, when ads were decided: quarters are kept for 50 hours",
    ]
    assert adcore("report", *DAY, "--by", "site,day").splitlines()[2:4] == [
        "site     day         requests  decisions    fill  impressions  clicks    CTR  revenue",
        "10 News  2026-10-31         2          1  50.00%            2       0  0.00%     1.24",
    ]


def test_every_shape_has_the_same_exact_sums(adcore, shard, published, tmp_path):
    fill(shard)
    expected: Counter[tuple[str, str]] = Counter()
    for _, _, fields in shard.store.read(shard.store.hours()):
        for field, amount in fields.items():
            line, _, _, measure = field.decode().split(".", 3)
            expected[line, measure] += amount

    rows = rows_of(adcore("report", *DAY, "--format", "csv", "--invalid"))
    document = json.loads(adcore("report", *DAY, "--format", "json", "--invalid"))
    file = tmp_path / "report.parquet"
    adcore("report", *DAY, "--format", "parquet", "--invalid", "--output", file)
    table = pyarrow.parquet.read_table(file)
    assert table.column_names == list(rows[0])
    assert [row["line_item_id"] for row in rows] == ["40", "41", "77"]
    for row, entry, typed in zip(rows, document["rows"], table.to_pylist(), strict=True):
        for name in ("impressions", "clicks", "invalid.impression.duplicate"):
            wanted = expected[row["line_item_id"], name]
            assert int(row[name]) == entry[name] == typed[name] == wanted
        nanos = expected[row["line_item_id"], "revenue_nanos"]
        assert entry["revenue_nanos"] == nanos > 0
        assert Decimal(row["revenue"]) == Decimal(entry["revenue"]) == typed["revenue"]
        assert Decimal(row["revenue"]) * 10**9 == nanos
    total = document["total"]
    assert total["revenue_nanos"] == sum(entry["revenue_nanos"] for entry in document["rows"])
    assert table.schema.metadata[b"currency"] == b"EUR"


def test_shards_are_summed(adcore, shard, redis_url, tmp_path):
    other = Shard(tmp_path / "other", redis_url, 1)
    for each in (shard, other):
        each.write([beacon()])
        each.count()
    assert [row["impressions"] for row in rows_of(adcore("report", *DAY, "--format", "csv"))] == [
        "2"
    ]


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("advertiser", [["", "(unknown)"], ["20", "Acme"], ["21", "Zenith"]]),
        ("campaign", [["", "(unknown)"], ["30", "Spring"], ["31", "Always on"]]),
        ("creative", [["50", "Picture"], ["51", "Markup"], ["52", "Native"], ["99", ""]]),
        ("site", [["10", "News"]]),
        ("day", [["2026-10-31"]]),
        ("hour", [[f"2026-10-31T{at}:00+00:00"] for at in (12, 13, 14)]),
    ],
)
def test_each_dimension_groups(adcore, shard, published, by, keys):
    fill(shard)
    rows = rows_of(adcore("report", *DAY, "--format", "csv", "--by", by))
    assert [list(row.values())[: len(keys[0])] for row in rows] == keys
    everything = rows_of(adcore("report", *DAY, "--format", "csv", "--by", "line_item,hour"))
    for name in ("impressions", "clicks", "invalid"):
        assert sum(int(row[name]) for row in rows) == sum(int(row[name]) for row in everything)


def test_a_creative_tells_whose_a_lost_line_item_was(adcore, shard, published):
    shard.write([beacon(line_item_id=77, creative_id=52)])
    shard.count()
    (row,) = rows_of(adcore("report", *DAY, "--format", "csv", "--by", "advertiser,campaign"))
    assert (row["advertiser_id"], row["advertiser"]) == ("21", "Zenith")
    assert (row["campaign_id"], row["campaign"]) == ("", "(unknown)")


def test_filters_choose_rows(adcore, shard, published):
    fill(shard)

    def lines(*arguments: object) -> list[str]:
        text = adcore("report", *DAY, "--format", "csv", *arguments)
        return [row["line_item_id"] for row in rows_of(text)]

    assert lines("--advertiser", 20) == ["40"]
    assert lines("--campaign", 30, 31) == ["40", "41"]
    assert lines("--creative", 51, 99) == ["40", "77"]
    assert lines("--line-item", 41, "--site", 10) == ["41"]
    assert lines("--site", 11) == []


def test_requests_belong_to_no_advertiser(adcore, shard, published):
    fill(shard)
    by_site = rows_of(adcore("report", *DAY, "--format", "csv", "--by", "site"))
    assert [(row["requests"], row["decisions"]) for row in by_site] == [("33", "30")]
    assert float(by_site[0]["fill"]) == 30 / 33
    for arguments in (("--by", "advertiser"), ("--by", "site", "--advertiser", "20")):
        row = rows_of(adcore("report", *DAY, "--format", "csv", *arguments))[0]
        assert "decisions" in row
        assert not {"requests", "fill"} & {*row}


def test_sampled_counts_are_called_estimated(adcore, shard, published):
    fill(shard)
    text = adcore("report", *DAY, "--by", "site")
    assert "~requests  ~decisions   ~fill  impressions" in text
    assert "~ estimated: 6 decision logs were kept for 33 requests" in text
    document = json.loads(adcore("report", *DAY, "--format", "json"))
    assert (document["estimated"], document["decision_logs"]) == (["decisions"], 6)
    # Of the other site all is known.
    shard.write([decision((11, 40, 50)), decision((11, 41, 52))])
    shard.count()
    assert "~" not in adcore("report", *DAY, "--site", 11)
    assert "~" in adcore("report", *DAY, "--site", 10, 11)
    one_hour = ("--from", "2026-10-31T09:00", "--to", "2026-10-31T10:00")
    assert "~" not in adcore("report", *one_hour, "--by", "site")


def test_an_hour_belongs_to_one_day_of_the_time_zone(adcore, shard):
    shard.write([beacon(at_s=NOON_S + number * HOUR_S) for number in range(13)])
    shard.count()
    wide = ("--from", "2026-10-30", "--to", "2026-11-03", "--by", "day", "--format")

    def days(zone: str) -> dict[str, int]:
        rows = rows_of(adcore("report", *wide, "csv", "--time-zone", zone))
        return {row["day"]: int(row["impressions"]) for row in rows}

    assert days("UTC") == {"2026-10-31": 12, "2026-11-01": 1}
    assert days("America/Los_Angeles") == {"2026-10-31": 13}
    assert days("Australia/Sydney") == {"2026-10-31": 1, "2026-11-01": 12}
    # 18:00 UTC is 23:30: all of that hour counts for the day in which it begins.
    assert days("Asia/Kolkata") == {"2026-10-31": 7, "2026-11-01": 6}
    told = adcore("report", *wide, "table", "--time-zone", "Asia/Kolkata")
    assert "no whole hours from UTC: an hour counts where it begins" in told


def test_hours_at_the_edges_are_whole(adcore, shard):
    shard.write([beacon(at_s=NOON_S + number * HOUR_S) for number in range(4)])
    shard.count()

    def count(start: str, end: str) -> int:
        return len(rows_of(adcore("report", "--from", start, "--to", end, "--format", "csv",
                                  "--by", "hour")))  # fmt: skip

    assert count("2026-10-31T13:00", "2026-10-31T14:00") == 1
    assert count("2026-10-31T13:59", "2026-10-31T14:01") == 2
    assert count("2026-10-31T15:00+01:00", "2026-10-31T15:00Z") == 1
    assert count("2026-10-31", "2026-11-01") == 4


def test_nothing_is_said_to_be_nothing(adcore, tmp_path):
    said = "adcore: nothing was counted: 2026-10-31 00:00 to 2026-11-01 00:00 UTC\n"
    assert adcore("report", *DAY) == said
    assert len(adcore("report", *DAY, "--format", "csv").splitlines()) == 1
    assert json.loads(adcore("report", *DAY, "--format", "json"))["rows"] == []
    file = tmp_path / "none.parquet"
    assert adcore("report", *DAY, "--format", "parquet", "--output", file) == said
    assert pyarrow.parquet.read_table(file).num_rows == 0
    assert "nothing was counted" in adcore("report", "--from", "-24h")


def test_wrong_usage_is_exit_code_2(adcore):
    for wrong in (
        ["--by", "colour"],
        ["--by", "day,day"],
        ["--by", ""],
        ["--from", "yesterday"],
        ["--from", "2026-10-31", "--to", "2026-10-31"],
        ["--from", "-9999999h"],
        ["--time-zone", "Mars/Olympus"],
        ["--format", "parquet"],
        ["--advertiser", "Acme"],
    ):
        assert "usage: adcore report" in adcore("report", *wrong, code=2)


def test_what_cannot_be_done_is_one_line_and_exit_code_1(adcore, redis_url, shard, tmp_path):
    shard.write([beacon()])
    shard.count()
    assert "can't write" in adcore("report", *DAY, "--output", tmp_path / "no" / "file", code=1)
    key = Keyspace().count_bucket(0, hour(NOON))
    with redis.Redis.from_url(redis_url) as client:
        client.hset(key, b"40.50.10.smiles", 1)
        assert "a newer adcore counted b'smiles'" in adcore("report", *DAY, code=1)
        client.hdel(key, b"40.50.10.smiles")
        client.hset(key, b"nonsense", 1)
        assert "none of ours" in adcore("report", *DAY, code=1)


def test_a_file_without_pyarrow_is_refused_in_one_line(adcore, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    done = adcore("report", "--format", "parquet", "--output", tmp_path / "file", code=1)
    assert done.splitlines()[-1] == ("adcore: Parquet needs pyarrow: pip install 'adcore[parquet]'")


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\uff1d1", "|calc", "=HYPERLINK(1)"]


def report_of(name: str, **more: int):
    names = Names(None)
    names.of["line_item"][40] = name
    query = Query(by=("line_item",), from_hour=NOON, to_hour=NOON + 1, zone=ZoneInfo("UTC"))
    fields = {b"40.50.10.impressions": 1} | {
        b"40.50.10." + key.encode(): value for key, value in more.items()
    }
    return collect([(NOON, fields)], query, names)


@pytest.mark.parametrize("name", FORMULAS)
def test_no_cell_of_a_csv_is_a_formula(name):
    text = to_csv(report_of(name))
    assert rows_of(text)[0]["line_item"] == f"'{name}"
    assert f'"\'{name}"' in text


def test_a_name_stays_one_cell_wherever_it_is_opened():
    # A spreadsheet set to another language splits at semicolons; inside quotes it does not.
    text = to_csv(report_of('Half;=1+1, "quoted"'))
    assert text.splitlines()[1].startswith('40,"Half;=1+1, ""quoted""",')


def test_a_table_obeys_no_name_and_lines_up():
    text = to_table(report_of("\x9b31mred \u202ereversed"), colour=False)
    assert "40 \ufffd31mred \ufffdreversed" in text
    lines = to_table(report_of("広告 " * 30), colour=False).splitlines()
    assert lines[3].startswith("40 広告 広告 広告 広告 広告 広告 広告 …  ")
    assert "\x1b" not in text
    assert to_table(report_of("x"), colour=True).count("\x1b[1m") == 2


@pytest.mark.parametrize("outcome", [Outcome.PREFETCH, Outcome.PREVIEW])
def test_invalid_is_told_by_reason(adcore, shard, outcome):
    shard.write([beacon(), beacon(outcome=int(outcome)), beacon(Kind.CLICK, outcome=2)])
    shard.count()
    head, row, _ = adcore("report", *DAY, "--invalid").splitlines()[2:5]
    assert head.split()[-2:] == sorted(
        [f"invalid.impression.{outcome.name.lower()}", "invalid.click.head"], reverse=True
    )
    assert row.split()[-3:] == ["2", "1", "1"]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        (1, "0.000000001"),
        (-5, "-0.000000005"),
        (10**9, "1.00"),
        (1_230_000_000, "1.23"),
        (10**30 + 1, f"{10**21}.000000001"),
    ],
)
def test_money_is_written_exactly(amount, text):
    assert decimal_text(amount, 9) == text


def test_a_table_rounds_half_to_even():
    for nanos, shown in ((5_000_000, "0.00"), (15_000_000, "0.02"), (10**27, f"{10**18:,}.00")):
        report = report_of("x", revenue_nanos=nanos)
        assert to_table(report, colour=False).splitlines()[3].split()[-1] == shown
