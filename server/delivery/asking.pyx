"""From Kevel's words to the engine's: the other end of `answer.pyx`, and compiled like it."""

from server.delivery.context cimport Context, domain

from adcore.request import Placement, Request

# Shared by all requests, as the engine only reads them.
cdef list NONE = []
cdef dict NO_KEY_VALUES = {}


def to_request(asked not None, Context context not None):
    """What the engine is asked: the caller's words and what the connection tells."""
    device, place, user = context.device, context.place, asked.user
    cdef list segments = None if user is None else user.segments
    cdef list placements = [_placement(placement) for placement in <list> asked.placements]
    return Request(
        placements,
        place.country,
        place.region,
        place.metro,
        place.city,
        device.device,
        device.os,
        device.browser,
        context.language,
        domain(asked.url),
        None,  # the connection's type: no header tells it
        asked.keywords or NONE,
        NONE,  # categories
        NONE if segments is None else [
            segment if isinstance(segment, str) else str(segment) for segment in segments
        ],
        NO_KEY_VALUES,
        asked.blocked_creatives or NONE,
    )


cdef _placement(asked):
    floor = asked.floor_price
    cdef dict properties = asked.properties
    if properties is not None and _has_none(properties):
        properties = {key: value for key, value in properties.items() if value is not None}
    return Placement(
        asked.div_name,
        asked.site_id or 0,
        asked.zone_ids or NONE,
        asked.ad_types or NONE,
        asked.count or 1,
        # To the nearest micro: 1.1 is not a binary fraction, and 1.10 must pass a floor of 1.1.
        round(floor * 1_000_000) if floor else 0,
        NO_KEY_VALUES if properties is None else properties,
    )


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
