# Records in the order of booking become the sections of a compiled catalog.

from libc.stdint cimport uint8_t, uint32_t

from adcore.booking cimport Booking
from adcore.columns cimport Columns
from adcore.numbering cimport Numbering
from adcore.tables cimport SECTION_COUNT
from adcore.targeting cimport Rows

cdef class Assembly:
    cdef Booking booking
    cdef Rows rows
    cdef Numbering numbering
    cdef Columns columns
    cdef readonly uint32_t row_count
    cdef uint32_t line_count, term_count, group_count, tier_count, checked_count
    cdef uint32_t row_words
    cdef uint32_t* order            # rank -> line, in the order of booking
    cdef uint32_t* row_sources      # row -> row in the order of booking
    cdef uint32_t* term_firsts
    cdef uint32_t* terms
    cdef char* sections[SECTION_COUNT]

    cdef int _rank(self) except -1
    cdef void _place_rows(self) noexcept nogil
    cdef void _fill_lines(self) noexcept nogil
    cdef void _fill_rows(self) noexcept nogil
    cdef void _write_slots(self, uint32_t* slots) noexcept nogil
    cdef void _write_terms(self, uint32_t* firsts, uint32_t* terms) noexcept nogil
    cdef void _fill_checks(self) noexcept nogil
    cdef size_t _write_predicates(self, uint32_t* places, uint8_t* to) noexcept nogil
