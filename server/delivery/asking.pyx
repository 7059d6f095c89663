"""From Kevel's words to the engine's: the other end of `answer.pyx`, and compiled like it."""

from adcore.request cimport Placement, Request

from server.delivery.context cimport Context, domain


# Shared by all requests, as the engine only reads them.
cdef list NONE = []
cdef dict NO_KEY_VALUES = {}


cpdef bint is_personal(asked, headers) except -1:
    """Whether the user may be told from others: not without consent, nor as a child."""
    if asked.notrack or headers.get("sec-gpc") == "1":
        return False
    consent = asked.consent
    return consent is None or (
        (consent.gdpr is None or consent.gdpr is True)
        and (consent.gpc is None or consent.gpc is False)
        and (consent.coppa is None or consent.coppa is False)
    )


cpdef Request to_request(asked, Context context, bint personal=True):
    """What the engine is asked: the caller's words and what the connection tells.

    Of a user who may not be told from others: the page, the device and the region, no more.
    """
    device, place, user = context.device, context.place, asked.user
    cdef Request request = Request.__new__(Request)
    request.placements = [_placement(placement) for placement in <list> asked.placements]
    request.country = place.country
    request.region = place.region
    request.metro = place.metro if personal else None
    request.city = place.city if personal else None
    request.device = device.device
    request.os = device.os
    request.browser = device.browser
    request.language = context.language
    request.domain = domain(asked.url)
    request.keywords = asked.keywords or NONE
    request.categories = NONE
    request.segments = NONE if user is None or not personal else _segments(user.segments)
    request.key_values = NO_KEY_VALUES
    request.blocked_creatives = asked.blocked_creatives or NONE
    request.capped_line_items = NONE
    return request


cdef Placement _placement(asked):
    cdef Placement placement = Placement.__new__(Placement)
    floor = asked.floor_price
    cdef dict properties = asked.properties
    if properties is not None and _has_none(properties):
        properties = {key: value for key, value in properties.items() if value is not None}
    placement.name = asked.div_name
    placement.site = asked.site_id or 0
    placement.zones = asked.zone_ids or NONE
    placement.ad_types = asked.ad_types or NONE
    placement.count = asked.count or 1
    # To the nearest micro: 1.1 is not a binary fraction, and 1.10 must pass a floor of 1.1.
    placement.floor_micros = round(floor * 1_000_000) if floor else 0
    placement.capped_line_items = NONE
    placement.key_values = NO_KEY_VALUES if properties is None else properties
    return placement


cdef list _segments(list asked):
    if not asked:
        return NONE
    return [segment if isinstance(segment, str) else str(segment) for segment in asked]


cdef bint _has_none(dict properties):
    for value in properties.values():
        if value is None:
            return True
    return False


cpdef str names_fault(list placements):
    """What is wrong with the placements' names, or None."""
    cdef set names = set()
    cdef str name
    for placement in placements:
        name = placement.div_name
        if not (name.isascii() and name.isprintable()):
            return "a divName is not printable ASCII"
        names.add(name)
    return "a divName is used twice" if len(names) < len(placements) else None
