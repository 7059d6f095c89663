"""Every fault of a catalog is reported at once, at its path and line; and only faults are."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from adcore.catalog import Catalog
from adcore.limits import CHECKS_MAX, LABELS_MAX, LINE_ITEMS_MAX
from server.catalog import check, file, rules, shape
from server.catalog.fault import Fault, Steps
from server.errors import CatalogError
from tests.catalogs import minimal, minimal_records
from tests.worlds import worlds

pytestmark = pytest.mark.plain

GONE = object()
NOW_S = 1_800_000_000  # in 2027


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The minimal catalog with values set, or taken out, at their paths."""
    records = minimal_records()
    for path, value in changes:
        *way, last = steps_of(path)
        inner: Any = records
        for step in way:
            inner = inner[step]
        if value is GONE:
            del inner[last]
        elif isinstance(inner, list) and last == len(inner):
            inner.append(deepcopy(value))
        else:
            inner[last] = deepcopy(value)
    return records


def steps_of(path: str) -> Steps:
    steps = path.replace("]", "").replace("[", ".").split(".")
    return tuple(int(step) if step.isdigit() else step for step in steps)


def source(records: Any) -> file.Source:
    return file.Source("test", records, [], lambda wanted: dict.fromkeys(wanted, 1))


def checked(*changes: tuple[str, Any], now_s: int | None = None) -> list[Fault]:
    return check.check(source(changed(*changes)), now_s).faults


# -- one rule, one case: what is changed, where the fault is, what it says, of which record

ITEM = "line_items[0]"
TARGETING = f"{ITEM}.targeting"

