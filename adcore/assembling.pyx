"""Records in the order of booking become the sections of a compiled catalog.

The half of compiling that reads no Python object and holds no GIL. Lines are put into rank order,
their rows with them, and columns.pyx makes columns of the rows. Everything is read in the order in
which it lies, or fetched ahead, because a million rows are far larger than the caches.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from adcore.booking cimport Booked, Booking
from adcore.columns cimport Columns, Named
from adcore.tables cimport (
    ADS, BITMAPS, BLOCK_ROWS, BLOCK_WORDS, COLUMNS, ECPM_MAX, FEATURES, GROUPS, LABELS, LINES,
    POSTINGS, POSTING_ROWS, PREDICATES, PREDICATE_VALUES, RANGES, RANGE_FIRSTS, ROW_RANKS,
    SECTION_COUNT, SERVICES, SLOTS, TERMS, TERM_FIRSTS, TEXTS, Column, Group, Line, Posting, Range,
    Service, Slot,
)
from adcore.vector cimport Vector

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
        self.order = self._numbers(self.line_count)
        self.row_sources = self._numbers(self.row_count)
        self.term_firsts = self._numbers(self.row_count + 1)
        self.terms = self._numbers(self.term_count)
        self._rank()
        with nogil:
            self._place_rows()
        self.columns.measure(
            self.numbering, self.term_firsts, self.terms, self.row_count, self.row_words)
        cdef size_t[SECTION_COUNT] sizes
        memset(sizes, 0, sizeof(sizes))
        sizes[<int> LINES] = self.line_count * sizeof(Line)
        sizes[<int> SERVICES] = self.line_count * sizeof(Service)
        sizes[<int> GROUPS] = self.group_count * sizeof(Group)
        sizes[<int> ROW_RANKS] = self.row_count * sizeof(uint32_t)
        sizes[<int> ADS] = self.booking.ads.bytes
        sizes[<int> LABELS] = self.booking.labels.bytes
        sizes[<int> COLUMNS] = self.columns.count * sizeof(Column)
        sizes[<int> BITMAPS] = sizeof(uint64_t) * <size_t> self.row_words * (
            self.columns.count + self.columns.bitmap_count)
        sizes[<int> POSTINGS] = self.columns.names.bytes // sizeof(Named) * sizeof(Posting)
        sizes[<int> POSTING_ROWS] = self.columns.listed_rows * sizeof(uint32_t)
        sizes[<int> FEATURES] = self.numbering.features.bytes
        sizes[<int> TEXTS] = self.numbering.texts.bytes
        sizes[<int> SLOTS] = (<size_t> self.numbering.feature_slots.mask + 1) * sizeof(Slot)
        if self.rows.ranges.bytes:
            sizes[<int> RANGE_FIRSTS] = (<size_t> self.row_count + 1) * sizeof(uint32_t)
            sizes[<int> RANGES] = self.rows.ranges.bytes
        sizes[<int> TERM_FIRSTS] = (<size_t> self.row_count + 1) * sizeof(uint32_t)
        sizes[<int> TERMS] = self.term_count * sizeof(uint32_t)
        sizes[<int> PREDICATES] = self.numbering.predicates.bytes
        sizes[<int> PREDICATE_VALUES] = self.numbering.values.bytes
        return [sizes[number] for number in range(SECTION_COUNT)]

    def fill(self, buffer, list offsets):
        cdef Py_buffer view
        cdef uint32_t* posting_next = self._numbers(self.columns.feature_count)
        cdef int number
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        for number in range(SECTION_COUNT):
            self.sections[number] = <char*> view.buf + <size_t> offsets[number]
        with nogil:
            self._fill_lines()
            self._fill_rows()
            self.columns.fill(self.sections, posting_next)
        PyMem_RawFree(posting_next)
        PyBuffer_Release(&view)

    cdef uint32_t* _numbers(self, size_t count) except NULL:
        cdef uint32_t* numbers = <uint32_t*> PyMem_RawCalloc(count + 1, sizeof(uint32_t))
        if numbers == NULL:
            raise MemoryError
        return numbers

    # -- measuring ---------------------------------------------------------------------------------

    cdef int _rank(self) except -1:
        """Put lines into the order of (priority, eCPM of an auction falling, line)."""
        cdef const Booked* lines = <const Booked*> self.booking.lines.data
        cdef Ranked* ranked = <Ranked*> PyMem_RawCalloc(
            2 * <size_t> self.line_count + 1, sizeof(Ranked))
        cdef Ranked* one = ranked
        cdef uint32_t rank
        if ranked == NULL:
            raise MemoryError
        with nogil:
            for rank in range(self.line_count):
                one[rank].line = rank
                one[rank].priority = lines[rank].line.priority
                if not self.booking.lottery(one[rank].priority):
                    one[rank].worst_first = <uint64_t> (
                        <int64_t> ECPM_MAX - lines[rank].line.ecpm_micros)
            one = _sorted(one, one + self.line_count, self.line_count)
            self.group_count = 0
            for rank in range(self.line_count):
                self.order[rank] = one[rank].line
                self.group_count += not rank or one[rank].priority != one[rank - 1].priority \
                    or one[rank].worst_first != one[rank - 1].worst_first
        PyMem_RawFree(ranked)
        return 0

    cdef void _place_rows(self) noexcept nogil:
        """Number the rows in rank order, and copy their terms in that order."""
        cdef const Booked* lines = <const Booked*> self.booking.lines.data
        cdef const uint32_t* ends = <const uint32_t*> self.rows.term_ends.data
        cdef const uint32_t* terms = <const uint32_t*> self.rows.terms.data
        cdef uint32_t rank, row, source, first, place
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
            self.term_firsts[row] = place
            memcpy(self.terms + place, terms + first, (ends[source] - first) * sizeof(uint32_t))
            place += ends[source] - first
        self.term_firsts[self.row_count] = place

    # -- filling in --------------------------------------------------------------------------------

    cdef void _fill_lines(self) noexcept nogil:
        cdef const Booked* lines = <const Booked*> self.booking.lines.data
        cdef Line* placed = <Line*> self.sections[<int> LINES]
        cdef Service* services = <Service*> self.sections[<int> SERVICES]
        cdef uint32_t* row_ranks = <uint32_t*> self.sections[<int> ROW_RANKS]
        cdef Group* group = <Group*> self.sections[<int> GROUPS] - 1
        cdef uint32_t rank, _row, row_end = 0
        cdef const Booked* booked
        for rank in range(self.line_count):
            if rank + AHEAD < self.line_count:
                booked = &lines[self.order[rank + AHEAD]]
                _prefetch(booked)
                _prefetch(<const char*> booked + 64)
            booked = &lines[self.order[rank]]
            if not rank or group.priority != booked.line.priority or (
                not group.lottery and placed[rank - 1].ecpm_micros != booked.line.ecpm_micros
            ):
                group += 1
                group.lottery = self.booking.lottery(booked.line.priority)
                group.priority = booked.line.priority
            placed[rank] = booked.line
            placed[rank].group = <uint32_t> (group - <Group*> self.sections[<int> GROUPS])
            services[rank] = booked.service
            for _row in range(booked.row_count):
                row_ranks[row_end] = rank
                row_end += 1
            group.row_end = row_end
        self._fill_tiers()

    cdef void _fill_tiers(self) noexcept nogil:
        """Tell every group where the rows of its priority end: what its last group says."""
        cdef Group* groups = <Group*> self.sections[<int> GROUPS]
        cdef uint32_t left = self.group_count
        while left:
            left -= 1
            if left + 1 < self.group_count and groups[left + 1].priority == groups[left].priority:
                groups[left].tier_row_end = groups[left + 1].tier_row_end
            else:
                groups[left].tier_row_end = groups[left].row_end

    cdef void _fill_rows(self) noexcept nogil:
        """Copy what is already as it must be, and put the ranges into the order of rows."""
        cdef const uint32_t* ends = <const uint32_t*> self.rows.range_ends.data
        cdef const Range* ranges = <const Range*> self.rows.ranges.data
        cdef uint32_t* firsts = <uint32_t*> self.sections[<int> RANGE_FIRSTS]
        cdef Range* placed = <Range*> self.sections[<int> RANGES]
        cdef uint32_t row, source, number, place = 0
        _copy(self.sections[<int> ADS], self.booking.ads)
        _copy(self.sections[<int> LABELS], self.booking.labels)
        _copy(self.sections[<int> FEATURES], self.numbering.features)
        _copy(self.sections[<int> TEXTS], self.numbering.texts)
        _copy(self.sections[<int> PREDICATES], self.numbering.predicates)
        _copy(self.sections[<int> PREDICATE_VALUES], self.numbering.values)
        memcpy(self.sections[<int> SLOTS], self.numbering.feature_slots.slots,
               (<size_t> self.numbering.feature_slots.mask + 1) * sizeof(Slot))
        memcpy(self.sections[<int> TERM_FIRSTS], self.term_firsts,
               (<size_t> self.row_count + 1) * sizeof(uint32_t))
        memcpy(self.sections[<int> TERMS], self.terms, self.term_count * sizeof(uint32_t))
        if not self.rows.ranges.bytes:
            return
        for row in range(self.row_count):
            source = self.row_sources[row]
            firsts[row] = place
            for number in range(ends[source - 1] if source else 0, ends[source]):
                placed[place] = ranges[number]
                place += 1
        firsts[self.row_count] = place

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
