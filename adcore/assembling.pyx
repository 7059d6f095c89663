"""Records in the order of booking become the sections of a compiled catalog.

The half of compiling that reads no Python object and holds no GIL. Lines are put into rank order,
their rows with them, and columns.pyx makes columns of the rows. Everything is read in the order in
which it lies, or fetched ahead, because a million rows are far larger than the caches.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_RawFree
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

from adcore.booking cimport Booked, Booking
from adcore.columns cimport Columns, Named
from adcore.numbering cimport Distinct, Slot
from adcore.tables cimport (
    ADS, BITMAPS, BLOCK_ROWS, BLOCK_WORDS, CHECKED, CHECKED_ROWS, CHECKS, CHECK_FIRSTS, COLUMNS,
    CREATIVES, ECPM_MAX, FEATURES, GROUPS, LABELS, LINES, POSTINGS, POSTING_ROWS, PREDICATES,
    PREDICATE_BYTES, RANGES, ROW_RANKS, SECTION_COUNT, SLOTS, TERMS, TERM_FIRSTS, TERM_LAST,
    TERM_ROWS, TEXTS, TIERS, Column, Group, Line, Posting, Tier, _slot,
)
from adcore.vector cimport Vector, _room

cdef extern from *:
    void _prefetch "__builtin_prefetch"(const void* place) noexcept nogil

cdef enum:
    AHEAD = 16          # records fetched before their turn
    DIGITS = 256        # of a key, when lines are sorted by it

# A line on its way to its rank.
cdef struct Ranked:
    uint64_t worst_first
    uint32_t line
    uint32_t priority


@cython.final
@cython.auto_pickle(False)
cdef class Assembly:
    """A booked catalog on its way into one buffer: measured first, then filled in."""

    def __init__(self, Booking booking not None):
        self.booking = booking
        self.rows = booking.rows
        self.numbering = booking.rows.numbering
        self.columns = Columns()
        self.line_count = booking.line_count()
        self.term_count = <uint32_t> (self.rows.terms.bytes // sizeof(uint32_t))
        self.row_count = self.rows.count()
        self.row_words = (self.row_count + BLOCK_ROWS - 1) // BLOCK_ROWS * BLOCK_WORDS

    def __dealloc__(self):
        PyMem_RawFree(self.order)
        PyMem_RawFree(self.row_sources)
        PyMem_RawFree(self.term_firsts)
        PyMem_RawFree(self.terms)

    def measure(self):
        cdef size_t[SECTION_COUNT] sizes
        cdef size_t predicate_bytes
        self.order = <uint32_t*> _room(self.line_count, sizeof(uint32_t))
        self.row_sources = <uint32_t*> _room(self.row_count, sizeof(uint32_t))
        self.term_firsts = <uint32_t*> _room(self.row_count + 1, sizeof(uint32_t))
        self.terms = <uint32_t*> _room(self.term_count, sizeof(uint32_t))
        self._rank()
        with nogil:
            self._place_rows()
            predicate_bytes = self._write_predicates(NULL, NULL)
        self.columns.measure(
            self.numbering, self.term_firsts, self.terms, self.row_count, self.row_words)
        memset(sizes, 0, sizeof(sizes))
        sizes[<int> LINES] = self.line_count * sizeof(Line)
        sizes[<int> GROUPS] = self.group_count * sizeof(Group)
        sizes[<int> TIERS] = self.tier_count * sizeof(Tier)
        sizes[<int> ROW_RANKS] = self.row_count * sizeof(uint32_t)
        sizes[<int> ADS] = self.booking.ads.bytes
        sizes[<int> CREATIVES] = self.booking.creatives.bytes
        sizes[<int> LABELS] = self.booking.labels.bytes
        sizes[<int> COLUMNS] = self.columns.count * sizeof(Column)
        sizes[<int> BITMAPS] = sizeof(uint64_t) * <size_t> self.row_words * (
            self.columns.count + self.columns.bitmap_count)
        sizes[<int> POSTINGS] = self.columns.names.bytes // sizeof(Named) * sizeof(Posting)
        sizes[<int> POSTING_ROWS] = self.columns.listed_rows * sizeof(uint32_t)
        sizes[<int> FEATURES] = self.numbering.features.bytes
        sizes[<int> TEXTS] = self.numbering.texts.bytes
        sizes[<int> SLOTS] = (<size_t> self.numbering.feature_slots.mask + 1) * sizeof(uint32_t)
        sizes[<int> TERM_FIRSTS] = (self.row_count + TERM_ROWS - 1) // TERM_ROWS * sizeof(uint32_t)
        sizes[<int> TERMS] = self.term_count * sizeof(uint32_t)
        sizes[<int> PREDICATES] = (
            self.numbering.predicates.bytes // sizeof(Distinct) + 1) * sizeof(uint32_t)
        sizes[<int> PREDICATE_BYTES] = predicate_bytes
        sizes[<int> CHECKED_ROWS] = self.checked_count * sizeof(uint32_t)
        sizes[<int> CHECK_FIRSTS] = (<size_t> self.checked_count + 1) * sizeof(uint32_t)
        sizes[<int> CHECKS] = self.rows.checks.bytes
        sizes[<int> RANGES] = self.rows.ranges.bytes
        if self.checked_count:
            sizes[<int> CHECKED] = self.row_words * sizeof(uint64_t)
        return [sizes[number] for number in range(SECTION_COUNT)]

    def fill(self, buffer, list offsets):
        cdef Py_buffer view
        cdef int number
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        for number in range(SECTION_COUNT):
            self.sections[number] = <char*> view.buf + <size_t> offsets[number]
        with nogil:
            self._fill_lines()
            self._fill_rows()
            self._fill_checks()
            self.columns.fill(self.sections)
        PyBuffer_Release(&view)

    # -- measuring ---------------------------------------------------------------------------------

    cdef int _rank(self) except -1:
        """Put lines into the order of (priority, eCPM of an auction falling, line)."""
        cdef const Booked* lines = <const Booked*> self.booking.lines.data
        cdef Ranked* ranked = <Ranked*> _room(2 * <size_t> self.line_count, sizeof(Ranked))
        cdef Ranked* one = ranked
        cdef uint32_t rank, tiers = 0, groups = 0
        with nogil:
            for rank in range(self.line_count):
                one[rank].line = rank
                one[rank].priority = lines[rank].priority
                if not self.booking.lottery(one[rank].priority):
                    one[rank].worst_first = <uint64_t> (
                        <int64_t> ECPM_MAX - lines[rank].line.ecpm_micros)
            one = _sorted(one, one + self.line_count, self.line_count)
            for rank in range(self.line_count):
                self.order[rank] = one[rank].line
                if not rank or one[rank].priority != one[rank - 1].priority:
                    tiers += 1
                    groups += 1
                elif one[rank].worst_first != one[rank - 1].worst_first:
                    groups += 1
            self.tier_count = tiers
            self.group_count = groups
        PyMem_RawFree(ranked)
        return 0

    cdef void _place_rows(self) noexcept nogil:
        """Number the rows in rank order, and copy their terms in that order."""
        cdef const Booked* lines = <const Booked*> self.booking.lines.data
        cdef const uint32_t* ends = <const uint32_t*> self.rows.term_ends.data
        cdef const uint32_t* terms = <const uint32_t*> self.rows.terms.data
        cdef const uint32_t* checks = <const uint32_t*> self.rows.check_ends.data
        cdef uint32_t rank, row, source, first, place, checked = 0
        cdef const Booked* booked
        row = 0
        for rank in range(self.line_count):
            if rank + AHEAD < self.line_count:
                _prefetch(&lines[self.order[rank + AHEAD]].row_first)
            booked = &lines[self.order[rank]]
            for source in range(booked.row_first, booked.row_first + booked.row_count):
                self.row_sources[row] = source
                row += 1
        place = 0
        for row in range(self.row_count):
            if row + 2 * AHEAD < self.row_count:
                _prefetch(&ends[self.row_sources[row + 2 * AHEAD]])
            if row + AHEAD < self.row_count:
                source = self.row_sources[row + AHEAD]
                _prefetch(&terms[ends[source - 1] if source else 0])
            source = self.row_sources[row]
            first = ends[source - 1] if source else 0
            if checks[source] != (checks[source - 1] if source else 0):
                checked += 1
            self.term_firsts[row] = place
            memcpy(self.terms + place, terms + first, (ends[source] - first) * sizeof(uint32_t))
            place += ends[source] - first
        self.term_firsts[self.row_count] = place
        self.checked_count = checked

    # -- filling in --------------------------------------------------------------------------------

    cdef void _fill_lines(self) noexcept nogil:
        cdef const Booked* lines = <const Booked*> self.booking.lines.data
        cdef Line* placed = <Line*> self.sections[<int> LINES]
        cdef Group* groups = <Group*> self.sections[<int> GROUPS]
        cdef Tier* tiers = <Tier*> self.sections[<int> TIERS]
        cdef uint32_t* row_ranks = <uint32_t*> self.sections[<int> ROW_RANKS]
        cdef uint32_t rank, _row, row_end = 0, group_end = 0, tier_end = 0
        cdef const Booked* booked
        for rank in range(self.line_count):
            if rank + AHEAD < self.line_count:
                _prefetch(&lines[self.order[rank + AHEAD]])
            booked = &lines[self.order[rank]]
            if not tier_end or tiers[tier_end - 1].priority != booked.priority:
                tiers[tier_end].priority = booked.priority
                tiers[tier_end].lottery = self.booking.lottery(booked.priority)
                tiers[tier_end].reserved = 0
                tier_end += 1
                group_end += 1
            elif not tiers[tier_end - 1].lottery \
                    and placed[rank - 1].ecpm_micros != booked.line.ecpm_micros:
                group_end += 1
            placed[rank] = booked.line
            placed[rank].group = group_end - 1
            for _row in range(booked.row_count):
                row_ranks[row_end] = rank
                row_end += 1
            groups[group_end - 1].tier = tier_end - 1
            groups[group_end - 1].row_end = row_end
            tiers[tier_end - 1].row_end = row_end

    cdef void _fill_rows(self) noexcept nogil:
        """Copy what is already as it must be."""
        _copy(self.sections[<int> ADS], self.booking.ads)
        _copy(self.sections[<int> CREATIVES], self.booking.creatives)
        _copy(self.sections[<int> LABELS], self.booking.labels)
        _copy(self.sections[<int> FEATURES], self.numbering.features)
        _copy(self.sections[<int> TEXTS], self.numbering.texts)
        _copy(self.sections[<int> RANGES], self.rows.ranges)
        self._write_slots(<uint32_t*> self.sections[<int> SLOTS])
        self._write_terms(
            <uint32_t*> self.sections[<int> TERM_FIRSTS], <uint32_t*> self.sections[<int> TERMS])
        self._write_predicates(
            <uint32_t*> self.sections[<int> PREDICATES],
            <uint8_t*> self.sections[<int> PREDICATE_BYTES])

    cdef void _write_slots(self, uint32_t* slots) noexcept nogil:
        cdef uint32_t mask = self.numbering.feature_slots.mask
        cdef const Slot* slot
        cdef uint32_t place
        for place in range(mask + 1):
            slot = &self.numbering.feature_slots.slots[place]
            if slot.feature_after:
                slots[place] = _slot(<uint64_t> slot.tag << 32, mask, slot.feature_after - 1)

    cdef void _write_terms(self, uint32_t* firsts, uint32_t* terms) noexcept nogil:
        cdef uint32_t row
        memcpy(terms, self.terms, self.term_count * sizeof(uint32_t))
        for row in range(self.row_count):
            if row % TERM_ROWS == 0:
                firsts[row // TERM_ROWS] = self.term_firsts[row]
            terms[self.term_firsts[row + 1] - 1] |= <uint32_t> TERM_LAST

    cdef void _fill_checks(self) noexcept nogil:
        """Put the checks into the order of rows, and note which rows have any."""
        cdef const uint32_t* ends = <const uint32_t*> self.rows.check_ends.data
        cdef const uint32_t* checks = <const uint32_t*> self.rows.checks.data
        cdef uint64_t* checked = <uint64_t*> self.sections[<int> CHECKED]
        cdef uint32_t* rows = <uint32_t*> self.sections[<int> CHECKED_ROWS]
        cdef uint32_t* firsts = <uint32_t*> self.sections[<int> CHECK_FIRSTS]
        cdef uint32_t* placed = <uint32_t*> self.sections[<int> CHECKS]
        cdef uint32_t row, source, first, count = 0, place = 0
        firsts[0] = 0
        if not self.checked_count:
            return
        for row in range(self.row_count):
            source = self.row_sources[row]
            first = ends[source - 1] if source else 0
            if first == ends[source]:
                continue
            checked[row >> 6] |= <uint64_t> 1 << (row & 63)
            rows[count] = row
            memcpy(placed + place, checks + first, (ends[source] - first) * sizeof(uint32_t))
            place += ends[source] - first
            count += 1
            firsts[count] = place

    cdef size_t _write_predicates(self, uint32_t* places, uint8_t* to) noexcept nogil:
        """Write the predicates, or with NULL only find out how many bytes they take."""
        cdef const Distinct* predicates = <const Distinct*> self.numbering.predicates.data
        cdef const uint32_t* values = <const uint32_t*> self.numbering.values.data
        cdef uint32_t number, place, before
        cdef size_t size = 0
        for number in range(<uint32_t> (self.numbering.predicates.bytes // sizeof(Distinct))):
            if places != NULL:
                places[number] = <uint32_t> size
            size += _write_number(
                to, size, predicates[number].space << 1 | predicates[number].negated)
            before = 0
            for place in range(
                predicates[number].value_first,
                predicates[number].value_first + predicates[number].value_count,
            ):
                size += _write_number(to, size, values[place] - before)
                before = values[place]
        if places != NULL:
            places[self.numbering.predicates.bytes // sizeof(Distinct)] = <uint32_t> size
        return size


cdef inline uint32_t _write_number(uint8_t* to, size_t place, uint32_t number) noexcept nogil:
    """Write a number as `tables._number` reads it, if there is room given; return its bytes."""
    cdef uint32_t size = 1
    while number > 0x7F:
        if to != NULL:
            to[place + size - 1] = <uint8_t> (number | 0x80)
        number >>= 7
        size += 1
    if to != NULL:
        to[place + size - 1] = <uint8_t> number
    return size


cdef inline void _copy(char* section, Vector content) noexcept nogil:
    memcpy(section, content.data, content.bytes)


cdef Ranked* _sorted(Ranked* one, Ranked* other, uint32_t count) noexcept nogil:
    """Sort by (priority, worst_first), stable, a byte of the key at a time from its lower end.

    Both are room for all lines; returns the one that they end up in.
    """
    cdef uint32_t[DIGITS] places
    cdef uint32_t digit, number, place, next_place
    cdef int step
    for step in range(9):
        memset(places, 0, sizeof(places))
        for number in range(count):
            places[_digit(&one[number], step)] += 1
        if count and places[_digit(one, step)] == count:
            continue  # all alike here
        place = 0
        for digit in range(<uint32_t> DIGITS):
            next_place = place + places[digit]
            places[digit] = place
            place = next_place
        for number in range(count):
            digit = _digit(&one[number], step)
            other[places[digit]] = one[number]
            places[digit] += 1
        one, other = other, one
    return one


cdef inline uint32_t _digit(const Ranked* line, int step) noexcept nogil:
    if step == 8:
        return line.priority
    return <uint32_t> (line.worst_first >> (8 * step)) & 0xFF
