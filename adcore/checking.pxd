# What a row demands, read from the row itself: its terms, and the checks that no column knows of.

from libc.stdint cimport uint32_t

from adcore.choosing cimport Choice
from adcore.tables cimport Tables

cdef void _mark(Choice* choice) noexcept nogil
cdef void _unmark(Choice* choice) noexcept nogil
cdef const uint32_t* _terms(const Tables* tables, uint32_t row) noexcept nogil
cdef const uint32_t* _behind_terms(const uint32_t* term) noexcept nogil
cdef bint _terms_hold(const Choice* choice, const uint32_t* term) noexcept nogil
cdef bint _checks_hold(const Choice* choice, uint32_t row) noexcept nogil
cdef uint32_t _failing_space(const Choice* choice, uint32_t row, uint32_t* space) noexcept nogil
