"""The smallest catalog that sells something, as the builtins of a file and as a Catalog."""

from copy import deepcopy
from typing import Any

import msgspec

from adcore.catalog import Catalog

_MINIMAL: dict[str, Any] = {
    "account": {
        "name": "Daily Test",
        "currency": "EUR",
        "asset_base_url": "https://assets.example.com/",
    },
    "priorities": [
        {"number": 4, "name": "Sponsorship"},
        {"number": 16, "name": "House", "selection": "lottery"},
    ],
    "ad_types": [
        {"id": 1, "name": "Rectangle", "width": 300, "height": 250},
        {"id": 2, "name": "Native", "width": 0, "height": 0},
    ],
    "sites": [{"id": 10, "name": "News", "domain": "news.example.com"}],
    "zones": [{"id": 100, "site_id": 10, "name": "Front page"}],
    "advertisers": [
        {"id": 20, "name": "Acme", "domain": "acme.example", "labels": ["tools"]},
        {"id": 21, "name": "Zenith", "domain": "zenith.example"},
    ],
    "campaigns": [
        {"id": 30, "advertiser_id": 20, "name": "Spring"},
        {"id": 31, "advertiser_id": 21, "name": "Always on"},
    ],
    "line_items": [
        {
            "id": 40,
            "campaign_id": 30,
            "name": "Front page takeover",
            "priority": 4,
            "rate": {"type": "cpm", "price_micros": 8_000_000},
            "click_lookback_s": 7 * 86_400,
            "view_lookback_s": 0,
            "flight": {"start": "2020-01-01T00:00:00Z", "end": "2040-01-01T00:00:00Z"},
            "ads": [{"creative_id": 50}, {"creative_id": 51, "weight": 50}],
        },
        {
            "id": 41,
            "campaign_id": 31,
            "name": "Filler",
            "priority": 16,
            "rate": {"type": "cpc", "price_micros": 400_000, "ctr_ppm": 1500},
            "goal": {"unit": "clicks", "total": 100_000, "daily": 1000},
            "budget": {"total_micros": 10**9, "daily_micros": 10**7},
            "flight": {"start": "2020-01-01T00:00:00+01:00", "end": "2040-01-01T00:00:00+01:00"},
            "time_zone": "Europe/Berlin",
            "dayparts": [{"days": ["mon", "sun"], "start_hour": 6, "end_hour": 24}],
            "targeting": {
                "all": [
                    {"dimension": "site", "include": [10]},
                    {"not": {"dimension": "country", "include": ["NO"]}},
                    {"key": "age", "at_least": 18, "below": 65.5},
                ]
            },
            "ads": [{"creative_id": 52}],
        },
    ],
    "creatives": [
        {
            "id": 50,
            "advertiser_id": 20,
            "name": "Picture",
            "ad_type_id": 1,
            "click_url": "https://acme.example/spring",
            "content": {"type": "image", "url": "acme/300x250.svg", "alt": "Tools in bloom"},
        },
        {
            "id": 51,
            "advertiser_id": 20,
            "name": "Markup",
            "ad_type_id": 1,
            "click_url": "https://acme.example/spring?v=2",
            "content": {"type": "html", "body": '<a href="${CLICK_URL}">Tools</a>'},
        },
        {
            "id": 52,
            "advertiser_id": 21,
            "name": "Native",
            "ad_type_id": 2,
            "click_url": "http://zenith.example:8080/",
            "content": {"type": "native", "title": "Higher", "sponsored_by": "Zenith"},
        },
    ],
}


def minimal_records() -> dict[str, Any]:
    """A fresh copy of the file's content, to be changed at will."""
    return deepcopy(_MINIMAL)


def minimal() -> Catalog:
    """Two advertisers, two line items in two tiers, every kind of content."""
    return msgspec.convert(_MINIMAL, Catalog)
