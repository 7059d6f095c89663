"""Rows become columns, features and postings: what a request's values are looked up in.

A column holds at most one predicate of a row. A dimension with one value in a request needs one
column, because an AND keeps one predicate of it. A dimension with several values needs as many as
the busiest row. So do the key-values: they are one dimension, whose values are (key, value), and a
row's first predicate on any key lies in the first column, whatever the key.

The terms are dealt out by column; then, for each column, the rows are counted that name each
feature, and in a second pass written.
"""

cimport cython
from cpython.mem cimport PyMem_RawFree
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from adcore.limits cimport COLUMNS_MAX, PREDICATES_MAX
from adcore.numbering cimport Distinct, Numbering
from adcore.tables cimport (
    BITMAPS, COLUMNS, FEATURES, KEY_SPACE_FIRST, POSTINGS, POSTING_ROWS, Column, Feature, Posting,
)
from adcore.vector cimport Vector, _room

cdef extern from *:
    void _prefetch "__builtin_prefetch"(const void* place) noexcept nogil

cdef enum:
    # A bitmap is one AND where a list is a walk; it is as small as one from 1 / 32 of the rows on.
    # 1 / 64 is as fast as 1 / 128 and 7 bytes a row smaller; 1 / 32 is slower by a seventh. The
    # minimum keeps small catalogs from becoming all bitmaps.
    DENSE_SHARE = 64
    DENSE_ROWS_MIN = 16
    DENSE = 1 << 31     # in a counter: not a place in a list but a bitmap's number
    AHEAD = 16          # records fetched before their turn


