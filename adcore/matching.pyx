"""Which rows a request satisfies, a block of rows at a time.

Every column holds at most one predicate of a row, and its base bitmap says whether the row passes
a request with none of that predicate's values: an include fails, an exclude passes, and so does a
row without a predicate here. The values of the request that a predicate names turn the row's bit
over, once. So a column's rows are `base xor (union of the values' postings)`, and the request's
rows are the AND over columns. That holds for every dimension and for key-values, whose features
are (key, value).

Cheap columns come first: those without a posting of the request's values, and those with just one
that is a bitmap, are ANDed in one pass. The others are put together from postings, and only where
a row is still alive: in windows that grow, so that an early stop pays for little, and a full match
visits a list a few times however many blocks there are. With 500 values in a request, visits to
lists without a row in the block were nine tenths of a full match.

For the same reason a select plans twice at most: for the front, leaving out what its rows don't
name, and for the rest if it gets there.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from adcore.bits cimport _meet, _meet_turned, _turn
from adcore.tables cimport BLOCK_WORDS, COLUMNS, NO_ROW, Feature, Posting, Tables

cdef extern from *:
    # What the first block needs is fetched while the plan is made.
    void _prefetch "__builtin_prefetch"(const void* place) noexcept nogil

cdef enum:
    LISTS_AHEAD = 8  # of a column: fetched while those before them are read
    FEATURES_AHEAD = 8  # likewise their postings


cdef void _plan(
    Matcher* matcher, const Tables* tables, const uint64_t* live,
    const uint32_t* features, uint32_t feature_count, bint to_the_end
) noexcept nogil:
    """Begin anew; `to_the_end`: every block will be asked for, so small windows save nothing."""
    matcher.tables = tables
    matcher.live = live
    matcher.features = features
    matcher.feature_count = feature_count
    if to_the_end:
        _plan_rows(matcher, NO_ROW, WINDOW_WORDS_MAX)
    else:
        _plan_rows(matcher, FRONT_ROWS, BLOCK_WORDS)


cdef void _plan_rows(Matcher* matcher, uint32_t row_end, uint32_t window_words) noexcept nogil:
    cdef const Tables* tables = matcher.tables
    cdef uint32_t column_count = tables.counts[COLUMNS]
    cdef uint32_t posting_count = _gather(matcher, row_end)
    cdef uint32_t cursor_first = 0
    cdef uint32_t place, column, cursor_count
    cdef const Posting* posting
    # A column's cursors lie side by side: each column begins where the one before it ends.
    for column in range(column_count):
        cursor_count = matcher.cursor_ends[column]
        matcher.cursor_ends[column] = cursor_first
        cursor_first += cursor_count
    for place in range(posting_count):
        posting = &tables.postings[matcher.postings[place]]
        _set_cursor(&matcher.cursors[matcher.cursor_ends[posting.column]], tables, posting)
        matcher.cursor_ends[posting.column] += 1
    matcher.plain[0] = matcher.live
    matcher.plain_count = 1
    matcher.mixed_count = 0
    matcher.word_end = row_end // 64
    matcher.window_words = window_words
    for column in range(column_count):
        _plan_column(matcher, tables, column)


cdef uint32_t _gather(Matcher* matcher, uint32_t row_end) noexcept nogil:
    """Collect the postings with a row before `row_end`, and count them by column; how many.

    Whether there is one can't be foretold, so what is of no use is written over and no branch.
    """
    cdef const Tables* tables = matcher.tables
    cdef uint32_t near_count = 0, count = 0
    cdef uint32_t place, number
    cdef bint near
    cdef const Feature* feature
    cdef const Posting* posting
    for place in range(matcher.feature_count):
        matcher.near[near_count] = matcher.features[place]
        near_count += tables.features[matcher.features[place]].best_row < row_end
    memset(matcher.cursor_ends, 0, tables.counts[COLUMNS] * sizeof(uint32_t))
    memset(matcher.row_counts, 0, tables.counts[COLUMNS] * sizeof(uint32_t))
    for place in range(near_count):
        if place + FEATURES_AHEAD < near_count:
            feature = &tables.features[matcher.near[place + FEATURES_AHEAD]]
            _prefetch(&tables.postings[feature.posting_first])
            _prefetch(&tables.postings[feature.posting_first + feature.posting_count - 1])
        feature = &tables.features[matcher.near[place]]
        for number in range(feature.posting_first, feature.posting_first + feature.posting_count):
            posting = &tables.postings[number]
            near = posting.best_row < row_end
            matcher.postings[count] = number
            matcher.cursor_ends[posting.column] += near
            matcher.row_counts[posting.column] += posting.row_count if near else 0
            count += near
    return count


cdef inline void _set_cursor(
    Cursor* cursor, const Tables* tables, const Posting* posting
) noexcept nogil:
    cursor.bitmap = NULL
    if posting.dense:
        cursor.bitmap = tables.bitmaps + <uint64_t> posting.first * tables.row_words
        _prefetch(cursor.bitmap)
    else:
        cursor.row = tables.posting_rows + posting.first
        cursor.row_end = cursor.row + posting.row_count
        _prefetch(cursor.row)


cdef inline void _plan_column(
    Matcher* matcher, const Tables* tables, uint32_t column
) noexcept nogil:
    cdef const uint64_t* base = tables.bitmaps + <uint64_t> column * tables.row_words
    cdef Cursor* cursor = matcher.cursors + (matcher.cursor_ends[column - 1] if column else 0)
    cdef Cursor* cursor_end = matcher.cursors + matcher.cursor_ends[column]
    cdef uint64_t expected_rows
    cdef uint32_t place
    cdef Mixed* mixed
    if cursor == cursor_end:
        # A base without a zero, as of a column of excludes, rules nothing out.
        if tables.columns[column].base_count < tables.row_count:
            _prefetch(base)
            matcher.plain[matcher.plain_count] = base
            matcher.plain_count += 1
        return
    if cursor.bitmap != NULL and cursor + 1 == cursor_end:
        matcher.plain[matcher.plain_count] = cursor.bitmap
        matcher.plain_count += 1
        return
    _prefetch(base)
    expected_rows = <uint64_t> tables.columns[column].base_count + matcher.row_counts[column]
    place = matcher.mixed_count
    while place and matcher.mixed[place - 1].expected_rows > expected_rows:
        matcher.mixed[place] = matcher.mixed[place - 1]
        place -= 1
    mixed = &matcher.mixed[place]
    mixed.base = base
    mixed.turned = matcher.turned \
        + <size_t> column * min(<uint32_t> WINDOW_WORDS_MAX, tables.row_words)
    mixed.cursor = cursor
    mixed.cursor_end = cursor_end
    mixed.word = 0
    mixed.word_end = 0
    mixed.words = matcher.window_words
    mixed.expected_rows = expected_rows
    matcher.mixed_count += 1


cdef bint _match(Matcher* matcher, uint32_t word, uint32_t words, uint64_t* rows) noexcept nogil:
    """Fill `rows` with words [word, word + words), both multiples of BLOCK_WORDS; false: all zero.

    Within one plan `word` must not fall, because lists are read once, front to back.
    """
    cdef uint32_t number
    if word >= matcher.word_end:
        _plan_rows(matcher, NO_ROW, MATCH_WORDS_MAX)
    if not _meet(matcher.plain, matcher.plain_count, word, words, rows):
        return False
    for number in range(matcher.mixed_count):
        if not _narrow(matcher, &matcher.mixed[number], word, words, rows):
            return False
    return True


cdef inline bint _narrow(
    const Matcher* matcher, Mixed* mixed, uint32_t word, uint32_t words, uint64_t* rows
) noexcept nogil:
    """Keep those of `rows` that are the column's too; false: none is left."""
    cdef uint32_t word_end = word + words
    cdef uint32_t words_known
    cdef bint found = False
    while word < word_end:
        if word >= mixed.word_end:
            _open_window(matcher, mixed, word)
        words_known = min(word_end, mixed.word_end) - word
        found |= _meet_turned(
            mixed.base + word, mixed.turned + (word - mixed.word), words_known, rows)
        word += words_known
        rows += words_known
    return found


