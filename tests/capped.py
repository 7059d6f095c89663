"""A catalog with caps, and what tests and the benchmark ask of servers that hold to it."""

import http.client
import json
from typing import Any

import msgspec

from adcore.catalog import Catalog, FrequencyCap, LineItem
from tests import catalogs

DAY_S = 86_400


def capped_catalog(*lines: dict[str, Any]) -> Catalog:
    """Line items 1, 2, ... on one slot, the first the dearest; each dict replaces fields."""
    records = catalogs.minimal_records()
    usual = records["line_items"][0]
    records["line_items"] = [
        {
            **usual,
            "id": number,
            "rate": {"type": "cpm", "price_micros": 10_000_000 - number},
            "ads": [{"creative_id": 50}],
            **line,
        }
        for number, line in enumerate(lines, 1)
    ]
    records["campaigns"].append({"id": 32, "advertiser_id": 20, "name": "Autumn"})
    for advertiser in records["advertisers"]:
        advertiser.pop("labels", None)
    return msgspec.convert(records, Catalog)


def cap(impressions: int, window_s: int = DAY_S, **more: Any) -> dict[str, Any]:
    return {"impressions": impressions, "window_s": window_s, **more}


def body(user: str | None, slots: int = 1, **more: Any) -> bytes:
    asked: dict[str, Any] = {
        "placements": [{"divName": f"d{n}", "siteId": 10} for n in range(slots)],
        **more,
    }
    if user is not None:
        asked["user"] = {"key": user}
    return json.dumps(asked).encode()


def flights(answer: bytes) -> list[int | None]:
    """The line items of an answer, None for no ad."""
    decisions = json.loads(answer)["decisions"]
    return [ad and ad["flightId"] for ad in decisions.values()]


def ask(
    connection: http.client.HTTPConnection, asked: bytes, headers: dict[str, str] | None = None
) -> list[int | None]:
    connection.request("POST", "/api/v2", asked, headers or {})
    response = connection.getresponse()
    answer = response.read()
    assert response.status == 200, (response.status, answer)
    return flights(answer)


def as_caps(line: LineItem) -> tuple[FrequencyCap, ...]:
    return line.frequency_caps
