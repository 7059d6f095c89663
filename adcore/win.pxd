# What `Index.select` gives.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef class Win:
    cdef readonly uint32_t line
    cdef readonly uint32_t ad
    cdef readonly int64_t line_item_id
    cdef readonly int64_t creative_id
    cdef readonly uint32_t priority
    cdef readonly int64_t ecpm_micros
    cdef readonly int64_t clear_price_micros
    cdef readonly int64_t clear_ecpm_micros
    # The caller's: what it reserved for this win. The engine gives 0 and never looks at it.
    cdef readonly uint64_t lease