SHAPE = [
    # names of fields
    (f"{ITEM}.weigth", 5, None, "no such field; did you mean weight?"),
    ("nonsense", 5, None, "no such field"),
    (f"{ITEM}.flight.from", "x", None, "no such field"),
    ("sites", GONE, None, "missing"),
    (f"{ITEM}.flight.end", GONE, None, "missing"),
    (f"{ITEM}.rate.price_micros", GONE, None, "missing"),
    # numbers
    (f"{ITEM}.weight", 0, None, "must be >= 1, not 0"),
    (f"{ITEM}.weight", "5", None, "must be a whole number, not text"),
    (f"{ITEM}.weight", 1.5, None, "must be a whole number, not a number"),
    (f"{ITEM}.weight", True, None, "must be a whole number, not true or false"),
    (f"{ITEM}.weight", None, None, "must be a whole number, not nothing"),
    (f"{ITEM}.rate.price_micros", 10**15 + 1, None, f"must be <= {10**15}, not {10**15 + 1}"),
    (f"{ITEM}.id", 2**63, None, f"must be <= {2**63 - 1}"),
    (f"{ITEM}.id", 10**400, None, f"must be <= {2**63 - 1}"),
    (
        f"{ITEM}.frequency_caps",
        [{"impressions": 1001, "window_s": 60}],
        f"{ITEM}.frequency_caps[0].impressions",
        "must be <= 1000, not 1001",
    ),
    (
        f"{ITEM}.frequency_caps",
        [{"impressions": 1, "window_s": 60, "strict": 1}],
        f"{ITEM}.frequency_caps[0].strict",
        "must be true or false",
    ),
    (f"{ITEM}.pacing", "slow", None, 'must be one of even, frontloaded, asap, custom, not "slow"'),
    (f"{ITEM}.pacing_curve", [-1], f"{ITEM}.pacing_curve[0]", "must be >= 0, not -1"),
    (f"{ITEM}.pacing_curve", [1] * 169, None, "number of entries must be <= 168, not 169"),
    (f"{ITEM}.click_lookback_s", 30 * 86_400 + 1, None, "must be <= 2592000, not 2592001"),
    (f"{ITEM}.view_lookback_s", 86_401, None, "must be <= 86400, not 86401"),
    (f"{ITEM}.view_lookback_s", -1, None, "must be >= 0, not -1"),
    (f"{ITEM}.view_lookback_s", "1d", None, "must be a whole number, not text"),
    # text
    (f"{ITEM}.name", 2026, None, "must be text, not a whole number (quotes make it text)"),
    (f"{ITEM}.name", ["x"], None, "must be text, not a list"),
    (f"{ITEM}.name", "", None, "number of characters must be >= 1, not 0"),
    (f"{ITEM}.name", "x" * 201, None, "number of characters must be <= 200, not 201"),
    (f"{ITEM}.name", "a\nb", None, "control characters are not allowed"),
    (f"{ITEM}.name", "a\n", None, "control characters are not allowed"),
    (f"{ITEM}.labels", ["Ä"], f"{ITEM}.labels[0]", "not a label"),
    ("account.currency", "euro", None, "not a currency code such as EUR"),
    (f"{ITEM}.status", "on", None, 'must be one of active, paused, not "on"'),
    (f"{ITEM}.status", True, None, "must be one of active, paused, not true"),
    ("creatives[0].click_url", "ftp://a/", None, "not an http(s) URL"),
    ("creatives[0].click_url", "https://u:p@a.example/", None, "without credentials"),
    ("creatives[0].click_url", "https://a.example/\r\nX: 1", None, "not an http(s) URL"),
    ("creatives[0].click_url", "https://a.example/\n", None, "not an http(s) URL"),
    ("creatives[0].click_url", "javascript:alert(1)", None, "not an http(s) URL"),
    ("creatives[0].content.url", "javascript:alert(1)", None, "neither an http(s) URL nor a path"),
    ("creatives[0].content.url", "data:x", None, "neither an http(s) URL nor a path"),
    ("creatives[0].content.url", "//evil.example/x", None, "neither an http(s) URL nor a path"),
    # moments
    (f"{ITEM}.flight.end", "2030-01-01T00:00:00", None, "not a moment with its offset from UTC"),
    (f"{ITEM}.flight.end", "2030-01-01", None, "not a moment with its offset from UTC"),
    (f"{ITEM}.flight.end", "soon", None, "not a moment with its offset from UTC"),
    (f"{ITEM}.flight.end", 5, None, "not a moment with its offset from UTC"),
    # lists and mappings
    (f"{ITEM}.ads", [], None, "number of entries must be >= 1, not 0"),
    (f"{ITEM}.ads", {}, None, "must be a list, not a mapping"),
    (f"{ITEM}.ads", 5, None, "must be a list, not a whole number"),
    (f"{ITEM}.ads[0]", 5, None, "must be a mapping, not a whole number"),
    (f"{ITEM}.labels", ["x"] * 9, None, "number of entries must be <= 8, not 9"),
    ("line_items", None, None, "must be a list, not nothing"),
    ("line_items", {}, None, "must be a list, not a mapping"),
    ("account", [], None, "must be a mapping, not a list"),
    (ITEM, "x", None, "must be a mapping, not text"),
    # one of several forms
    (f"{ITEM}.rate", {"type": "cpx"}, f"{ITEM}.rate.type", 'cpm, cpc, cpa, flat, not "cpx"'),
    (f"{ITEM}.rate.type", GONE, None, "must be one of cpm, cpc, cpa, flat; missing"),
    (f"{ITEM}.rate", {"type": ["cpm"]}, f"{ITEM}.rate.type", "must be one of cpm"),
    (f"{ITEM}.rate", 5, None, "must be a mapping"),
    (f"{ITEM}.rate.ctr_ppm", 5, None, "no such field"),
    (f"{ITEM}.goal", 5, None, "must be a mapping"),
    (TARGETING, {"all": [{"not": {"key": 5}}]}, f"{TARGETING}.all[0].not.key", "must be text"),
    (TARGETING, {"not_": {}}, f"{TARGETING}.not_", "no such field; did you mean not?"),
    (TARGETING, {"dimension": "sight"}, f"{TARGETING}.dimension", "must be one of site, zone"),
    (
        TARGETING,
        {"key": "k", "include": ["x", 10.15]},
        f"{TARGETING}.include[1]",
        "must be a whole number or text, not a number (quotes make it text)",
    ),
    (TARGETING, {"key": "k", "below": 2**54}, f"{TARGETING}.below", f"must be <= {2**53}"),
]

LABELS = [f"label-{n}" for n in range(LABELS_MAX)]
SITE = {"dimension": "site", "include": [10, "10"]}
ANY = {"any": [{"key": f"k{n}", "include": ["x"]} for n in range(CHECKS_MAX)]}
FLAT = {"type": "flat", "price_micros": 5, "value_cpm_micros": 5}
OTHER_ADS = [{"creative_id": 50}, {"creative_id": 52}]

