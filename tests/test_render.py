"""A template is the answer's JSON with holes: escaped once, whatever a catalog says."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcore.catalog import Catalog
from server.delivery.render import CACHEBUSTER, CLICK, IMPRESSION, Renderer, asset_url
from server.delivery.tokens import destination_digest
from tests import catalogs
from tests.delivery import BASE_URL

FILLING = {CLICK: b"C-tok", IMPRESSION: b"I-tok", CACHEBUSTER: b"0a"}
CLICK_URL = f"{BASE_URL}/r?e=C-tok"
IMPRESSION_URL = f"{BASE_URL}/i.gif?e=I-tok"


def catalog_with(content: dict) -> Catalog:
    records = catalogs.minimal_records()
    records["creatives"][0]["content"] = content
    return msgspec.convert(records, Catalog)


def rendered(content: dict) -> dict:
    catalog = catalog_with(content)
    template = Renderer(catalog, BASE_URL).template(catalog.line_items[0], 50)
    assert len(template.pieces) == len(template.holes) + 1
    out = b""
    for piece, hole in zip(template.pieces, template.holes, strict=False):
        out += piece + FILLING[hole]
    return json.loads(out + template.pieces[-1] + b"}")


def test_an_image():
    ad = rendered({"type": "image", "url": "a/b.svg", "alt": "Tools"})
    assert ad == {
        "adId": 50,
        "creativeId": 50,
        "flightId": 40,
        "campaignId": 30,
        "advertiserId": 20,
        "priorityId": 4,
        "clickUrl": CLICK_URL,
        "impressionUrl": IMPRESSION_URL,
        "contents": [
            {
                "type": "html",
                "template": "image",
                "data": {
                    "imageUrl": "https://assets.example.com/a/b.svg",
                    "title": "Tools",
                    "width": 300,
                    "height": 250,
                },
                "body": f'<a href="{CLICK_URL}" rel="noopener sponsored" target="_blank">'
                '<img src="https://assets.example.com/a/b.svg" alt="Tools" '
                'width="300" height="250"></a>',
            }
        ],
        "height": 250,
        "width": 300,
    }


def test_macros_are_replaced_in_one_pass():
    body = "${CLICK_URL} ${IMPRESSION_URL} ${CACHEBUSTER} ${CLICK_URL} ${NO} $${CLICK_URL}} {{7*7}}"
    shown = rendered({"type": "html", "body": body})["contents"][0]["body"]
    assert shown == (
        f"{CLICK_URL} {IMPRESSION_URL} 0a {CLICK_URL} ${{NO}} ${CLICK_URL}}} {{{{7*7}}}}"
    )


def test_native_parts_that_are_not_given_are_left_out():
    content = {"type": "native", "title": "T", "sponsored_by": "S", "image_url": "x.svg"}
    shown = rendered(content)["contents"][0]
    assert shown["data"] == {
        "title": "T",
        "sponsoredBy": "S",
        "imageUrl": "https://assets.example.com/x.svg",
    }


HOSTILE = st.text(
    alphabet=st.sampled_from("<>\"'&\\/\n\ue000\ue001\ue002${}CLICK_URL\u2028é😀"), max_size=40
)


@given(HOSTILE)
def test_a_text_can_break_out_of_neither_html_nor_json(text):
    shown = rendered({"type": "image", "url": "a.svg", "alt": text})["contents"][0]
    kept = "".join(letter for letter in text if letter not in "\ue000\ue001\ue002")
    assert shown["data"]["title"] == kept
    start, end = (
        '<img src="https://assets.example.com/a.svg" alt="',
        '" width="300" height="250"></a>',
    )
    inside = shown["body"].partition(start)[2].removesuffix(end)
    assert not set(inside) & set("<>\"'")


@given(HOSTILE.filter(bool))
def test_html_bodies_survive_json(text):
    shown = rendered({"type": "html", "body": text})["contents"][0]["body"]
    assert "\ue000" not in shown


@pytest.mark.parametrize("url", ["https://cdn.example/a.svg", "http://cdn.example/a.svg"])
def test_absolute_assets_stay_as_they_are(url):
    assert asset_url(catalogs.minimal().account, url) == url


def test_the_template_knows_its_destination_and_price():
    catalog = catalogs.minimal()
    template = Renderer(catalog, BASE_URL).template(catalog.line_items[0], 51)
    assert template.destination == destination_digest("https://acme.example/spring?v=2")
    assert (template.rate_type, template.price_micros) == (2, 8_000_000)
