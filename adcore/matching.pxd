# Which rows a request satisfies, a block of rows at a time.

from libc.stdint cimport uint32_t, uint64_t

from adcore.limits cimport COLUMNS_MAX
from adcore.tables cimport Tables

cdef enum:
    # The first blocks are one cache line of each bitmap, because the best rows are at the front;
    # later ones are larger, to pay for a block's fixed costs less often. Measured: targeting.md 3.
    SMALL_BLOCKS = 4
    MATCH_WORDS_MAX = 64

# A posting that takes part in the current plan.
cdef struct Cursor:
    const uint32_t* row
    const uint32_t* row_end
    const uint64_t* bitmap  # NULL: a list
    uint32_t following      # of the same column; END: none

# A column that must be put together from postings.
cdef struct Mixed:
    const uint64_t* base
    uint32_t cursor_first
    uint64_t expected_rows

cdef struct Matcher:
    const uint64_t* plain[COLUMNS_MAX + 1]  # bitmaps to AND as they are; the live bitmap is first
    Mixed mixed[COLUMNS_MAX]                # fewest expected rows first
    uint32_t plain_count
    uint32_t mixed_count
    uint32_t column_cursors[COLUMNS_MAX]
    uint32_t column_counts[COLUMNS_MAX]
    Cursor* cursors

cdef void _plan(
    Matcher* matcher, const Tables* tables, const uint64_t* live,
    const uint32_t* features, uint32_t feature_count) noexcept nogil
cdef bint _match(Matcher* matcher, uint32_t word, uint32_t words, uint64_t* rows) noexcept nogil
