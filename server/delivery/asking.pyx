"""From Kevel's words to the engine's: the other end of `answer.pyx`, and compiled like it."""

from adcore.request cimport Placement, Request

from server.delivery.context cimport Context, domain


# Shared by all requests, as the engine only reads them.
cdef list NONE = []
cdef dict NO_KEY_VALUES = {}


cpdef Request to_request(asked, Context context):
    """What the engine is asked: the caller's words and what the connection tells."""
    device, place, user = context.device, context.place, asked.user
    cdef Request request = Request.__new__(Request)
    request.placements = [_placement(placement) for placement in <list> asked.placements]
    request.country = place.country
    request.region = place.region
    request.metro = place.metro
    request.city = place.city
    request.device = device.device
    request.os = device.os
    request.browser = device.browser
    request.language = context.language
    request.domain = domain(asked.url)
    request.keywords = asked.keywords or NONE
    request.categories = NONE
    request.segments = NONE if user is None else _segments(user.segments)
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
