"""Who is asking, as far as the request tells: device, place, language, page.

Server-side callers speak for their user: the API's `ip` and the `X-Device-*` headers of VAST
count before the connection's own address and user agent. A CDN's country header is believed
only when the settings name it.
"""

cimport cython

from server.delivery.http cimport Ask

from functools import lru_cache

from server.delivery.clients import Proxies, client_ip, plain_ip
from server.delivery.devices import DeviceReader
from server.delivery.geo import NOWHERE, Geo, Place, country_from_header

# A language tag longer than this is none (RFC 5646 recommends room for 35 characters).
cdef Py_ssize_t LANGUAGE_CHARS_MAX = 35
# Spellings of a header kept: browsers know some hundred, the rest is the client's to invent.
HEADERS_CACHED = 4096


@cython.final
@cython.freelist(8)
cdef class Context:

    def __init__(self, device not None, place not None, str language):
        self.device = device
        self.place = place
        self.language = language


@cython.final
cdef class ContextReader:
    cdef object devices, read_device, geo, country_header, proxies

    def __init__(self, config not None):
        self.devices = DeviceReader()
        self.read_device = self.devices.read
        self.geo = Geo(config.geo_db) if config.geo_db else None
        self.country_header = config.country_header.lower()
        self.proxies = Proxies(config.trusted_proxies)

    def read(self, Ask ask not None, str stated_ip):
        return Context(
            self._device(ask.headers),
            self._place(ask, stated_ip),
            language(ask.headers.get("accept-language")),
        )

    def lookups(self):
        """Hits and misses so far, by cache."""
        geo = {"geo": self.geo.lookups()} if self.geo is not None else {}
        return {"device": self.devices.lookups(), **geo}

    def client_ip(self, Ask ask not None):
        forwarded = ask.headers.get_all("x-forwarded-for") if self.proxies else ()
        return client_ip(ask.peer, forwarded, self.proxies)

    cdef _device(self, headers):
        stated = headers.get("x-device-user-agent")
        if stated is not None:
            # The client hints are those of the caller's own HTTP client: they say nothing of
            # the device.
            return self.read_device(stated, None, None)
        return self.read_device(
            headers.get("user-agent"),
            headers.get("sec-ch-ua-mobile"),
            headers.get("sec-ch-ua-platform"),
        )

    cdef _place(self, Ask ask, str stated_ip):
        if self.country_header:
            value = ask.headers.get(self.country_header)
            # A longer one is none, and would fill the cache.
            place = _place_of_header(value) if value is not None and len(value) == 2 else None
            if place is not None:
                return place
        if self.geo is None:
            return NOWHERE
        ip = stated_ip or ask.headers.get("x-device-ip")
        return self.geo.read(plain_ip(ip) if ip else self.client_ip(ask))


@lru_cache(HEADERS_CACHED)
def _place_of_header(value):
    country = country_from_header(value)
    return None if country is None else Place(country=country)


cpdef language(str accept_language):
    """The first language of an Accept-Language header, without region: `de` of `de-AT, en`."""
    return _language(accept_language[:LANGUAGE_CHARS_MAX]) if accept_language else None


@lru_cache(HEADERS_CACHED)
def _language(clipped):
    primary = clipped.partition(",")[0].partition(";")[0].partition("-")[0].strip()
    return primary if primary.isalpha() else None


cpdef domain(str url):
    """The host of a page URL without `www.`; None when there is none.

    A walk over the characters, as urllib's parser costs ten times as much and raises on some
    input; only equality with a catalog's domain hangs on it.
    """
    if url is None:
        return None
    cdef Py_ssize_t scheme_end = url.find("://")
    cdef Py_ssize_t first = scheme_end + 3
    cdef Py_ssize_t size = len(url)
    cdef Py_ssize_t place
    cdef Py_UCS4 character
    if scheme_end < 1 or not _is_scheme(url, scheme_end):
        return None
    for place in range(first, size):
        character = url[place]
        if character == u"@":  # what stands before is the user's name and password
            first = place + 1
            break
        if character in u"/?#":
            break
    if url.startswith("www.", first):
        first += 4
    place = first
    while place < size and url[place] not in u"/?#@:":
        place += 1
    return url[first:place] if place > first else None


cdef bint _is_scheme(str url, Py_ssize_t end):
    cdef Py_ssize_t place
    cdef Py_UCS4 character
    for place in range(end):
        character = url[place]
        if not (u"a" <= character <= u"z" or place and (
            u"0" <= character <= u"9" or character in u"+.-"
        )):
            return False
    return True
