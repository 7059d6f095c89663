# What a row demands, read from the row itself: its terms, and the checks that no column knows of.

from libc.stdint cimport uint32_t

from adcore.choosing cimport Choice

cdef void _mark(Choice* choice) noexcept nogil
cdef void _unmark(Choice* choice) noexcept nogil
cdef bint _terms_hold(const Choice* choice, uint32_t row) noexcept nogil
cdef bint _checks_hold(const Choice* choice, uint32_t row) noexcept nogil
cdef uint32_t _failing_space(const Choice* choice, uint32_t row, uint32_t* space) noexcept nogil
