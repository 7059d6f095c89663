"""Which rows a request satisfies, a block of rows at a time.

Every column holds at most one predicate of a row, and its base bitmap says whether the row passes
a request with none of that predicate's values: an include fails, an exclude passes, and so does a
row without a predicate here. The values of the request that a predicate names turn the row's bit
over, once. So a column's rows are `base xor (union of the values' postings)`, and the request's
rows are the AND over columns. That holds for every dimension and for key-values, whose features
are (key, value).

Cheap columns come first: those without a posting of the request's values, and those with just one
that is a bitmap, are single ANDs. The others are put together only for blocks still alive.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from adcore.tables cimport BLOCK_WORDS, COLUMNS, Feature, Posting, Tables

cdef extern from *:
    # What the first block needs is fetched while the plan is made.
    void _prefetch "__builtin_prefetch"(const void* place) noexcept nogil

cdef enum:
    END = 0xFFFFFFFF


cdef void _plan(
    Matcher* matcher, const Tables* tables, const uint64_t* live,
    const uint32_t* features, uint32_t feature_count
) noexcept nogil:
    cdef uint32_t column_count = tables.counts[COLUMNS]
    cdef uint32_t cursor_count = 0
    cdef uint32_t place, number, column
    cdef const Feature* feature
    cdef const Posting* posting
    cdef Cursor* cursor
    for column in range(column_count):
        matcher.column_cursors[column] = END
        matcher.column_counts[column] = 0
    for place in range(feature_count):
        feature = &tables.features[features[place]]
        for number in range(feature.posting_count):
            posting = &tables.postings[feature.posting_first + number]
            cursor = &matcher.cursors[cursor_count]
            if posting.bitmap:
                cursor.bitmap = tables.bitmaps + <uint64_t> posting.bitmap * tables.row_words
                _prefetch(cursor.bitmap)
            else:
                cursor.bitmap = NULL
                cursor.row = tables.posting_rows + posting.row_first
                cursor.row_end = cursor.row + posting.row_count
                _prefetch(cursor.row)
            cursor.following = matcher.column_cursors[posting.column]
            matcher.column_cursors[posting.column] = cursor_count
            matcher.column_counts[posting.column] += posting.row_count
            cursor_count += 1
    matcher.plain[0] = live
    matcher.plain_count = 1
    matcher.mixed_count = 0
    for column in range(column_count):
        _plan_column(matcher, tables, column)


cdef inline void _plan_column(
    Matcher* matcher, const Tables* tables, uint32_t column
) noexcept nogil:
    cdef const uint64_t* base = tables.bitmaps + <uint64_t> column * tables.row_words
    cdef uint32_t first = matcher.column_cursors[column]
    cdef uint64_t expected_rows
    cdef uint32_t place
    _prefetch(base)
    if first == END:
        # A base without a zero, as of a column of excludes, rules nothing out.
        if tables.columns[column].base_count < tables.row_count:
            matcher.plain[matcher.plain_count] = base
            matcher.plain_count += 1
        return
    if matcher.cursors[first].bitmap != NULL and matcher.cursors[first].following == END:
        matcher.plain[matcher.plain_count] = matcher.cursors[first].bitmap
        matcher.plain_count += 1
        return
    expected_rows = <uint64_t> tables.columns[column].base_count + matcher.column_counts[column]
    place = matcher.mixed_count
    while place and matcher.mixed[place - 1].expected_rows > expected_rows:
        matcher.mixed[place] = matcher.mixed[place - 1]
        place -= 1
    matcher.mixed[place].base = base
    matcher.mixed[place].cursor_first = first
    matcher.mixed[place].expected_rows = expected_rows
    matcher.mixed_count += 1


cdef bint _match(Matcher* matcher, uint32_t word, uint32_t words, uint64_t* rows) noexcept nogil:
    """Fill `rows` with words [word, word + words), both multiples of BLOCK_WORDS; false: all zero.

    Within one plan `word` must not fall, because lists are read once, front to back.
    """
    cdef uint64_t[MATCH_WORDS_MAX] turned
    cdef uint32_t number
    cdef const uint64_t* base
    memcpy(rows, matcher.plain[0] + word, words * sizeof(uint64_t))
    for number in range(1, matcher.plain_count):
        _keep(rows, matcher.plain[number] + word, words)
    for number in range(matcher.mixed_count):
        if not _any(rows, words):
            return False
        base = matcher.mixed[number].base + word
        if _turn(matcher, matcher.mixed[number].cursor_first, base, word, words, turned):
            _keep_turned(rows, base, turned, words)
        else:
            _keep(rows, base, words)
    return _any(rows, words)


# Whole blocks, because a loop of fixed length becomes straight vector code.


cdef inline void _keep(uint64_t* rows, const uint64_t* bitmap, uint32_t words) noexcept nogil:
    cdef uint32_t _block, step
    for _block in range(words // BLOCK_WORDS):
        for step in range(<uint32_t> BLOCK_WORDS):
            rows[step] &= bitmap[step]
        rows += BLOCK_WORDS
        bitmap += BLOCK_WORDS


cdef inline void _keep_turned(
    uint64_t* rows, const uint64_t* base, const uint64_t* turned, uint32_t words
) noexcept nogil:
    cdef uint32_t _block, step
    for _block in range(words // BLOCK_WORDS):
        for step in range(<uint32_t> BLOCK_WORDS):
            rows[step] &= base[step] ^ turned[step]
        rows += BLOCK_WORDS
        base += BLOCK_WORDS
        turned += BLOCK_WORDS


cdef inline bint _any(const uint64_t* rows, uint32_t words) noexcept nogil:
    cdef uint64_t found = 0
    cdef uint32_t _block, step
    for _block in range(words // BLOCK_WORDS):
        for step in range(<uint32_t> BLOCK_WORDS):
            found |= rows[step]
        rows += BLOCK_WORDS
    return found != 0


cdef bint _turn(
    Matcher* matcher, uint32_t number, const uint64_t* base,
    uint32_t word, uint32_t words, uint64_t* turned
) noexcept nogil:
    """Fill `turned` with the rows that a column's postings name; false: there are none."""
    cdef uint32_t row_first = word * 64
    cdef uint32_t row_end = (word + words) * 64
    cdef bint touched = False
    cdef Cursor* cursor
    cdef const uint32_t* row
    cdef uint32_t place
    while number != END:
        cursor = &matcher.cursors[number]
        number = cursor.following
        if cursor.bitmap != NULL:
            if not touched:
                memset(turned, 0, words * sizeof(uint64_t))
                touched = True
            for place in range(words):
                turned[place] |= cursor.bitmap[word + place] ^ base[place]
            continue
        row = _gallop(cursor.row, cursor.row_end, row_first)
        if row < cursor.row_end and row[0] < row_end:
            if not touched:
                memset(turned, 0, words * sizeof(uint64_t))
                touched = True
            while row < cursor.row_end and row[0] < row_end:
                turned[(row[0] - row_first) >> 6] |= <uint64_t> 1 << (row[0] & 63)
                row += 1
        cursor.row = row
    return touched


cdef inline const uint32_t* _gallop(
    const uint32_t* row, const uint32_t* row_end, uint32_t wanted
) noexcept nogil:
    """Return the first place with a row not below `wanted`: doubling steps, then halving."""
    cdef Py_ssize_t step = 1
    cdef const uint32_t* high
    cdef const uint32_t* middle
    if row == row_end or row[0] >= wanted:
        return row
    # row[0] < wanted holds from here on; `high` is the first place not known to be below it.
    while step < row_end - row and row[step] < wanted:
        row += step
        step <<= 1
    high = row + min(step, row_end - row)
    row += 1
    while row < high:
        middle = row + (high - row) // 2
        if middle[0] < wanted:
            row = middle + 1
        else:
            high = middle
    return row
