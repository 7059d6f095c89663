"""Row by row, as it was booked: slow, obvious, and independent of columns, bitmaps and blocks.

The index answers for all rows at once, from what columns and postings say; this reads the terms of
one row after another. Both must agree on every row, which is what tests, the soak and the shadow
check hold them to. What they share is the table of values and the checks.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from adcore.bits cimport SPREAD_MORE, _spread
from adcore.checking cimport _behind_terms, _checks_hold, _mark, _terms, _terms_hold, _unmark
from adcore.choosing cimport Choice
from adcore.matching cimport MATCH_WORDS_MAX, _match
from adcore.tables cimport BLOCK_WORDS, CHECKED_ROWS, Tables

cdef extern from *:
    int _lowest_bit "__builtin_ctzll"(unsigned long long bits) noexcept nogil
    int _bit_count "__builtin_popcountll"(unsigned long long bits) noexcept nogil

cdef enum:
    NO_LINE = 0xFFFFFFFF


cdef void _scan(
    const Choice* choice, const uint64_t* live, uint32_t word, uint32_t words, uint64_t* rows
) noexcept nogil:
    """Fill `rows` with words [word, word + words) of the rows that are live and hold."""
    cdef const uint32_t* term = _terms(choice.tables, word * 64)
    cdef uint32_t row
    memset(rows, 0, words * sizeof(uint64_t))
    for row in range(word * 64, min((word + words) * 64, choice.tables.row_count)):
        if live[row >> 6] >> (row & 63) & 1 and _terms_hold(choice, term) \
                and _checks_hold(choice, row):
            rows[(row >> 6) - word] |= <uint64_t> 1 << (row & 63)
        term = _behind_terms(term)


cdef void _matched(
    Choice* choice, const uint64_t* live, uint32_t word, uint32_t words, uint64_t* rows
) noexcept nogil:
    """Fill `rows` with the same from the index, whose plan is made; `word` must not fall."""
    cdef uint32_t place, row
    cdef uint64_t bits
    if not _match(&choice.matcher, word, words, rows):
        memset(rows, 0, words * sizeof(uint64_t))
    if not choice.tables.counts[CHECKED_ROWS]:
        return
    for place in range(words):
        bits = rows[place]
        while bits:
            row = (word + place) * 64 + <uint32_t> _lowest_bit(bits)
            if not _checks_hold(choice, row):
                rows[place] &= ~(bits & -bits)
            bits &= bits - 1


cdef void _number_rows(const Tables* tables, uint32_t* row_lines) noexcept nogil:
    """Fill in the line of each row, and anything for the padding behind the last."""
    cdef uint32_t row
    for row in range(tables.row_count):
        row_lines[row] = tables.lines[tables.row_ranks[row]].line
    memset(row_lines + tables.row_count, 0,
           (<size_t> tables.row_words * 64 - tables.row_count) * sizeof(uint32_t))


cdef uint32_t _matching_lines(
    Choice* choice, const uint64_t* live, const uint32_t* row_lines, bint by_rows
) noexcept nogil:
    """Write the numbers of lines with a matching row to `candidates`, in rank order; their count.

    By rows, or by the index.
    """
    cdef uint64_t[MATCH_WORDS_MAX] rows
    cdef uint32_t[MATCH_WORDS_MAX * 64 + SPREAD_MORE] numbers
    cdef uint32_t count = 0, word = 0
    cdef uint32_t words, place, line
    cdef uint32_t line_before = NO_LINE
    cdef bint marked = by_rows or choice.tables.checks_values
    if marked:
        _mark(choice)
    while word < choice.tables.row_words:
        words = min(<uint32_t> MATCH_WORDS_MAX, choice.tables.row_words - word)
        if by_rows:
            _scan(choice, live, word, words, rows)
        else:
            _matched(choice, live, word, words, rows)
        # The rows of a line are adjacent. Whether a number is kept or written over is no branch,
        # because nobody could foretell it; there is room for one number more than there are lines.
        for place in range(_spread(rows, words, word * 64, numbers)):
            line = row_lines[numbers[place]]
            choice.candidates[count] = line
            count += line != line_before
            line_before = line
        word += words
    if marked:
        _unmark(choice)
    return count


cdef uint32_t _differences(
    Choice* choice, const uint64_t* live, uint32_t word_first, uint32_t word_count
) noexcept nogil:
    """Count the rows on which the index and the scan disagree, in the blocks from a word on."""
    cdef uint64_t[MATCH_WORDS_MAX] rows
    cdef uint64_t[MATCH_WORDS_MAX] expected
    cdef uint32_t differences = 0
    cdef uint32_t word = min(word_first, choice.tables.row_words) // BLOCK_WORDS * BLOCK_WORDS
    cdef uint32_t word_end = word + min(word_count, choice.tables.row_words - word)
    cdef uint32_t words, place
    _mark(choice)
    while word < word_end:
        words = min(<uint32_t> MATCH_WORDS_MAX, choice.tables.row_words - word)
        _matched(choice, live, word, words, rows)
        _scan(choice, live, word, words, expected)
        for place in range(words):
            differences += _bit_count(rows[place] ^ expected[place])
        word += words
    _unmark(choice)
    return differences