FIT = [
    # numbers that must be there once
    ("sites[1]", {"id": 10, "name": "n", "domain": "d"}, "sites[1].id", "is taken by sites[0]"),
    ("line_items[1].id", 40, None, "40 is taken by line_items[0]"),
    ("priorities[2]", {"number": 4, "name": "n"}, "priorities[2].number", "taken by priorities[0]"),
    # references
    ("zones[0].site_id", 99, None, "there is no site 99"),
    ("campaigns[0].advertiser_id", 99, None, "there is no advertiser 99"),
    (f"{ITEM}.campaign_id", 99, None, "there is no campaign 99"),
    (f"{ITEM}.priority", 5, None, "there is no priority 5"),
    (f"{ITEM}.ads[1].creative_id", 99, None, "there is no creative 99"),
    ("creatives[0].ad_type_id", 99, None, "there is no ad type 99"),
    ("creatives[0].advertiser_id", 99, None, "there is no advertiser 99"),
    (f"{ITEM}.ads", OTHER_ADS, f"{ITEM}.ads[1].creative_id", "creative 52 is advertiser 21's"),
    (TARGETING, {"any": [SITE, {"dimension": "zone", "exclude": [100, "101"]}]},
     f"{TARGETING}.any[1].exclude[1]", "there is no zone 101"),
    (TARGETING, {"not": {"dimension": "ad_type", "include": [3]}},
     f"{TARGETING}.not.include[0]", "there is no ad type 3"),
    (TARGETING, {"all": [{"dimension": "site", "include": [11]}]},
     f"{TARGETING}.all[0].include[0]", "there is no site 11"),
    # times
    (f"{ITEM}.flight.end", "2020-01-01T00:00:00Z", None, "must be later than the start"),
    (f"{ITEM}.flight.end", "2020-01-01T05:00:00+05:30", None, "must be later than the start"),
    (f"{ITEM}.time_zone", "Europe/Atlantis", None, 'no such time zone: "Europe/Atlantis"'),
    (f"{ITEM}.time_zone", "../UTC", None, "no such time zone"),
    (f"{ITEM}.time_zone", "europe/berlin", None, "no such time zone"),
    ("line_items[1].dayparts[0].end_hour", 6, None, "must be later than start_hour"),
    # goal and budget
    (f"{ITEM}.goal", {"unit": "impressions"}, None, "needs total, daily or both"),
    (f"{ITEM}.budget", {}, None, "needs total_micros, daily_micros or both"),
    ("line_items[1].goal.daily", 100_001, None, "must be <= total, which is 100000"),
    ("line_items[1].budget.daily_micros", 10**9 + 1, None, "must be <= total_micros, which is"),
    ("campaigns[0].goal", {"unit": "impressions"}, None, "needs total, daily or both"),
    ("campaigns[0].budget", {"total_micros": 5, "daily_micros": 6},
     "campaigns[0].budget.daily_micros", "must be <= total_micros, which is 5"),
    ("campaigns[0].time_zone", "Mars/Olympus", None, "no such time zone"),
    (f"{ITEM}.goal", {"unit": "clicks", "total": 1}, f"{ITEM}.goal.unit", "clicks need a cpc rate"),
    ("line_items[1].goal.unit", "conversions", None, "conversions need a cpa rate"),
    ("campaigns[0].goal", {"unit": "clicks", "total": 1}, f"{ITEM}.rate.type",
     "the campaign's goal: clicks need a cpc rate"),
    # pacing
    (f"{ITEM}.pacing", "custom", f"{ITEM}.pacing_curve", "needs 24 or 168 hourly weights, not 0"),
    (f"{ITEM}.pacing_curve", [1] * 24, None, "is for custom pacing, not for even"),
    # labels: with the advertiser's one
    (f"{ITEM}.labels", LABELS, None, f"{LABELS_MAX + 1} with the campaign's and the advertiser's"),
    # expressions
    (TARGETING, {}, None, "needs exactly one of"),
    (TARGETING, {**SITE, "all": []}, None, "needs exactly one of"),
    (TARGETING, {"all": [], "include": []}, f"{TARGETING}.include", "needs a dimension or a key"),
    (TARGETING, {"any": [{"key": "k"}]}, f"{TARGETING}.any[0]", "include, exclude or a range"),
    (TARGETING, {"all": [ANY, {"key": "k", "below": 5}]}, None, "4097 tests; at most 4096"),
    (TARGETING, {"dimension": "site", "include": ["ten"]}, f"{TARGETING}.include[0]", "not an id"),
    (TARGETING, {"not": {"key": "k", "at_least": 5, "below": 5}}, f"{TARGETING}.not", "range"),
    # URLs and markup
    ("creatives[0].click_url", "http://:80/", None, "not a URL with a host"),
    ("creatives[0].click_url", "http://a.example:65536/", None, "not a URL with a host"),
    ("creatives[0].click_url", "http://a.example:0/", None, "not a URL with a host"),
    ("creatives[0].click_url", "http://a.example:x/", None, "not a URL with a host"),
    ("creatives[0].click_url", "http://[::1/", None, "not a URL with a host"),
    ("creatives[0].click_url", "https://${CLICK_ID}.example/", None, "only stand in the query"),
    ("creatives[0].click_url", "https://a.example/${CLICK_ID}?q", None, "only stand in the query"),
    ("creatives[0].click_url", "https://a.example/#${CLICK_ID}", None, "only stand in the query"),
    ("creatives[0].click_url", "https://a.example/?c=${CLICK}", None, "unknown macro ${CLICK}"),
    ("creatives[0].click_url", "http://a.example?" + 5 * "${CLICK_ID}", None, "more than 4 times"),
    ("creatives[0].content.url", "https://:1/x.svg", None, "not a URL with a host"),
    ("account.asset_base_url", GONE, "creatives[0].content.url", "needs account.asset_base_url"),
    ("account.asset_base_url", "https://a.example/x", None, "must end with /"),
    ("account.asset_base_url", "https://:1/", None, "not a URL with a host"),
    ("creatives[2].content.icon_url", "ftp://x", None, "neither an http(s) URL nor a path"),
    ("creatives[1].content.body", "${CLICK_URL} ${CLICKURL}", None, "unknown macro ${CLICKURL}"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "where", "part"), SHAPE + FIT)
