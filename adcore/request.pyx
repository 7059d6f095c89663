"""What one ad request asks: the engine's input, free of any wire format.

The doors (server/delivery) check outside bytes and fill these; the engine trusts their bounds.
Text of the first-class dimensions is compared without regard to ASCII case, key-values exactly.
Extension types, because the engine reads two dozen fields of them for each request.
"""

cimport cython

Scalar = str | int | float | bool
# A number is also its text: 25 matches `include: ["25"]`, and true matches "true".
KeyValues = dict[str, Scalar | list[Scalar]]


@cython.final
@cython.freelist(64)
cdef class Placement:
    """One slot to fill. `name` is the `placement` dimension; empty ad_types means any.

    A site of 0 is one that the request does not name. `floor_micros` is an eCPM. The key-values are
    for this slot, over and above the request's; of the same key, both sets count. So are the capped
    line items: those that a cap has room for once, and not for a second time.
    """

    def __init__(
        self,
        str name not None,
        site=0,
        list zones=None,
        list ad_types=None,
        count=1,
        floor_micros=0,
        dict key_values=None,
        list capped_line_items=None,
    ):
        self.name = name
        self.site = site
        self.zones = _list(zones)
        self.ad_types = _list(ad_types)
        self.count = count
        self.floor_micros = floor_micros
        self.key_values = _dict(key_values)
        self.capped_line_items = _list(capped_line_items)

    def __repr__(self):
        return (
            f"Placement(name={self.name!r}, site={self.site}, zones={self.zones},"
            f" ad_types={self.ad_types}, count={self.count}, floor_micros={self.floor_micros},"
            f" key_values={self.key_values!r}, capped_line_items={self.capped_line_items!r})"
        )


@cython.final
@cython.freelist(8)
cdef class Request:
    """The user's context, and the placements in the order in which they are filled.

    `capped_line_items`, by id, are left out: the user has seen them as often as their caps allow.
    """

    def __init__(
        self,
        list placements not None,
        str country=None,
        str region=None,
        str metro=None,
        str city=None,
        str device=None,
        str os=None,
        str browser=None,
        str language=None,
        str domain=None,
        str connection=None,
        list keywords=None,
        list categories=None,
        list segments=None,
        dict key_values=None,
        list blocked_creatives=None,
        list capped_line_items=None,
    ):
        self.placements = placements
        self.country = country
        self.region = region
        self.metro = metro
        self.city = city
        self.device = device
        self.os = os
        self.browser = browser
        self.language = language
        self.domain = domain
        self.connection = connection
        self.keywords = _list(keywords)
        self.categories = _list(categories)
        self.segments = _list(segments)
        self.key_values = _dict(key_values)
        self.blocked_creatives = _list(blocked_creatives)
        self.capped_line_items = _list(capped_line_items)

    def __repr__(self):
        return (
            f"Request({self.placements!r}, country={self.country!r}, region={self.region!r},"
            f" metro={self.metro!r}, city={self.city!r}, device={self.device!r}, os={self.os!r},"
            f" browser={self.browser!r}, language={self.language!r}, domain={self.domain!r},"
            f" connection={self.connection!r}, keywords={self.keywords!r},"
            f" categories={self.categories!r}, segments={self.segments!r},"
            f" key_values={self.key_values!r}, blocked_creatives={self.blocked_creatives!r},"
            f" capped_line_items={self.capped_line_items!r})"
        )


cdef inline list _list(list given):
    return [] if given is None else given


cdef inline dict _dict(dict given):
    return {} if given is None else given