cdef void _open_window(const Matcher* matcher, Mixed* mixed, uint32_t word) noexcept nogil:
    """Fill `turned` with the rows that the postings name, from `word` on; drop lists that end."""
    cdef uint32_t words = min(mixed.words, matcher.tables.row_words - word)
    cdef uint32_t row_first = word * 64
    cdef uint32_t row_end = row_first + words * 64
    cdef Cursor* cursor = mixed.cursor
    cdef Cursor* kept = cursor
    cdef const uint32_t* row
    mixed.word = word
    mixed.word_end = word + words
    mixed.words = min(mixed.words * WINDOW_GROWTH, <uint32_t> WINDOW_WORDS_MAX)
    memset(mixed.turned, 0, words * sizeof(uint64_t))
    while cursor < mixed.cursor_end:
        if cursor.bitmap != NULL:
            _turn(mixed.base + word, cursor.bitmap + word, words, mixed.turned)
            kept[0] = cursor[0]
            kept += 1
            cursor += 1
            continue
        if cursor + LISTS_AHEAD < mixed.cursor_end:
            _prefetch(cursor[LISTS_AHEAD].row)
        row = _gallop(cursor.row, cursor.row_end, row_first)
        while row < cursor.row_end and row[0] < row_end:
            mixed.turned[(row[0] - row_first) >> 6] |= <uint64_t> 1 << (row[0] & 63)
            row += 1
        if row < cursor.row_end:
            kept.bitmap = NULL
            kept.row = row
            kept.row_end = cursor.row_end
            kept += 1
        cursor += 1
    mixed.cursor_end = kept


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