@cython.final
@cython.auto_pickle(False)
cdef class Columns:
    """The columns of a catalog under construction; filled and read by compiled code only."""

    def __cinit__(self):
        self.names = Vector()

    def __dealloc__(self):
        PyMem_RawFree(self.rows)
        PyMem_RawFree(self.predicates)
        PyMem_RawFree(self.counters)
        PyMem_RawFree(self.touched)
        PyMem_RawFree(self.best_rows)
        PyMem_RawFree(self.posting_next)

    cdef int measure(
        self, Numbering numbering, const uint32_t* term_firsts, const uint32_t* terms,
        uint32_t row_count, uint32_t row_words
    ) except -1:
        """Find out how many columns, postings, bitmaps and listed rows there will be."""
        self.numbering = numbering
        self.row_count = row_count
        self.row_words = row_words
        self.feature_count = <uint32_t> (numbering.features.bytes // sizeof(Feature))
        self.term_count = term_firsts[row_count]
        self.rows = <uint32_t*> _room(self.term_count, sizeof(uint32_t))
        self.predicates = <uint32_t*> _room(self.term_count, sizeof(uint32_t))
        self.counters = <uint32_t*> _room(self.feature_count, sizeof(uint32_t))
        self.touched = <uint32_t*> _room(self.feature_count, sizeof(uint32_t))
        self.best_rows = <uint32_t*> _room(self.feature_count, sizeof(uint32_t))
        self.posting_next = <uint32_t*> _room(self.feature_count, sizeof(uint32_t))
        with nogil:
            self._deal(term_firsts, terms)
        if self.firsts[self.count] != self.term_count:
            raise OverflowError(f"more than {COLUMNS_MAX} columns")  # normalise prevents it
        self._name()
        if self.listed_rows >= <uint32_t> DENSE:
            raise OverflowError("too many rows name values")  # their place would pass for a bitmap
        return 0

    cdef void _deal(self, const uint32_t* term_firsts, const uint32_t* terms) noexcept nogil:
        """Deal the terms out: a row's first one of a dimension to its first column, and so on."""
        cdef uint32_t[(KEY_SPACE_FIRST + 1) * PREDICATES_MAX] columns
        cdef uint32_t[KEY_SPACE_FIRST + 1] used
        cdef uint32_t number, place, row, column
        memset(columns, 0, sizeof(columns))
        for row in range(self.row_count):
            memset(used, 0, sizeof(used))
            for place in range(term_firsts[row], term_firsts[row + 1]):
                columns[self._column_of(terms, place, used)] += 1
        self.count = 0
        place = 0
        for number in range(<uint32_t> ((KEY_SPACE_FIRST + 1) * PREDICATES_MAX)):
            if columns[number] and self.count < COLUMNS_MAX:
                self.spaces[self.count] = number // PREDICATES_MAX
                self.firsts[self.count] = place
                place += columns[number]
                columns[number] = self.firsts[self.count]
                self.count = self.count + 1
        self.firsts[self.count] = place
        for row in range(self.row_count):
            memset(used, 0, sizeof(used))
            for place in range(term_firsts[row], term_firsts[row + 1]):
                number = self._column_of(terms, place, used)
                column = columns[number]
                columns[number] += 1
                self.rows[column] = row
                self.predicates[column] = terms[place]

    cdef inline uint32_t _column_of(
        self, const uint32_t* terms, uint32_t place, uint32_t* used
    ) noexcept nogil:
        cdef const Distinct* predicates = <const Distinct*> \
            self.numbering.predicates.data
        cdef uint32_t space
        if place + AHEAD < self.term_count:
            _prefetch(&predicates[terms[place + AHEAD]])
        space = min(predicates[terms[place]].space, <uint32_t> KEY_SPACE_FIRST)
        used[space] += 1
        return space * PREDICATES_MAX + used[space] - 1

    cdef int _name(self) except -1:
        """Count for each column the rows that name each feature."""
        cdef uint32_t dense_min = max(
            self.row_count // DENSE_SHARE, <uint32_t> DENSE_ROWS_MIN)
        cdef uint32_t column, place, number, touched_count
        cdef const Distinct* predicate
        cdef const uint32_t* values = <const uint32_t*> self.numbering.values.data
        cdef uint32_t* counters = self.counters
        cdef uint32_t* touched = self.touched
        cdef Named* named
        for column in range(self.count):
            touched_count = 0
            with nogil:
                for place in range(self.firsts[column], self.firsts[column + 1]):
                    predicate = self._predicate_at(place)
                    for number in range(
                        predicate.value_first, predicate.value_first + predicate.value_count
                    ):
                        if not counters[values[number]]:
                            touched[touched_count] = values[number]
                            self.best_rows[touched_count] = self.rows[place]
                            touched_count += 1
                        counters[values[number]] += 1
            self.name_firsts[column] = <uint32_t> (self.names.bytes // sizeof(Named))
            named = <Named*> self.names.extend(touched_count * sizeof(Named))
            for place in range(touched_count):
                named[place].feature = touched[place]
                named[place].row_count = self.counters[touched[place]]
                named[place].dense = named[place].row_count >= dense_min
                named[place].best_row = 0 if named[place].dense else self.best_rows[place]
                if named[place].dense:
                    self.bitmap_count += 1
                else:
                    self.listed_rows += named[place].row_count
                self.counters[touched[place]] = 0
        self.name_firsts[self.count] = <uint32_t> (self.names.bytes // sizeof(Named))
        return 0

    cdef inline const Distinct* _predicate_at(self, uint32_t place) noexcept nogil:
        """The predicate of a term in the columns' order; those that follow are fetched ahead."""
        cdef const Distinct* predicates = <const Distinct*> \
            self.numbering.predicates.data
        cdef const uint32_t* values = <const uint32_t*> self.numbering.values.data
        if place + 2 * AHEAD < self.term_count:
            _prefetch(&predicates[self.predicates[place + 2 * AHEAD]])
            _prefetch(&values[predicates[self.predicates[place + AHEAD]].value_first])
        return &predicates[self.predicates[place]]

    cdef void fill(self, char** sections) noexcept nogil:
        """Write postings, those of a feature side by side, with their bitmaps and lists."""
        cdef Feature* features = <Feature*> sections[<int> FEATURES]
        cdef const Named* names = <const Named*> self.names.data
        cdef uint32_t name_count = self.name_firsts[self.count]
        cdef uint32_t bitmap_next = self.count
        cdef uint64_t row_next = 0
        cdef uint32_t number, place = 0
        cdef Feature* feature
        for number in range(name_count):
            feature = &features[names[number].feature]
            feature.posting_count += 1
            feature.best_row = min(feature.best_row, names[number].best_row)
        for number in range(self.feature_count):
            features[number].posting_first = place
            self.posting_next[number] = place
            place += features[number].posting_count
        for number in range(self.count):
            self._fill_column(sections, number, &bitmap_next, &row_next)

    cdef void _fill_column(
        self, char** sections, uint32_t column, uint32_t* bitmap_next, uint64_t* row_next
    ) noexcept nogil:
        cdef Column* record = <Column*> sections[<int> COLUMNS] + column
        cdef Posting* postings = <Posting*> sections[<int> POSTINGS]
        cdef uint64_t* bitmaps = <uint64_t*> sections[<int> BITMAPS]
        cdef uint64_t* base = bitmaps + <size_t> column * self.row_words
        cdef uint32_t* posting_next = self.posting_next
        cdef const Named* named
        cdef Posting* posting
        cdef uint32_t number
        record.space = self.spaces[column]
        record.base_count = self.row_count - self._fill_base(column, base)
        for number in range(self.name_firsts[column], self.name_firsts[column + 1]):
            named = <const Named*> self.names.data + number
            posting = &postings[posting_next[named.feature]]
            posting_next[named.feature] += 1
            posting.column = <uint16_t> column
            posting.row_count = named.row_count
            posting.best_row = named.best_row
            posting.dense = named.dense
            if named.dense:
                posting.first = bitmap_next[0]
                memcpy(bitmaps + <size_t> bitmap_next[0] * self.row_words, base,
                       self.row_words * sizeof(uint64_t))
                self.counters[named.feature] = DENSE | bitmap_next[0]
                bitmap_next[0] += 1
            else:
                posting.first = <uint32_t> row_next[0]
                self.counters[named.feature] = <uint32_t> row_next[0]
                row_next[0] += named.row_count
        self._fill_names(column, bitmaps, <uint32_t*> sections[<int> POSTING_ROWS])

    cdef uint32_t _fill_base(self, uint32_t column, uint64_t* base) noexcept nogil:
        """One bit a row, padded to whole blocks: zero where a row needs a value to pass."""
        cdef uint32_t place, row, includes = 0
        memset(base, 0xFF, self.row_words * sizeof(uint64_t))
        for place in range(self.firsts[column], self.firsts[column + 1]):
            if not self._predicate_at(place).negated:
                row = self.rows[place]
                base[row >> 6] &= ~(<uint64_t> 1 << (row & 63))
                includes += 1
        return includes

    cdef void _fill_names(
        self, uint32_t column, uint64_t* bitmaps, uint32_t* posting_rows
    ) noexcept nogil:
        """Enter each row into the bitmaps and lists of the features that it names."""
        cdef const uint32_t* values = <const uint32_t*> self.numbering.values.data
        cdef uint32_t* counters = self.counters
        cdef uint32_t place, row, number, counter
        cdef const Distinct* predicate
        for place in range(self.firsts[column], self.firsts[column + 1]):
            predicate = self._predicate_at(place)
            row = self.rows[place]
            for number in range(
                predicate.value_first, predicate.value_first + predicate.value_count
            ):
                counter = counters[values[number]]
                if counter & DENSE:
                    bitmaps[<size_t> (counter ^ DENSE) * self.row_words + (row >> 6)] ^= \
                        <uint64_t> 1 << (row & 63)
                else:
                    posting_rows[counter] = row
                    counters[values[number]] += 1
