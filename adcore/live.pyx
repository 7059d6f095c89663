"""Which rows may serve at one second: flights, dayparts, pauses and stops, as one bitmap.

It is worked out every few minutes at most, so that a request pays one AND for all of it.
"""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy

from adcore.plan cimport LiveRows, Plan, Standing, _stopped
from adcore.tables cimport SETTINGS, SCHEDULES, ZONES, Settings, Schedule, Tables, _settings

from adcore.zones import hour_of_week

# Offsets from UTC are multiples of 15 minutes in every zone since 1972, so local hours start there.
cdef int64_t QUARTER_S = 900


# Its plan has its address until it is gone, so the collector must not take the plan away first; in
# no cycle, as neither plan nor index knows of it.
@cython.final
@cython.auto_pickle(False)
@cython.no_gc
cdef class Live:
    """Made by `Index.live`; exact for seconds in [valid_from_s, valid_until_s)."""

    def __init__(self):
        raise TypeError("made by Index.live")

    def __dealloc__(self):
        if self.plan is not None:
            self.plan.forget(&self.rows)
        PyMem_Free(self.bitmap)
        PyMem_Free(self.due)

    def stop(self, int64_t line_item_id):
        self._turn(line_item_id, True)

    def resume(self, int64_t line_item_id):
        self._turn(line_item_id, False)

    cdef int _turn(self, int64_t line_item_id, bint stop) except -1:
        found = self.index.rank_of(line_item_id)
        if found is None:
            raise KeyError(line_item_id)
        self.turn(found, stop)
        return 0

    cdef void turn(self, uint32_t rank, bint stop) noexcept:
        """Change the plan's bit, and those of the line's rows in every Live that has the plan."""
        cdef uint64_t bit = <uint64_t> 1 << (rank & 63)
        cdef uint32_t row_first = _row_first(self.tables, rank)
        cdef uint32_t row_end = _row_first(self.tables, rank + 1)
        cdef LiveRows* rows = self.plan.rows
        self.plan.changes += 1
        if stop:
            self.plan.standing.stopped[rank >> 6] |= bit
        else:
            self.plan.standing.stopped[rank >> 6] &= ~bit
        while rows != NULL:
            _show(rows, row_first, row_end, _stopped(&self.plan.standing, rank))
            rows = rows.following


cdef void _show(
    const LiveRows* rows, uint32_t row_first, uint32_t row_end, bint stopped
) noexcept nogil:
    """Let the rows of a line serve when they are due, unless it is stopped."""
    cdef uint32_t row
    cdef uint64_t bit
    for row in range(row_first, row_end):
        bit = <uint64_t> 1 << (row & 63)
        if stopped:
            rows.bitmap[row >> 6] &= ~bit
        else:
            rows.bitmap[row >> 6] |= rows.due[row >> 6] & bit


cdef uint32_t _row_first(const Tables* tables, uint32_t rank) noexcept nogil:
    """The first row that is not of a rank before this one."""
    cdef uint32_t low = 0, high = tables.row_count
    cdef uint32_t middle
    while low < high:
        middle = low + (high - low) // 2
        if tables.row_ranks[middle] < rank:
            low = middle + 1
        else:
            high = middle
    return low


cdef Live live_at(object index, const Tables* tables, int64_t now_s, Plan plan):
    cdef Live live = Live.__new__(Live)
    cdef bytes hours = _hours(tables, now_s)
    cdef const uint8_t* zone_hours = hours
    cdef uint32_t zone_count = <uint32_t> len(hours)
    cdef uint8_t* open_schedules
    cdef uint32_t changes
    cdef int64_t quarter_s = now_s // QUARTER_S * QUARTER_S
    if quarter_s > now_s:
        quarter_s -= QUARTER_S  # C rounds towards zero
    live.index = index
    live.tables = tables
    live.valid_from_s = quarter_s
    live.valid_until_s = quarter_s + QUARTER_S
    # One word and one byte more than needed, because an empty catalog needs none of them.
    live.bitmap = <uint64_t*> PyMem_Calloc(tables.row_words + 1, sizeof(uint64_t))
    live.due = <uint64_t*> PyMem_Calloc(tables.row_words + 1, sizeof(uint64_t))
    open_schedules = <uint8_t*> PyMem_Calloc(tables.counts[SCHEDULES] + 1, 1)
    if live.bitmap == NULL or live.due == NULL or open_schedules == NULL:
        PyMem_Free(open_schedules)
        raise MemoryError
    with nogil:
        _open_schedules(tables, zone_hours, zone_count, open_schedules)
        live.count = _serve(tables, open_schedules, now_s, live.due)
        _validity(tables, now_s, &live.valid_from_s, &live.valid_until_s)
    PyMem_Free(open_schedules)
    while True:
        changes = plan.changes
        with nogil:
            _fold(tables, &plan.standing, live.due, live.bitmap)
        # A stop that came meanwhile, from another thread, may have been missed.
        if plan.changes == changes:
            break
    live.plan = plan
    live.rows.bitmap = live.bitmap
    live.rows.due = live.due
    plan.follow(&live.rows)
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
    cdef const Settings* settings
    cdef uint32_t count = 0
    cdef uint32_t row
    cdef bint serves
    for row in range(tables.row_count):
        settings = _settings(tables, &tables.lines[tables.row_ranks[row]])
        serves = settings.start_s <= now_s < settings.end_s and open_schedules[settings.schedule]
        bitmap[row >> 6] |= <uint64_t> serves << (row & 63)
        count += serves
    return count


cdef void _fold(
    const Tables* tables, const Standing* standing, const uint64_t* due, uint64_t* bitmap
) noexcept nogil:
    """Take those out of the rows that are due whose line the plan has stopped."""
    cdef uint32_t row
    memcpy(bitmap, due, tables.row_words * sizeof(uint64_t))
    for row in range(tables.row_count):
        if _stopped(standing, tables.row_ranks[row]):
            bitmap[row >> 6] &= ~(<uint64_t> 1 << (row & 63))


cdef void _validity(
    const Tables* tables, int64_t now_s, int64_t* from_s, int64_t* until_s
) noexcept nogil:
    """Narrow the range down to where no flight starts or ends."""
    cdef const Settings* settings
    cdef uint32_t number
    for number in range(tables.counts[SETTINGS]):
        settings = &tables.settings[number]
        if settings.start_s > now_s:
            until_s[0] = min(until_s[0], settings.start_s)
        else:
            from_s[0] = max(from_s[0], settings.start_s)
        if settings.end_s > now_s:
            until_s[0] = min(until_s[0], settings.end_s)
        else:
            from_s[0] = max(from_s[0], settings.end_s)
