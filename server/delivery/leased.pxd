from libc.stdint cimport int64_t, uint32_t, uint64_t

from adcore.index cimport Index
from adcore.live cimport Live
from adcore.plan cimport Standing

from server.delivery.leasing cimport LeaseTable

cdef class LeasedLines:
    cdef readonly uint32_t count
    cdef uint32_t line_count
    cdef object kept
    cdef const uint64_t* ids        # of line items, in order: a place each
    cdef uint32_t* ranks            # by place
    cdef uint32_t* slots            # by place
    cdef uint32_t* places           # by line
    cdef LeaseTable table
    cdef uint64_t version           # of the table, when slots were looked up

    cdef uint32_t _place(self, uint64_t line_item_id) noexcept nogil
    cdef void _find_slots(self, LeaseTable table) noexcept nogil
    cdef uint32_t _differing(
        self, const Standing* standing, uint64_t window, uint32_t* place, uint32_t* found
    ) noexcept nogil
    cdef uint64_t take(self, uint32_t place, uint64_t window) noexcept nogil
    cdef void give_back(self, uint32_t place, uint64_t window) noexcept nogil
    cdef uint64_t window(self, int64_t monotonic_ns) noexcept nogil

cdef enum:
    NO_PLACE = 0xFFFFFFFF

cdef inline uint32_t _place_of(LeasedLines leased, uint32_t line) noexcept nogil:
    """The place of a line, as `Win` has it, or NO_PLACE: it needs no lease."""
    return leased.places[line] if line < leased.line_count else <uint32_t> NO_PLACE
