from libc.stdint cimport int64_t, uint32_t, uint64_t

from adcore.plan cimport LiveRows, Plan
from adcore.tables cimport Tables

cdef class Live:
    cdef uint64_t* bitmap   # what serves: due, and not stopped
    cdef uint64_t* due      # what would serve at this second if nothing were stopped
    cdef LiveRows rows      # the same two, as the plan knows them
    cdef const Tables* tables
    cdef readonly Plan plan
    cdef readonly object index
    cdef readonly int64_t valid_from_s
    cdef readonly int64_t valid_until_s
    cdef readonly uint32_t count

    cdef int _turn(self, int64_t line_item_id, bint stop) except -1
    cdef void turn(self, uint32_t rank, bint stop) noexcept

cdef Live live_at(object index, const Tables* tables, int64_t now_s, Plan plan)
