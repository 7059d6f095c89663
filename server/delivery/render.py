"""A creative as Kevel's answer shows it: bytes prepared at load, with holes for the request's.

An `AdTemplate` is a list of pieces with a hole after each but the last; a hole names what goes
there. Serving an ad is one join. Text that lands in HTML is escaped for HTML, and everything is
escaped for JSON, here and nowhere later: tokens are base64url, which is safe in both.
"""

import html
import re
from typing import Any, Final

import msgspec
from msgspec import Struct

from adcore.booking import ecpm_micros
from adcore.catalog import (
    Account,
    AdType,
    Campaign,
    Catalog,
    Cpa,
    Cpc,
    Cpm,
    Creative,
    Flat,
    Html,
    Image,
    LineItem,
    Native,
)
from server.delivery.tokens import destination_digest
from server.events.records import RATE_SHIFT, RATES

CLICK: Final = 0
IMPRESSION: Final = 1
CACHEBUSTER: Final = 2

# Kevel's numbers for rate types; a CPA of ours counts conversions after a view or a click.
RATE_TYPES: Final = {Flat: 1, Cpm: 2, Cpc: 3, Cpa: 6}

_MACRO = re.compile(r"\$\{(CLICK_URL|IMPRESSION_URL|CACHEBUSTER)\}")
_HOLES = {"CLICK_URL": CLICK, "IMPRESSION_URL": IMPRESSION, "CACHEBUSTER": CACHEBUSTER}
# Private-use characters stand for holes while JSON is encoded; the catalog's own are removed first.
_MARKS = {CLICK: "\ue000", IMPRESSION: "\ue001", CACHEBUSTER: "\ue002"}
_MARK = re.compile("[\ue000-\ue002]")


class AdTemplate(Struct, array_like=True, frozen=True, gc=False):
    """Everything serving one ad needs. `pieces` has one more entry than `holes`."""

    pieces: list[bytes]
    holes: list[int]
    destination: bytes  # the click URL's digest, as the token carries it
    rate_type: int
    price_micros: int  # in the unit of the rate
    flags: int  # of the tokens: what the price is for
    pricing: bytes  # the answer's `pricing` when the winner pays its own price


class Renderer:
    """Templates for every ad of a catalog; tracking URLs start with `base_url`."""

    def __init__(self, catalog: Catalog, base_url: str) -> None:
        self._account = catalog.account
        self._campaigns = {campaign.id: campaign for campaign in catalog.campaigns}
        self._creatives = {creative.id: creative for creative in catalog.creatives}
        self._ad_types = {ad_type.id: ad_type for ad_type in catalog.ad_types}
        self._click_url = f"{base_url}/r?e={_MARKS[CLICK]}"
        self._impression_url = f"{base_url}/i.gif?e={_MARKS[IMPRESSION]}"
        # Many line items share a creative: its part of the answer is rendered once.
        self._contents: dict[int, dict[str, Any]] = {}

    def template(self, line_item: LineItem, creative_id: int) -> AdTemplate:
        creative = self._creatives[creative_id]
        campaign = self._campaigns[line_item.campaign_id]
        rate = line_item.rate
        # The digits of a decision come first, as in Kevel's own answers.
        decision = {
            **_ids(line_item, campaign, creative),
            "clickUrl": self._click_url,
            "impressionUrl": self._impression_url,
            **self._shown(creative),
        }
        pieces, holes = _split(msgspec.json.encode(decision).decode())
        return AdTemplate(
            # The closing brace is the caller's: events and pricing go before it.
            pieces=[*pieces[:-1], pieces[-1].removesuffix(b"}")],
            holes=holes,
            destination=destination_digest(creative.click_url),
            rate_type=RATE_TYPES[type(rate)],
            price_micros=rate.price_micros,
            flags=RATES.index(type(rate).__name__.lower()) << RATE_SHIFT,
            pricing=pricing_text(
                RATE_TYPES[type(rate)],
                rate.price_micros,
                rate.price_micros,
                ecpm_micros(rate),
            ),
        )

    def _shown(self, creative: Creative) -> dict[str, Any]:
        shown = self._contents.get(creative.id)
        if shown is None:
            ad_type = self._ad_types[creative.ad_type_id]
            shown = self._contents[creative.id] = {
                "contents": [self._content(creative, ad_type)],
                "height": ad_type.height,
                "width": ad_type.width,
            }
        return shown

    def _content(self, creative: Creative, ad_type: AdType) -> dict[str, Any]:
        match creative.content:
            case Image(url=url, alt=alt):
                return _image(asset_url(self._account, url), alt, ad_type, self._click_url)
            case Html(body=body):
                urls = {**_MARKS, CLICK: self._click_url, IMPRESSION: self._impression_url}
                filled = _MACRO.sub(lambda macro: urls[_HOLES[macro[1]]], _without_marks(body))
                return {"type": "html", "template": "html", "data": {}, "body": filled}
            case Native() as native:
                return {"type": "raw", "template": "native", "data": self._native(native)}

    def _native(self, native: Native) -> dict[str, str]:
        parts = {
            "title": native.title,
            "body": native.body,
            "sponsoredBy": native.sponsored_by,
            "cta": native.cta,
            "imageUrl": native.image_url and asset_url(self._account, native.image_url),
            "iconUrl": native.icon_url and asset_url(self._account, native.icon_url),
        }
        return {name: _without_marks(text) for name, text in parts.items() if text}


