"""HTTP requests in Kevel's shape, made from the workload: its users and pages, as bytes.

Two sizes. `600 B` is a page view with one or two slots; `2 kB` a page with six or more, each with
its own properties. What the API takes from headers goes there: user agent, language, and the
country in a CDN's header.
"""

import random
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from adcore import Request
from benchmarks.generator import post

API: Final = "/api/v2"
COUNTRY_HEADER: Final = "x-country"
VARIANTS: Final = 512

# One each of what a news site sees most; the device dimension of the workload picks among them.
USER_AGENTS: Final[dict[str | None, tuple[str, ...]]] = {
    "desktop": (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/142.0.0.0 Safari/537.36",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.6 Safari/605.1.15",
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    ),
    "phone": (
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/142.0.0.0 Mobile Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 "
        "(KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    ),
    "tablet": (
        "Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "CriOS/142.0.7444.77 Mobile/15E148 Safari/604.1",
    ),
    "tv": (
        "Mozilla/5.0 (SMART-TV; LINUX; Tizen 8.0) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Version/8.0 TV Safari/537.36",
    ),
    "console": ("Mozilla/5.0 (PlayStation; PlayStation 5/9.40) AppleWebKit/605.1.15 Safari/605.1",),
}
_SIZES: Final = (1, 1, 1, 2, 2, 3, 4, 5)  # ad types asked for, the common ones more often
_WORDS: Final = (  # noqa: SIM905 - read as prose
    "election budget harvest championship transfer orchestra gallery startup railway bridge "
    "hospital university festival marathon museum vineyard glacier reactor satellite parliament"
).split()


class Shape(Struct, frozen=True):
    name: str
    body_bytes: int
    placements: tuple[int, int]  # fewest, most
    described: bool  # each slot has properties of its own


SHAPES: Final = (
    Shape("600 B", 600, (1, 2), described=False),
    Shape("2 kB", 2000, (6, 7), described=True),
)


class Call(Struct, frozen=True):
    body: bytes
    headers: tuple[tuple[str, str], ...]

    def raw(self) -> bytes:
        return post(API, self.body, self.headers)


def calls(
    requests: Sequence[Request], shape: Shape, seed: int, count: int = VARIANTS
) -> list[Call]:
    """`count` different calls; the same seed and workload give the same bytes."""
    chance = random.Random(f"{seed} {shape.name}")
    return [_call(requests, shape, number, chance) for number in range(count)]


def _call(requests: Sequence[Request], shape: Shape, number: int, chance: random.Random) -> Call:
    user = requests[number % len(requests)]
    slots = [user, *chance.choices(requests, k=chance.randint(*shape.placements) - 1)]
    asked: dict[str, Any] = {
        "placements": _placements(slots, shape.described, chance),
        "user": {"key": str(UUID(int=chance.getrandbits(128))), "segments": [*user.segments]},
        "keywords": [*user.keywords],
        "url": _url(chance),
        "ip": f"203.0.113.{chance.randrange(1, 255)}",
    }
    return Call(_sized(asked, shape.body_bytes, chance), _headers(user, chance))


def _placements(
    slots: Sequence[Request], described: bool, chance: random.Random
) -> list[dict[str, Any]]:
    asked: dict[str, dict[str, Any]] = {}
    for slot in slots:
        placement = slot.placements[0]
        name = placement.name
        # Names must differ inside a request: the same slot twice on a page is a new name.
        while name in asked:
            name += "b"
        asked[name] = {
            "divName": name,
            "siteId": 1,
            "zoneIds": placement.zones,
            "adTypes": sorted({chance.choice(_SIZES) for _ in range(chance.randint(1, 2))}),
            "properties": {**slot.key_values, **(_described(chance) if described else {})},
        }
    return [*asked.values()]


def _described(chance: random.Random) -> dict[str, Any]:
    """What a page tells about a slot; no line asks for it, so it costs only reading."""
    return {
        "section": chance.choice(_WORDS),
        "position": chance.randrange(1, 12),
        "viewability": chance.randrange(1, 100) / 100,
        "lazy": chance.random() < 0.5,
        "topics": chance.sample(_WORDS, 3),
        "paywall": chance.choice(("open", "metered", "closed")),
    }


def _sized(asked: dict[str, Any], size: int, chance: random.Random) -> bytes:
    """Bring the JSON to about `size`: segments of the user go, or keywords of the page come."""
    segments, keywords = asked["user"]["segments"], asked["keywords"]
    body = msgspec.json.encode(asked)
    while len(body) > size and segments:
        segments.pop()
        body = msgspec.json.encode(asked)
    while len(body) < size:
        keywords.append(f"{chance.choice(_WORDS)}-{chance.randrange(1000)}")
        body = msgspec.json.encode(asked)
    return body


def _url(chance: random.Random) -> str:
    path = "-".join(chance.sample(_WORDS, 3))
    return f"https://www.news.example/{chance.choice(_WORDS)}/{path}"


def _headers(user: Request, chance: random.Random) -> tuple[tuple[str, str], ...]:
    agents = USER_AGENTS.get(user.device, USER_AGENTS["desktop"])
    headers = [("User-Agent", chance.choice(agents)), ("Accept", "*/*")]
    if user.language:
        headers.append(("Accept-Language", f"{user.language},en;q=0.5"))
    if user.country:
        headers.append((COUNTRY_HEADER, user.country))
    return tuple(headers)
