"""A difference names every record and field that changed, and nothing that did not."""

import msgspec
import pytest
from hypothesis import given

from adcore.catalog import Catalog
from server.catalog.diff import diff
from tests.catalogs import minimal, minimal_records
from tests.worlds import worlds

pytestmark = pytest.mark.plain


def changes(alter) -> list[str]:
    records = minimal_records()
    alter(records)
    return [str(change) for change in diff(minimal(), msgspec.convert(records, Catalog))]


def test_a_catalog_does_not_differ_from_itself():
    assert list(diff(minimal(), minimal())) == []


def test_order_has_no_meaning():
    assert changes(lambda records: records["line_items"].reverse()) == []
    assert changes(lambda records: records["priorities"].reverse()) == []


def test_records_come_and_go():
    def alter(records):
        records["sites"].append({"id": 9, "name": "App", "domain": "app.example"})
        del records["zones"]
        records["priorities"][0]["number"] = 5

    assert changes(alter) == [
        '- priority 4 "Sponsorship"',
        '+ priority 5 "Sponsorship"',
        '+ site 9 "App"',
        '- zone 100 "Front page"',
    ]


def test_fields_change_at_their_smallest_part():
    def alter(records):
        records["account"]["auction"] = "second_price"
        item = records["line_items"][1]
        item["rate"]["price_micros"] = 5
        item["targeting"]["all"][2]["below"] = 70
        item["targeting"]["all"][1]["not"]["include"] = ["SE", "NO"]
        item["status"] = "paused"
        del item["goal"]
        records["line_items"][0]["rate"] = {
            "type": "flat",
            "price_micros": 1,
            "value_cpm_micros": 2,
        }

    assert changes(alter) == [
        '~ account "Daily Test": auction: default -> "second_price"',
        '~ line item 40 "Front page takeover": rate.type: "cpm" -> "flat"',
        '~ line item 40 "Front page takeover": rate.price_micros: 8000000 -> 1',
        '~ line item 40 "Front page takeover": rate.value_cpm_micros: default -> 2',
        '~ line item 41 "Filler": rate.price_micros: 400000 -> 5',
        '~ line item 41 "Filler": goal:'
        ' {"unit": "clicks", "total": 100000, "daily": 1000} -> default',
        '~ line item 41 "Filler": targeting.all[1].not.include: ["NO"] -> ["SE", "NO"]',
        '~ line item 41 "Filler": targeting.all[2].below: 65.5 -> 70.0',
        '~ line item 41 "Filler": status: default -> "paused"',
    ]


def records_of(catalog: Catalog) -> dict:
    return {
        (kind, record.number if kind == "priorities" else record.id): record
        for kind in catalog.__struct_fields__
        if kind != "account"
        for record in getattr(catalog, kind)
    }


@given(worlds(), worlds())
def test_exactly_the_records_that_differ_are_named(one, other):
    old, new = records_of(one.catalog), records_of(other.catalog)
    differing = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
    found = [change for change in diff(one.catalog, other.catalog) if change.record != "account"]
    assert len({change.record for change in found}) == len(differing)
    assert sum(not change.steps for change in found) == len(old.keys() ^ new.keys())
