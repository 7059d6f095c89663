# Rows become columns, features and postings.

from libc.stdint cimport uint32_t, uint64_t

from adcore.limits cimport COLUMNS_MAX
from adcore.numbering cimport Distinct, Numbering
from adcore.vector cimport Vector

# The rows of one column that name one feature.
cdef struct Named:
    uint32_t feature
    uint32_t row_count
    uint32_t best_row       # the first; 0 where it will be a bitmap
    bint dense

cdef class Columns:
    cdef Numbering numbering
    cdef Vector names               # Named, column by column
    cdef uint32_t count, row_count, term_count, feature_count
    cdef uint32_t bitmap_count      # over and above the columns' bases
    cdef uint64_t listed_rows       # of postings that are lists
    cdef uint32_t row_words
    cdef uint32_t* rows             # of each term, column by column
    cdef uint32_t* predicates
    cdef uint32_t* counters         # one a feature, and so the two that follow
    cdef uint32_t* touched          # whose counter is not zero, in one column
    cdef uint32_t* best_rows        # the first row of each of those
    cdef uint32_t* posting_next
    cdef uint32_t firsts[COLUMNS_MAX + 1]           # in rows
    cdef uint32_t name_firsts[COLUMNS_MAX + 1]      # in names
    cdef uint32_t spaces[COLUMNS_MAX]

    cdef int measure(
        self, Numbering numbering, const uint32_t* term_firsts, const uint32_t* terms,
        uint32_t row_count, uint32_t row_words) except -1
    cdef void fill(self, char** sections) noexcept nogil
    cdef void _deal(self, const uint32_t* term_firsts, const uint32_t* terms) noexcept nogil
    cdef uint32_t _column_of(
        self, const uint32_t* terms, uint32_t place, uint32_t* used) noexcept nogil
    cdef int _name(self) except -1
    cdef const Distinct* _predicate_at(self, uint32_t place) noexcept nogil
    cdef void _fill_column(
        self, char** sections, uint32_t column, uint32_t* bitmap_next, uint64_t* row_next
    ) noexcept nogil
    cdef uint32_t _fill_base(self, uint32_t column, uint64_t* base) noexcept nogil
    cdef void _fill_names(
        self, uint32_t column, uint64_t* bitmaps, uint32_t* posting_rows) noexcept nogil
