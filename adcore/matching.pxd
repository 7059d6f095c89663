# Which rows a request satisfies, a block of rows at a time.

from libc.stdint cimport uint32_t, uint64_t

from adcore.limits cimport COLUMNS_MAX, REQUEST_FEATURES_MAX
from adcore.tables cimport Tables

cdef enum:
    # The first blocks are one cache line of each bitmap, because the best rows are at the front;
    # later ones are larger, to pay for a block's fixed costs less often. Measured: targeting.md 3.
    SMALL_BLOCKS = 4
    MATCH_WORDS_MAX = 64
    # A select plans for the small blocks first, from those values only that a row in them names:
    # most have no other. 2 to 4 blocks is where 10 winners of ADS-A are.
    FRONT_ROWS = SMALL_BLOCKS * 512
    # What a column's postings name is put together for so many words at once: first for a block,
    # then for more and more. At most 8 KiB, so that the windows of a few columns stay in L1.
    WINDOW_WORDS_MAX = 1024
    WINDOW_GROWTH = 4

# A posting that takes part in the current plan.
cdef struct Cursor:
    const uint32_t* row     # of a list: the first that is not yet in a window
    const uint32_t* row_end
    const uint64_t* bitmap  # NULL: a list

# A column that must be put together from postings.
cdef struct Mixed:
    const uint64_t* base
    uint64_t* turned        # words [word, word_end) of the rows that the postings name
    uint32_t word
    uint32_t word_end
    uint32_t words          # of the next window
    Cursor* cursor          # those from here to the end have rows after the window
    Cursor* cursor_end
    uint64_t expected_rows

cdef struct Matcher:
    const Tables* tables
    const uint64_t* live
    const uint32_t* features                # of the request
    uint32_t feature_count
    uint32_t word_end                       # the plan is for the words before this one
    const uint64_t* plain[COLUMNS_MAX + 1]  # bitmaps to AND as they are; the live bitmap is first
    Mixed mixed[COLUMNS_MAX]                # fewest expected rows first
    uint32_t plain_count
    uint32_t mixed_count
    uint32_t window_words                   # of each column's first window
    uint32_t cursor_ends[COLUMNS_MAX]       # of each column's cursors, and where the next one's are
    uint32_t row_counts[COLUMNS_MAX]        # of each column's postings
    uint32_t near[REQUEST_FEATURES_MAX]     # features that name a row that is planned for
    uint32_t* postings                      # of these
    Cursor* cursors                         # of the same, side by side by column
    uint64_t* turned                        # each column's window

cdef void _plan(
    Matcher* matcher, const Tables* tables, const uint64_t* live,
    const uint32_t* features, uint32_t feature_count, bint to_the_end) noexcept nogil
cdef bint _match(Matcher* matcher, uint32_t word, uint32_t words, uint64_t* rows) noexcept nogil
