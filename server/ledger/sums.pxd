from libc.stdint cimport int64_t

cdef enum:
    MEASURE_COUNT = 160
    SPENT_COUNT = 4  # the last is what it cost


cdef class Sums:
    cdef dict cells

    cdef Cell of(self, hour, line_item_id, creative_id, site_id)


cdef class Cell:
    cdef int64_t[MEASURE_COUNT] sums

    cdef int add(self, int number, int64_t amount) except -1


cdef class Spending:
    cdef dict cells

    cdef int add(self, int64_t of, line_item_id, int number, int64_t revenue_nanos) except -1


cdef class SpentCell:
    cdef int64_t[SPENT_COUNT] sums