def test_each_rule_finds_its_fault_and_nothing_else(path, value, where, part):
    [fault] = checked((path, value))
    assert fault.path == (where or path)
    assert part in fault.message
    assert fault.severity == "error"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{ITEM}.labels", [*LABELS[:-1], "tools"]),  # "tools" is the advertiser's: counted once
        ("line_items[1].goal.daily", 100_000),
        ("line_items[1].goal.total", GONE),
        ("line_items[1].dayparts[0].start_hour", 23),
        (f"{ITEM}.flight.end", "2020-01-01T00:00:01Z"),
        (f"{ITEM}.flight.end", "2040-01-01 00:00:00+02:00"),
        ("zones", GONE),
        (TARGETING, None),
        (TARGETING, {"all": []}),
        (TARGETING, {"dimension": "zone", "include": [100, "100"]}),
        (TARGETING, {"key": "site", "include": [99]}),  # a key-value's name means nothing
        (TARGETING, {"any": ANY["any"][1:]}),
        ("creatives[0].click_url", "https://[2001:db8::1]:8443?q=${x}#f"),
        ("creatives[0].click_url", "http://münchen.example"),
        ("creatives[0].click_url", "https://a.example/?c=${CLICK_ID}&d=${CLICK_ID}#${CLICK_ID}"),
        (f"{ITEM}.click_lookback_s", 30 * 86_400),
        (f"{ITEM}.view_lookback_s", 0),
        ("creatives[0].content.url", "https://cdn.example/x.svg"),
        ("creatives[1].content.body", "${CLICK_URL}${IMPRESSION_URL}${CACHEBUSTER}${price}$"),
    ],
)
def test_what_is_right_has_no_faults(path, value):
    assert checked((path, value)) == []


@pytest.mark.parametrize(
    ("changes", "where", "part"),
    [
        ([(f"{ITEM}.flight.end", "2027-01-15T08:00:00Z")], f"{ITEM}.flight.end", "in the past"),
        ([("campaigns[0].status", "paused")], f"{ITEM}.campaign_id", "paused"),
        ([(TARGETING, {"any": []})], TARGETING, "no request can match"),
    ],
)
def test_what_never_serves_is_a_warning_and_may_be_published(changes, where, part):
    records = changed(*changes)
    result = check.check(source(records), NOW_S)
    [fault] = result.faults
    assert (fault.path, fault.severity) == (where, "warning")
    assert part in fault.message
    assert result.catalog == msgspec.convert(records, Catalog)


