"""Who is asking, as far as the request tells: device, place, language, page.

Server-side callers speak for their user: the API's `ip` and the `X-Device-*` headers of VAST
count before the connection's own address and user agent. A CDN's country header is believed
only when the settings name it.
"""

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

from server.config import Config
from server.delivery.clients import Proxies, client_ip, plain_ip
from server.delivery.devices import Device, DeviceReader
from server.delivery.geo import NOWHERE, Geo, Place, country_from_header
from server.delivery.http import Ask

# A language tag longer than this is none (RFC 5646 recommends room for 35 characters).
_LANGUAGE_CHARS_MAX: Final = 35
# Spellings of a header kept: browsers know some hundred, the rest is the client's to invent.
HEADERS_CACHED: Final = 4096

_HOST: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?(?:www\.)?([^/?#@:]+)").match


class Context(Struct, gc=False):
    device: Device
    place: Place
    language: str | None


class ContextReader:
    def __init__(self, config: Config) -> None:
        self._devices = DeviceReader()
        self._geo = Geo(config.geo_db) if config.geo_db else None
        self._country_header = config.country_header.lower()
        self._proxies = Proxies(config.trusted_proxies)

    def read(self, ask: Ask, stated_ip: str | None) -> Context:
        get = ask.headers.get
        return Context(
            self._device(ask), self._place(ask, stated_ip), language(get("accept-language"))
        )

    def lookups(self) -> dict[str, tuple[int, int]]:
        """Hits and misses so far, by cache."""
        geo = {"geo": self._geo.lookups()} if self._geo else {}
        return {"device": self._devices.lookups(), **geo}

    def client_ip(self, ask: Ask) -> str:
        forwarded = ask.headers.get_all("x-forwarded-for") if self._proxies else ()
        return client_ip(ask.peer, forwarded, self._proxies)

    def _device(self, ask: Ask) -> Device:
        get = ask.headers.get
        stated = get("x-device-user-agent")
        if stated is not None:
            # The client hints are those of the caller's own HTTP client: they say nothing of
            # the device.
            return self._devices.read(stated, None, None)
        return self._devices.read(
            get("user-agent"), get("sec-ch-ua-mobile"), get("sec-ch-ua-platform")
        )

    def _place(self, ask: Ask, stated_ip: str | None) -> Place:
        if self._country_header:
            value = ask.headers.get(self._country_header)
            # A longer one is none, and would fill the cache.
            place = _place_of_header(value) if value is not None and len(value) == 2 else None
            if place is not None:
                return place
        if self._geo is None:
            return NOWHERE
        stated_ip = stated_ip or ask.headers.get("x-device-ip")
        return self._geo.read(plain_ip(stated_ip) if stated_ip else self.client_ip(ask))


@lru_cache(HEADERS_CACHED)
def _place_of_header(value: str) -> Place | None:
    country = country_from_header(value)
    return None if country is None else Place(country=country)


def language(accept_language: str | None) -> str | None:
    """The first language of an Accept-Language header, without region: `de` of `de-AT, en`."""
    return _language(accept_language[:_LANGUAGE_CHARS_MAX]) if accept_language else None


@lru_cache(HEADERS_CACHED)
def _language(clipped: str) -> str | None:
    primary = clipped.partition(",")[0].partition(";")[0].partition("-")[0].strip()
    return primary if primary.isalpha() else None


def domain(url: str | None) -> str | None:
    """The host of a page URL without `www.`; None when there is none.

    By one pattern, as urllib's parser costs five times as much and raises on some input; only
    equality with a catalog's domain hangs on it.
    """
    found = _HOST(url) if url else None
    return found[1] if found else None
