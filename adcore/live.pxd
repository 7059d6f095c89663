from libc.stdint cimport int64_t, uint32_t, uint64_t

from adcore.tables cimport Tables

cdef class Live:
    cdef uint64_t* bitmap
    cdef readonly object index
    cdef readonly int64_t valid_from_s
    cdef readonly int64_t valid_until_s
    cdef readonly uint32_t count

cdef Live live_at(object index, const Tables* tables, int64_t now_s)
