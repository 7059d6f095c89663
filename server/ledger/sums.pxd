from libc.stdint cimport int64_t

cdef enum:
    MEASURE_COUNT = 160


cdef class Sums:
    cdef dict cells

    cdef Cell of(self, hour, line_item_id, creative_id, site_id)


cdef class Cell:
    cdef int64_t[MEASURE_COUNT] sums

    cdef int add(self, int number, int64_t amount) except -1
