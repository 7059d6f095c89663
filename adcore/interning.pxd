# Text of the request to feature numbers: one open-addressing table over bytes, inside the buffer.

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from adcore.tables cimport Tables

cdef enum:
    UNKNOWN = 0xFFFFFFFF  # no feature: the catalog never mentions the value

cdef uint64_t _hash(uint32_t space, const uint8_t* text, uint32_t size) noexcept nogil
cdef uint32_t _feature(
    const Tables* tables, uint32_t space, const uint8_t* text, uint32_t size) noexcept nogil
cdef uint32_t _feature_folded(
    const Tables* tables, uint32_t space, const uint8_t* text, uint32_t size) noexcept nogil
