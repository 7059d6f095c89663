from libc.stdint cimport int64_t, uint64_t

from adcore.index cimport Index

cdef enum:
    BOUNDS_MAX = 32  # buckets of the latency histogram; `metrics.py` has 17

cdef class Tally:
    cdef uint64_t[::1] slots
    cdef uint64_t[::1] of_main
    cdef Py_ssize_t stopping
    cdef dict first_of_route    # by path; the statuses follow in their order
    cdef Py_ssize_t first_of_page, first_of_other
    cdef dict place_of_status
    cdef dict bad_request_slots, log_slots
    cdef Py_ssize_t rows_looked_at  # the outcomes follow in their order
    cdef Py_ssize_t shadow_agrees, shadow_differs
    cdef Py_ssize_t filled, no_fill, no_snapshot, cleared, latency, bound_count
    cdef int64_t[BOUNDS_MAX] bounds_ns

    cpdef request(self, str path, int status)
    cpdef bad_request(self, str reason)
    cpdef decided(self, list placements, list wins, int64_t duration_ns)
    cpdef sold(self, list wins)
    cdef void looked(self, Index index) noexcept
    cpdef shadowed(self, bint agrees)
    cpdef logged(self, str result)
    cpdef bint draining(self)
