"""The example shows every feature, is fit to publish, and its pictures run and load nothing."""

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

import pytest

import adcore
from adcore.catalog import Cpa, Cpc, Cpm, Expression, Flat, Html, Image, LineItem, Native
from examples.creatives import FOLDER, pictures
from server import cli
from server.catalog.check import check
from server.catalog.file import read
from server.delivery import kevel
from server.delivery.asking import to_request
from server.delivery.context import Context
from server.delivery.devices import DeviceReader
from server.delivery.geo import Place

ROOT = Path(__file__).parent.parent
FILE = ROOT / "examples" / "catalog.yaml"
STATIC = ROOT / "server" / "console" / "static"
SVG = "{http://www.w3.org/2000/svg}"
SUMMER_2034_S = int(datetime(2034, 7, 1, tzinfo=UTC).timestamp())

CHECKED = check(read(FILE))
CATALOG = CHECKED.catalog


def test_it_is_fit_to_publish_and_its_one_warning_is_on_purpose():
    assert [(fault.record, fault.message) for fault in CHECKED.faults] == [
        ("line item 8008", "the campaign is paused: nothing serves")
    ]
    assert CATALOG is not None


def test_editors_get_the_schema_of_this_version(capsys):
    assert FILE.read_text().startswith("# yaml-language-server: $schema=catalog.schema.json\n")
    assert cli.main(["schema"]) == 0
    current = capsys.readouterr().out
    kept = (FILE.parent / "catalog.schema.json").read_text()
    assert kept == current, "run: adcore schema > examples/catalog.schema.json"


def test_it_is_as_large_as_it_claims():
    assert len(CATALOG.advertisers) >= 12
    assert len(CATALOG.line_items) >= 40
    assert len(CATALOG.sites) == 2


def expressions(expression):
    yield expression
    inner = [*(expression.all or ()), *(expression.any or ()), expression.not_]
    for part in filter(None, inner):
        yield from expressions(part)


def test_it_shows_every_feature():
    lines = CATALOG.line_items
    assert {line.priority for line in lines} == {4, 6, 8, 10, 12, 16}
    assert {tier.selection for tier in CATALOG.priorities} == {"auction", "lottery"}
    assert {type(line.rate) for line in lines} == {Cpm, Cpc, Cpa, Flat}
    assert {line.pacing for line in lines} == {"even", "frontloaded", "asap", "custom"}
    assert {len(line.pacing_curve) for line in lines} == {0, 24}
    assert any(cap.strict for line in lines for cap in line.frequency_caps)
    assert any(campaign.goal and campaign.time_zone != "UTC" for campaign in CATALOG.campaigns)
    assert any(campaign.budget for campaign in CATALOG.campaigns)
    assert {type(creative.content) for creative in CATALOG.creatives} == {Image, Html, Native}
    assert {line.goal.unit for line in lines if line.goal} == {
        "impressions",
        "clicks",
        "conversions",
    }
    assert {cap.scope for line in lines for cap in line.frequency_caps} == {
        "line_item", "campaign", "advertiser",
    }  # fmt: skip
    assert len({line.time_zone for line in lines if line.dayparts}) >= 3
    assert {line.on_unknown for line in lines} == {"allow", "deny"}
    assert {line.status for line in lines} == {"active", "paused"}
    assert any(line.budget and line.budget.daily_micros for line in lines)
    assert any(campaign.status == "paused" for campaign in CATALOG.campaigns)
    assert len({label for advertiser in CATALOG.advertisers for label in advertiser.labels}) >= 8


def test_its_targeting_uses_every_form():
    found = [
        part
        for line in CATALOG.line_items
        if line.targeting
        for part in expressions(line.targeting)
    ]
    for form in Expression.__struct_fields__:
        assert any(getattr(part, form) is not None for part in found), form
    assert {part.dimension for part in found} >= {"country", "device", "site", "keyword", "segment"}
    assert {part.key for part in found} >= {"section", "topic", "logged_in", "age"}


def test_every_creative_is_booked_and_every_ad_type_used():
    booked = {ad.creative_id for line in CATALOG.line_items for ad in line.ads}
    assert {creative.id for creative in CATALOG.creatives} == booked
    used = {creative.ad_type_id for creative in CATALOG.creatives}
    assert used == {ad_type.id for ad_type in CATALOG.ad_types}


