# Targeting expressions become rows: numbers of predicates, and numeric ranges.

from libc.stdint cimport uint8_t, uint32_t

from adcore.limits cimport PREDICATES_MAX, VALUE_BYTES_MAX
from adcore.numbering cimport Numbering
from adcore.tables cimport Range
from adcore.vector cimport Vector

# A predicate of the row under construction.
cdef struct Part:
    uint32_t predicate
    uint32_t subject        # its space, which a key-value shares with no other key
    bint negated
    uint32_t value_count

cdef class Rows:
    cdef Numbering numbering
    cdef Vector term_ends           # uint32 per row, in the order of booking
    cdef Vector terms               # uint32 predicate numbers
    cdef Vector check_ends          # uint32 per row
    cdef Vector checks              # uint32, see tables.Check
    cdef Vector ranges              # Range
    cdef Part parts[PREDICATES_MAX]
    cdef uint32_t part_count
    cdef Range bounded[PREDICATES_MAX]  # ranges of the row under construction
    cdef uint32_t bounded_count
    cdef Vector values              # uint32: features of the predicate under construction
    cdef uint8_t text[VALUE_BYTES_MAX]

    cdef uint32_t count(self) noexcept
    cdef int add(self, object expression) except -1
    cdef int _simple(self, object expression) except -1
    cdef int _leaf(self, object leaf) except -1
    cdef int _bounded(self, object leaf) except -1
    cdef bint _is_bounded(self, uint32_t space) noexcept
    cdef int _values(self, uint32_t space, tuple listed) except -1
    cdef int _value(self, uint32_t space, object value, uint32_t* feature) except -1
    cdef int _keep(self, uint32_t space, bint negated) except -1
    cdef uint32_t _collect(self, object among) except? 0xFFFFFFFF
    cdef int _normalised(self, object expression) except -1
    cdef int _check(self, object check) except -1
    cdef int _range(self, const Range* range_) except -1
    cdef int _end_row(self) except -1
