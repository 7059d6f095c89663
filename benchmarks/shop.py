"""ADS-A as an account that HTTP can reach: names instead of numbers, and something to show.

The engine's workload numbers its values; over HTTP a device is what a user agent says and a country
what the CDN's header says, so numbers become names, the most frequent first. Lines get creatives of
two sizes, of lengths as a news site's, and flights without an end. Regions are left out of
requests: only a city database tells them.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from string import ascii_uppercase
from typing import Final

from msgspec.structs import replace

from adcore.catalog import (
    Ad,
    AdType,
    Advertiser,
    Campaign,
    Catalog,
    Content,
    Creative,
    Expression,
    Flight,
    Html,
    Image,
    LineItem,
    Native,
)
from adcore.request import Request
from benchmarks import workload

ADVERTISERS: Final = 40
SIZES: Final = 5
ALWAYS: Final = Flight(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))

# Any two letters will do, but XX and ZZ mean that the CDN does not know.
_COUNTRIES = ["DE", "AT", "CH", "FR", "US"] + [
    code
    for code in map("".join, product(ascii_uppercase, repeat=2))
    if code not in ("DE", "AT", "CH", "FR", "US", "XX", "ZZ")
]
_LANGUAGES = ["de", "en", "fr"] + [
    code for code in map("".join, product("abcdefgh", "klmnopqr")) if code not in ("de", "en", "fr")
]
_NAMES: Final[Mapping[str, Sequence[str]]] = {
    "country": _COUNTRIES,
    "language": _LANGUAGES,
    "device": ("desktop", "phone", "tablet", "tv", "console"),
    "os": ("windows", "android", "ios", "macos", "linux", "chromeos", "tizen", "roku"),
}


def catalog(line_count: int, seed: int) -> Catalog:
    numbered = workload.catalog("ADS-A", line_count, seed)
    return replace(
        numbered,
        account=replace(numbered.account, asset_base_url="https://ads.example/"),
        ad_types=tuple(AdType(n, f"size {n}", 300, 250) for n in range(1, SIZES + 1)),
        advertisers=tuple(
            Advertiser(n, f"Advertiser {n}", f"advertiser-{n}.example")
            for n in range(1, ADVERTISERS + 1)
        ),
        campaigns=tuple(Campaign(n, n, f"Campaign {n}") for n in range(1, ADVERTISERS + 1)),
        line_items=tuple(map(_line_item, numbered.line_items)),
        creatives=tuple(
            _creative(advertiser, size)
            for advertiser, size in product(range(1, ADVERTISERS + 1), range(1, SIZES + 1))
        ),
    )


def users(count: int, seed: int) -> list[Request]:
    """Requests of the workload, which know their country, device and language by name."""
    requests = workload.requests(count, seed)
    for request in requests:
        request.country = _name("country", request.country)
        request.language = _name("language", request.language)
        request.device = _name("device", request.device)
        request.os = request.region = None
    return requests


def _name(dimension: str, number: str | None) -> str | None:
    return None if number is None else _NAMES[dimension][int(number) - 1]


def _line_item(numbered: LineItem) -> LineItem:
    advertiser = numbered.id % ADVERTISERS + 1
    leaves = (numbered.targeting and numbered.targeting.all) or ()
    # One of the three common sizes, and one of the others: a slot may take either.
    sizes = (1 + numbered.id % 3, 4 + numbered.id % (SIZES - 3))
    return replace(
        numbered,
        campaign_id=advertiser,
        flight=ALWAYS,
        targeting=Expression(all=tuple(map(_named, leaves))),
        ads=tuple(Ad(_creative_id(advertiser, size)) for size in sizes),
    )


def _named(leaf: Expression) -> Expression:
    known = _NAMES.get(leaf.dimension or "")
    if known is None:
        return leaf
    names = tuple(known[int(number) - 1] for number in leaf.include or leaf.exclude or ())
    return replace(leaf, include=names) if leaf.include else replace(leaf, exclude=names)


def _creative_id(advertiser: int, size: int) -> int:
    return advertiser * 100 + size


def _creative(advertiser: int, size: int) -> Creative:
    number = _creative_id(advertiser, size)
    return Creative(
        number,
        advertiser,
        f"Creative {number}",
        size,
        f"https://www.advertiser-{advertiser}.example/offers/{number}?utm_source=adcore",
        _content(advertiser, number),
    )


def _content(advertiser: int, number: int) -> Content:
    kind = number % 4
    if kind == 0:
        return Html(
            f'<a href="${{CLICK_URL}}" target="_blank" rel="noopener"><img alt="Offer {number}" '
            f'src="https://ads.example/{number}.svg" width="300" height="250"></a>'
            '<img src="${IMPRESSION_URL}" width="1" height="1" alt="">'
        )
    if kind == 1:
        return Native(
            title=f"What changes this autumn, offer {number}",
            body="A sentence of the length that advertisers like to write under a picture.",
            sponsored_by=f"Advertiser {advertiser}",
            cta="Read more",
            image_url=f"{number}.svg",
        )
    return Image(f"{number}.svg", f"Offer {number} of advertiser {advertiser}")
