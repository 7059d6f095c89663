"""Which rows may serve at one second: flights, dayparts and pauses, as one bitmap.

It is worked out every few minutes at most, so that a request pays one AND for all of it.
"""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from adcore.tables cimport DEALS, SCHEDULES, ZONES, Deal, Schedule, Tables, _deal

from adcore.zones import hour_of_week

# Offsets from UTC are multiples of 15 minutes in every zone since 1972, so local hours start there.
cdef int64_t QUARTER_S = 900


@cython.final
@cython.auto_pickle(False)
cdef class Live:
    """Made by `Index.live`; exact for seconds in [valid_from_s, valid_until_s)."""

    def __init__(self):
        raise TypeError("made by Index.live")

    def __dealloc__(self):
        PyMem_Free(self.bitmap)


cdef Live live_at(object index, const Tables* tables, int64_t now_s):
    cdef Live live = Live.__new__(Live)
    cdef bytes hours = _hours(tables, now_s)
    cdef const uint8_t* zone_hours = hours
    cdef uint32_t zone_count = <uint32_t> len(hours)
    cdef uint8_t* open_schedules
    cdef int64_t quarter_s = now_s // QUARTER_S * QUARTER_S
    if quarter_s > now_s:
        quarter_s -= QUARTER_S  # C rounds towards zero
    live.index = index
    live.valid_from_s = quarter_s
    live.valid_until_s = quarter_s + QUARTER_S
    # One word and one byte more than needed, because an empty catalog needs none of them.
    live.bitmap = <uint64_t*> PyMem_Calloc(tables.row_words + 1, sizeof(uint64_t))
    open_schedules = <uint8_t*> PyMem_Calloc(tables.counts[SCHEDULES] + 1, 1)
    if live.bitmap == NULL or open_schedules == NULL:
        PyMem_Free(open_schedules)
        raise MemoryError
    with nogil:
        _open_schedules(tables, zone_hours, zone_count, open_schedules)
        live.count = _serve(tables, open_schedules, now_s, live.bitmap)
        _validity(tables, now_s, &live.valid_from_s, &live.valid_until_s)
    PyMem_Free(open_schedules)
    return live


cdef bytes _hours(const Tables* tables, int64_t now_s):
    """Work out the hour of the week of every zone, a byte each."""
    cdef bytes names = tables.zones[:tables.counts[ZONES]]
    return bytes([hour_of_week(name, now_s) for name in names.decode().split("\n") if name])


cdef void _open_schedules(
    const Tables* tables, const uint8_t* zone_hours, uint32_t zone_count, uint8_t* open_
) noexcept nogil:
    cdef const Schedule* schedule
    cdef uint32_t number
    cdef uint8_t hour
    for number in range(tables.counts[SCHEDULES]):
        schedule = &tables.schedules[number]
        if schedule.zone < zone_count:
            hour = zone_hours[schedule.zone]
            open_[number] = schedule.hours[hour >> 6] >> (hour & 63) & 1


cdef uint32_t _serve(
    const Tables* tables, const uint8_t* open_schedules, int64_t now_s, uint64_t* bitmap
) noexcept nogil:
    cdef const Deal* deal
    cdef uint32_t count = 0
    cdef uint32_t row
    cdef bint serves
    for row in range(tables.row_count):
        deal = _deal(tables, &tables.lines[tables.row_ranks[row]])
        serves = deal.start_s <= now_s < deal.end_s and open_schedules[deal.schedule]
        bitmap[row >> 6] |= <uint64_t> serves << (row & 63)
        count += serves
    return count


cdef void _validity(
    const Tables* tables, int64_t now_s, int64_t* from_s, int64_t* until_s
) noexcept nogil:
    """Narrow the range down to where no flight starts or ends."""
    cdef const Deal* deal
    cdef uint32_t number
    for number in range(tables.counts[DEALS]):
        deal = &tables.deals[number]
        if deal.start_s > now_s:
            until_s[0] = min(until_s[0], deal.start_s)
        else:
            from_s[0] = max(from_s[0], deal.start_s)
        if deal.end_s > now_s:
            until_s[0] = min(until_s[0], deal.end_s)
        else:
            from_s[0] = max(from_s[0], deal.end_s)
