"""Where the client is: from a MaxMind file, or from the CDN that stands in front.

`country` is ISO 3166-1 alpha-2, `region` ISO 3166-2 (`DE-BE`), `city` the English name, and `metro`
the Google/Nielsen metro code as text. Each is None when the database does not have it.
"""

import os
from functools import lru_cache
from typing import Any, NamedTuple

import maxminddb

from server.delivery.clients import ADDRESS_CHARS_MAX, plain_ip
from server.errors import ConfigError

CACHE_PLACES = 65_536  # 20 MB at most

_UNKNOWN_COUNTRIES = ("XX", "ZZ")  # what CDNs send instead of nothing; Tor's T1 has a digit


class Place(NamedTuple):
    country: str | None = None
    region: str | None = None
    city: str | None = None
    metro: str | None = None


NOWHERE = Place()


class Geo:
    def __init__(self, path: str | os.PathLike[str], cache_size: int = CACHE_PLACES) -> None:
        """Map the file; ConfigError when it is missing, or no MaxMind database of countries."""
        try:
            self._reader = maxminddb.open_database(path, maxminddb.MODE_AUTO)
        except (OSError, maxminddb.InvalidDatabaseError) as error:
            raise ConfigError(f"geo database: {error}") from None
        # The file never changes under us, so an answer stays true for as long as it is kept.
        self._cached = lru_cache(cache_size)(self._read)

    def read(self, ip: str) -> Place:
        """Place an address; what is none, or is not in the database, is nowhere."""
        return self._cached(ip) if len(ip) <= ADDRESS_CHARS_MAX else NOWHERE

    def lookups(self) -> tuple[int, int]:
        """Count hits and misses of the cache so far."""
        info = self._cached.cache_info()
        return info.hits, info.misses

    def _read(self, ip: str) -> Place:
        try:
            # Text that is no address becomes "", which the reader refuses as it should.
            record = self._reader.get(plain_ip(ip))
        except (ValueError, maxminddb.InvalidDatabaseError):
            return NOWHERE
        country = _text(record, "country", "iso_code")
        region = _text(record, "subdivisions", 0, "iso_code")
        return Place(
            country=country,
            region=f"{country}-{region}" if country and region else None,
            city=_text(record, "city", "names", "en"),
            metro=_text(record, "location", "metro_code"),
        )

    def close(self) -> None:
        self._reader.close()


def country_from_header(value: str | None) -> str | None:
    """Take a CDN's country header, unless it says that the CDN does not know."""
    if value is None or len(value) != 2 or not (value.isascii() and value.isalpha()):
        return None
    country = value.upper()
    return None if country in _UNKNOWN_COUNTRIES else country


def _text(record: Any, *path: str | int) -> str | None:
    """Walk into a record whose shape is the vendor's word, not ours."""
    for step in path:
        try:
            record = record[step]
        except (KeyError, IndexError, TypeError):
            return None
    return str(record) if isinstance(record, str | int) and record != "" else None
