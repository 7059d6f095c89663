from typing import TypeAlias, final

Scalar: TypeAlias = str | int | float | bool
KeyValues: TypeAlias = dict[str, Scalar | list[Scalar]]

@final
class Placement:
    name: str
    site: int
    zones: list[int]
    ad_types: list[int]
    count: int
    floor_micros: int
    key_values: KeyValues
    capped_line_items: list[int]
    def __init__(
        self,
        name: str,
        site: int = 0,
        zones: list[int] | None = None,
        ad_types: list[int] | None = None,
        count: int = 1,
        floor_micros: int = 0,
        key_values: KeyValues | None = None,
        capped_line_items: list[int] | None = None,
    ) -> None: ...

@final
class Request:
    placements: list[Placement]
    country: str | None
    region: str | None
    metro: str | None
    city: str | None
    device: str | None
    os: str | None
    browser: str | None
    language: str | None
    domain: str | None
    connection: str | None
    keywords: list[str]
    categories: list[str]
    segments: list[str]
    key_values: KeyValues
    blocked_creatives: list[int]
    capped_line_items: list[int]
    def __init__(
        self,
        placements: list[Placement],
        country: str | None = None,
        region: str | None = None,
        metro: str | None = None,
        city: str | None = None,
        device: str | None = None,
        os: str | None = None,
        browser: str | None = None,
        language: str | None = None,
        domain: str | None = None,
        connection: str | None = None,
        keywords: list[str] | None = None,
        categories: list[str] | None = None,
        segments: list[str] | None = None,
        key_values: KeyValues | None = None,
        blocked_creatives: list[int] | None = None,
        capped_line_items: list[int] | None = None,
    ) -> None: ...
