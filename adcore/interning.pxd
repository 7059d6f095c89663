# Text of the request to feature numbers: one open-addressing table over bytes, inside the buffer.

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from adcore.limits cimport VALUE_BYTES_MAX
from adcore.tables cimport Tables

cdef enum:
    UNKNOWN = 0xFFFFFFFF  # no feature: the catalog never mentions the value
    BATCH_MAX = 32        # look-ups under way at once: more misses than a core can have in flight

cdef struct Lookup:
    uint64_t hashed
    uint32_t space
    uint32_t word_first  # in the batch's texts
    uint32_t text_bytes
    uint32_t feature     # what the slot says, until the text says otherwise

# Values waiting to be looked up together, so that their cache misses overlap.
cdef struct Batch:
    Lookup lookups[BATCH_MAX]
    uint32_t count
    uint32_t word_count
    uint64_t texts[BATCH_MAX * VALUE_BYTES_MAX >> 3]  # folded; the last word of each has zeros

cdef uint64_t _hash(uint32_t space, const uint8_t* text, uint32_t size) noexcept nogil
cdef uint32_t _feature(
    const Tables* tables, uint32_t space, const uint8_t* text, uint32_t size) noexcept nogil
cdef void _enqueue(
    Batch* batch, const Tables* tables, uint32_t space, const uint8_t* text, uint32_t size,
    bint folded) noexcept nogil
cdef uint32_t _resolve(Batch* batch, const Tables* tables, uint32_t* features) noexcept nogil