def pricing_text(rate_type: int, price: int, clear_price: int, ecpm: int) -> bytes:
    """The `pricing` member, prices in micros: decimals of the currency's unit, exactly.

    Revenue is what this impression alone earns: nothing yet, unless impressions are what is
    paid for.
    """
    revenue_nanos = clear_price if rate_type == RATE_TYPES[Cpm] else 0
    return (
        b',"pricing":{"price":%d.%06d,"clearPrice":%d.%06d,'
        b'"revenue":%d.%09d,"rateType":%d,"eCPM":%d.%06d}'
        % (
            *divmod(price, 1_000_000),
            *divmod(clear_price, 1_000_000),
            *divmod(revenue_nanos, 1_000_000_000),
            rate_type,
            *divmod(ecpm, 1_000_000),
        )
    )


def asset_url(account: Account, url: str) -> str:
    """An absolute URL: a path is joined to the account's base, which `check` has made sure of."""
    return url if "://" in url else f"{account.asset_base_url}{url}"


def _ids(line_item: LineItem, campaign: Campaign, creative: Creative) -> dict[str, int]:
    return {
        "adId": creative.id,
        "creativeId": creative.id,
        "flightId": line_item.id,
        "campaignId": campaign.id,
        "advertiserId": campaign.advertiser_id,
        "priorityId": line_item.priority,
    }


def _image(url: str, alt: str, ad_type: AdType, click_url: str) -> dict[str, Any]:
    alt = _without_marks(alt)
    body = (
        f'<a href="{click_url}" rel="noopener sponsored" target="_blank">'
        f'<img src="{html.escape(url)}" alt="{html.escape(alt)}" '
        f'width="{ad_type.width}" height="{ad_type.height}"></a>'
    )
    data = {"imageUrl": url, "title": alt, "width": ad_type.width, "height": ad_type.height}
    return {"type": "html", "template": "image", "data": data, "body": body}


def _without_marks(text: str) -> str:
    return _MARK.sub("", text)


def _split(text: str) -> tuple[list[bytes], list[int]]:
    """The text cut at its marks: pieces, and the hole after each piece but the last."""
    pieces = [piece.encode() for piece in _MARK.split(text)]
    codes = {mark: hole for hole, mark in _MARKS.items()}
    return pieces, [codes[mark] for mark in _MARK.findall(text)]