def test_warnings_about_time_need_the_time_and_something_active():
    over = (f"{ITEM}.flight.end", "2027-01-15T08:00:00Z")  # NOW_S
    later = (f"{ITEM}.flight.end", "2027-01-15T08:00:01Z")
    assert checked(over) == []
    assert checked(over, now_s=NOW_S) != []
    assert checked(later, now_s=NOW_S) == []
    assert checked(over, (f"{ITEM}.status", "paused"), now_s=NOW_S) == []


def test_too_many_line_items_are_a_fault(monkeypatch):
    monkeypatch.setattr(rules, "LINE_ITEMS_MAX", 1)
    assert [str(fault) for fault in check.faults(minimal())] == ["line_items: more than 1"]
    assert LINE_ITEMS_MAX > 1


def test_a_fault_names_its_record():
    [fault] = checked((f"{ITEM}.priority", 5))
    assert str(fault) == f"{ITEM}.priority (line item 40): there is no priority 5"
    [fault] = checked((f"{ITEM}.weight", 0))
    assert fault.record == "line item 40"
    [fault] = checked(("priorities[1].selection", "x"))
    assert fault.record == "priority 16"
    [fault] = checked(("zones[0].id", "x"))
    assert fault.record == ""


# -- all at once

# One change a record at most where one would hide another: independent faults.
INDEPENDENT = [
    (path, value, where or path)
    for path, value, where, _ in (
        *(case for case in SHAPE if case[0] in ("nonsense", "account.currency", f"{ITEM}.weigth")),
        (f"{ITEM}.flight.end", "soon", None, ""),
        (f"{ITEM}.rate", {"type": "cpx"}, f"{ITEM}.rate.type", ""),
        ("line_items[1].rate.ctr_ppm", -1, None, ""),
        ("line_items[1].dayparts[0].days[0]", "someday", None, ""),
        ("line_items[1].targeting.all[1].not.include[0]", None, None, ""),
        ("line_items[1].targeting.all[2].at_least", "x", None, ""),
        ("zones[0].site_id", 99, None, ""),
        ("campaigns[1].advertiser_id", 99, None, ""),
        ("creatives[0].click_url", "http://:80/", None, ""),
        ("creatives[1].content.body", "${WHAT}", None, ""),
        ("creatives[2].name", 5, None, ""),
        ("sites[1]", {"id": 10, "name": "n", "domain": "d"}, "sites[1].id", ""),
    )
]


@given(st.sets(st.sampled_from(range(len(INDEPENDENT)))))
def test_any_number_of_independent_faults_is_found_at_once(numbers):
    chosen = [INDEPENDENT[number] for number in sorted(numbers)]
    found = checked(*((path, value) for path, value, _ in chosen))
    assert sorted(fault.path for fault in found) == sorted(where for _, _, where in chosen)


@pytest.mark.parametrize("kind", ["campaigns", "creatives", "advertisers", "ad_types", "sites"])
def test_what_refers_to_a_broken_record_is_not_reported_too(kind):
    """Nor what can't be checked against it: one mistake is one fault."""
    assert [f.path for f in checked((f"{kind}[0].name", 5))] == [f"{kind}[0].name"]
    assert [f.path for f in checked((kind, "x"))] == [kind]
    assert [f.path for f in checked((kind, GONE))] == [kind]


def test_zones_that_a_broken_file_does_not_have_do_not_exist():
    found = checked(
        ("zones", GONE),
        ("account", 5),
        (TARGETING, {"dimension": "zone", "include": [100]}),
    )
    assert [fault.path for fault in found] == ["account", f"{TARGETING}.include[0]"]


def test_all_faults_of_one_expression_are_found():
    targeting = {
        "all": [
            {"key": "k", "include": ["x"], "exclude": ["y"]},
            {"any": [SITE, {"dimension": "country", "at_least": 5}]},
            {"not": {"dimension": "zone", "include": ["front"]}},
            {"dimension": "site", "include": [10, 11]},
        ]
    }
    assert [fault.path for fault in checked((TARGETING, targeting))] == [
        f"{TARGETING}.all[0]",
        f"{TARGETING}.all[1].any[1]",
        f"{TARGETING}.all[2].not.include[0]",
        f"{TARGETING}.all[3].include[1]",
    ]