def test_every_address_is_invented():
    domains = [record.domain for record in (*CATALOG.sites, *CATALOG.advertisers)]
    assert [domain for domain in domains if not domain.endswith(".example")] == []
    for creative in CATALOG.creatives:
        assert re.match(r"https://[a-z-]+\.example/", creative.click_url), creative.name


# -- pictures --------------------------------------------------------------------------------------


def picture_urls(content):
    if isinstance(content, Image):
        return [content.url]
    if isinstance(content, Native):
        return [url for url in (content.image_url, content.icon_url) if url]
    return []


def test_every_picture_is_there_and_in_its_ad_type_s_size():
    sizes = {ad_type.id: (ad_type.width, ad_type.height) for ad_type in CATALOG.ad_types}
    for creative in CATALOG.creatives:
        for url in picture_urls(creative.content):
            root = ET.parse(STATIC / url).getroot()
            if isinstance(creative.content, Image):
                assert (int(root.get("width")), int(root.get("height"))) == sizes[
                    creative.ad_type_id
                ], url


def test_every_drawn_picture_is_shown_and_as_the_script_draws_it():
    drawn = pictures()
    shown = {url for creative in CATALOG.creatives for url in picture_urls(creative.content)}
    page = (STATIC / "index.html").read_text()
    shown |= set(re.findall(r"creatives/[a-z-]+\.svg", page))
    assert {f"creatives/{name}" for name in drawn} == shown
    assert {file.name for file in FOLDER.iterdir()} == set(drawn)
    for name, markup in drawn.items():
        assert (FOLDER / name).read_text() == markup, "run: python -m examples.creatives"


@pytest.mark.parametrize("file", sorted(STATIC.rglob("*.svg")), ids=lambda file: file.name)
def test_a_picture_runs_nothing_and_loads_nothing(file):
    for element in ET.parse(file).iter():
        assert element.tag.startswith(SVG), element.tag
        assert element.tag.removeprefix(SVG) not in {
            "script",
            "foreignObject",
            "style",
            "image",
            "use",
            "a",
        }
        for name, value in element.attrib.items():
            assert not name.lower().startswith("on")
            assert "href" not in name
            assert re.findall(r"url\((?!#)|https?:|data:|javascript:", value) == []


def test_html_creatives_count_their_click_and_run_nothing():
    bodies = [
        creative.content.body
        for creative in CATALOG.creatives
        if isinstance(creative.content, Html)
    ]
    assert len(bodies) >= 4
    for body in bodies:
        assert 'href="${CLICK_URL}" target="_blank"' in body
        assert re.findall(r"<script|\son[a-z]+=|https?://|\$\{(?!CLICK_URL)", body) == []


# -- what wins -------------------------------------------------------------------------------------


def winners(file, country="DE"):
    asked = kevel.parse((FILE.parent / file).read_bytes())
    device = DeviceReader().read(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/138.0", None, None
    )
    index = adcore.compile(CATALOG)
    return index.select(
        to_request(asked, Context(device, Place(country=country), "en")),
        index.live(SUMMER_2034_S),
        7,
    )


@pytest.mark.parametrize("country", ["DE", "GB", "JP"])
def test_the_example_requests_are_filled_anywhere(country):
    header, right, _ = winners("request.json", country)
    assert [win.line_item_id for win in header] == [4001]  # the travel section's sponsor
    assert right[0].line_item_id != 4001  # one airline a page
    assert len(winners("request-count.json", country)[0]) == 3


def test_line_items_that_are_paused_or_out_of_flight_are_few_and_on_purpose():
    campaigns = {campaign.id: campaign for campaign in CATALOG.campaigns}

    def serves(line: LineItem) -> bool:
        at = datetime.fromtimestamp(SUMMER_2034_S, UTC)
        active = line.status == campaigns[line.campaign_id].status == "active"
        return active and line.flight.start <= at < line.flight.end

    assert {line.id for line in CATALOG.line_items if not serves(line)} == {6007, 6008, 8008, 16005}
