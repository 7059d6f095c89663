# Row by row, as it was booked: slow, obvious, and independent of columns, bitmaps and blocks.

from libc.stdint cimport uint32_t, uint64_t

from adcore.choosing cimport Choice
from adcore.tables cimport Tables

cdef void _number_rows(const Tables* tables, uint32_t* row_lines) noexcept nogil
cdef uint32_t _matching_lines(
    Choice* choice, const uint64_t* live, const uint32_t* row_lines, bint by_rows) noexcept nogil
cdef uint32_t _differences(
    Choice* choice, const uint64_t* live, uint32_t word_first, uint32_t word_count) noexcept nogil