@pytest.mark.parametrize("writer", ["json", "yaml"])
def test_faults_of_a_file_come_with_their_lines_in_order(tmp_path, writer):
    records = changed(*((path, value) for path, value, _ in INDEPENDENT))
    path = tmp_path / f"catalog.{writer}"
    text = json.dumps(records, indent=1) if writer == "json" else yaml.safe_dump(records)
    path.write_text(text)
    faults = check.check(file.read(path)).faults
    assert {fault.path for fault in faults} == {where for _, _, where in INDEPENDENT}
    lines = [fault.line for fault in faults]
    assert lines == sorted(lines)
    written = text.splitlines()
    for fault in faults:
        last = next(step for step in reversed(fault.steps) if isinstance(step, str))
        if isinstance(fault.steps[-1], str) and fault.message != "missing":
            assert last in written[fault.line - 1], fault


def test_a_file_that_can_not_be_read_has_only_that_fault(tmp_path):
    path = tmp_path / "catalog.yaml"
    path.write_text("account: {name: [}\n")
    result = check.check(file.read(path))
    assert result.catalog is None
    assert ["not YAML" in fault.message for fault in result.faults] == [True]


@pytest.mark.parametrize("text", ["", "5", "[]", "just text"])
def test_a_file_that_is_no_mapping_is_a_fault(tmp_path, text):
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    with pytest.raises(CatalogError, match=rf"{path}:1: must be a mapping"):
        check.load(path)


def test_a_key_that_appears_twice_refuses_the_catalog(tmp_path):
    path = tmp_path / "catalog.json"
    text = json.dumps(minimal_records())
    path.write_text(text)
    assert check.load(path) == minimal()
    path.write_text(text.replace('"currency": "EUR"', '"currency": "USD", "currency": "EUR"'))
    with pytest.raises(CatalogError, match=r"account.currency: appears twice"):
        check.load(path)


def test_a_value_nested_without_end_is_one_fault():
    expression: Any = {"key": "k", "include": ["x"]}
    for _ in range(300):
        expression = {"not": expression}
    [fault] = checked((TARGETING, expression))
    assert "nested deeper" in fault.message
    # A fault of its shape deeper than anybody writes is not searched for without end either.
    innermost = expression
    while "not" in innermost:
        innermost = innermost["not"]
    innermost["key"] = 5
    [fault] = checked((TARGETING, expression))
    assert "nested deeper" in fault.message


# -- the verdict is msgspec's

junk = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.just([]), st.just({}), st.just([{}]), st.just({"type": "cpm"}), st.just(10**30),
)  # fmt: skip

EVERY_STEP: list[Steps] = []


def _collect(value: Any, steps: Steps) -> None:
    EVERY_STEP.append(steps)
    entries = value.items() if isinstance(value, dict) else ()
    for step, inner in enumerate(value) if isinstance(value, list) else entries:
        _collect(inner, (*steps, step))


_collect(minimal_records(), ())


@given(st.lists(st.tuples(st.sampled_from(EVERY_STEP[1:]), junk), max_size=3))
def test_the_shape_has_faults_exactly_if_msgspec_refuses(changes):
    records = minimal_records()
    for steps, value in changes:
        try:
            inner: Any = records
            for step in steps[:-1]:
                inner = inner[step]
            inner[steps[-1]] = deepcopy(value)
        except (KeyError, IndexError, TypeError):
            pass  # an earlier change has taken that away
    try:
        msgspec.convert(records, Catalog)
        fits = True
    except msgspec.ValidationError:
        fits = False
    faults = shape.faults(records, Catalog)
    assert (faults == []) == fits
    for fault in faults:
        assert "Expected" not in fault.message
        assert "regex" not in fault.message


@given(worlds())
def test_generated_worlds_have_no_shape_faults_and_the_check_takes_all_of_them(world):
    records = msgspec.to_builtins(world.catalog)
    assert shape.faults(records, Catalog) == []
    from_file = check.check(source(records)).faults
    assert sorted(map(str, from_file)) == sorted(map(str, check.faults(world.catalog)))


def test_the_example_is_fit_to_publish():
    catalog = check.load(Path(__file__).parent.parent / "examples" / "catalog.yaml")
    assert len(catalog.line_items) >= 40
