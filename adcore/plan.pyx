"""How lines stand now, over and above how they were booked: stops, rates, bids and probabilities.

A plan is made in one piece and then only stops change. The catalog is ordered by what was booked;
where scores say otherwise, the bounds tell how far a request must read on.
"""

cimport cython
from cpython.buffer cimport PyObject_CheckBuffer
from cpython.mem cimport PyMem_RawFree
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport qsort

from adcore.arithmetic cimport _share, _worth
from adcore.tables cimport (
    BLOCK_ROWS, BLOCK_WORDS, ECPM_MAX, LINES, Tables, Tier, _settings, _tier,
)
from adcore.vector cimport _room

import array

# What is said of line items, a number each; NULL: nothing. At `place` is what is at fault.
cdef struct Said:
    const int64_t* ids
    const int64_t* rates
    const int64_t* multipliers
    const int64_t* probabilities
    Py_ssize_t count
    Py_ssize_t place
    const char* fault
    int64_t number
    int64_t number_max


@cython.final
@cython.auto_pickle(False)
cdef class Directory:
    """Line items by id; filled and read by compiled code only."""

    def __dealloc__(self):
        PyMem_RawFree(self.by_id)

    cdef uint32_t rank(self, int64_t line_item_id) noexcept nogil:
        cdef uint32_t low = 0, high = self.count
        cdef uint32_t middle
        while low < high:
            middle = low + (high - low) // 2
            if self.by_id[middle].line_item_id < line_item_id:
                low = middle + 1
            else:
                high = middle
        if low < self.count and self.by_id[low].line_item_id == line_item_id:
            return self.by_id[low].rank
        return NO_RANK


cdef Directory directory_of(const Tables* tables):
    cdef Directory directory = Directory.__new__(Directory)
    cdef uint32_t rank
    directory.count = tables.counts[LINES]
    directory.by_id = <Entry*> _room(directory.count, sizeof(Entry))
    with nogil:
        for rank in range(directory.count):
            directory.by_id[rank].line_item_id = tables.lines[rank].line_item_id
            directory.by_id[rank].rank = rank
        qsort(directory.by_id, directory.count, sizeof(Entry), &_compare)
    return directory


cdef int _compare(const void* one, const void* other) noexcept nogil:
    cdef int64_t left = (<const Entry*> one).line_item_id
    cdef int64_t right = (<const Entry*> other).line_item_id
    return (left > right) - (left < right)


@cython.final
@cython.auto_pickle(False)
cdef class Plan:
    def __init__(self):
        raise TypeError("made by Index.plan")

    def __dealloc__(self):
        PyMem_RawFree(self.standing.rates)
        PyMem_RawFree(self.standing.ecpms)
        PyMem_RawFree(self.standing.ppms)
        PyMem_RawFree(self.standing.multipliers)
        PyMem_RawFree(self.standing.scores)
        PyMem_RawFree(self.standing.bounds)
        PyMem_RawFree(self.standing.ecpm_bounds)
        PyMem_RawFree(self.standing.stopped)

    cdef int allocate(self, const Tables* tables, bint rated, bint scored) except -1:
        """Make room, and let everybody stand as booked."""
        cdef Standing* standing = &self.standing
        cdef uint32_t lines = tables.counts[LINES]
        cdef uint32_t rank
        standing.stopped = <uint64_t*> _room(lines // 64 + 1, sizeof(uint64_t))
        if rated:
            standing.rates = <uint32_t*> _room(lines, sizeof(uint32_t))
            with nogil:
                for rank in range(lines):
                    standing.rates[rank] = PPM
        if scored:
            standing.ecpms = <int64_t*> _room(lines, sizeof(int64_t))
            standing.ppms = <uint32_t*> _room(lines, sizeof(uint32_t))
            standing.multipliers = <uint32_t*> _room(lines, sizeof(uint32_t))
            standing.scores = <int64_t*> _room(lines, sizeof(int64_t))
            standing.bounds = <int64_t*> _room(tables.row_words // BLOCK_WORDS, sizeof(int64_t))
            standing.ecpm_bounds = <int64_t*> _room(
                tables.row_words // BLOCK_WORDS, sizeof(int64_t))
            with nogil:
                for rank in range(lines):
                    standing.ecpms[rank] = tables.lines[rank].ecpm_micros
                    standing.ppms[rank] = _settings(tables, &tables.lines[rank]).ppm
                    standing.multipliers[rank] = PPM
        return 0

    cdef void follow(self, LiveRows* rows) noexcept:
        rows.following = self.rows
        self.rows = rows

    cdef void forget(self, LiveRows* rows) noexcept:
        cdef LiveRows** link = &self.rows
        while link[0] != NULL and link[0] != rows:
            link = &link[0].following
        if link[0] != NULL:
            link[0] = rows.following


cdef Plan plan_of(
    object index, const Tables* tables, Directory directory, object line_items, object rates_ppm,
    object multipliers_ppm, object probabilities_ppm
):
    cdef Plan plan = Plan.__new__(Plan)
    cdef const int64_t[::1] ids = _numbers(line_items)
    cdef const int64_t[::1] rates = _numbers(rates_ppm)
    cdef const int64_t[::1] multipliers = _numbers(multipliers_ppm)
    cdef const int64_t[::1] probabilities = _numbers(probabilities_ppm)
    cdef bint scored = multipliers is not None or probabilities is not None
    cdef Said said
    plan.index = index
    plan.allocate(tables, rates is not None, scored)
    said.count = ids.shape[0]
    said.ids = &ids[0] if said.count else NULL
    said.rates = _values(rates, said.count)
    said.multipliers = _values(multipliers, said.count)
    said.probabilities = _values(probabilities, said.count)
    said.place = 0
    said.fault = NULL
    # Requests are answered meanwhile: among 100,000 line items it takes some 10 ms.
    with nogil:
        plan.unknown = _enter(&plan.standing, tables, directory, &said)
        if scored and said.fault == NULL:
            _score(&plan.standing, tables)
    if said.fault != NULL:
        raise ValueError(
            f"{said.fault.decode()}[{said.place}]: {said.number} is not from 0 to {said.number_max}"
        )
    return plan


cdef object _numbers(object given):
    """As int64 in a row: buffers of such numbers are read where they lie."""
    if given is None:
        return None
    if PyObject_CheckBuffer(given):
        view = memoryview(given)
        if view.format in ("q", "l") and view.ndim == 1 and view.c_contiguous:
            return view
        given = view.tolist()
    return array.array("q", given)


cdef const int64_t* _values(const int64_t[::1] given, Py_ssize_t count) except? NULL:
    if given is None:
        return NULL
    if given.shape[0] != count:
        raise ValueError(f"{given.shape[0]} numbers for {count} line items")
    return &given[0] if count else NULL


cdef uint32_t _enter(
    Standing* standing, const Tables* tables, Directory directory, Said* said
) noexcept nogil:
    """Let line items stand as is said of them, until something is at fault; how many are unknown.

    Each number is read once: another thread may write to the buffer meanwhile.
    """
    cdef uint32_t unknown = 0
    cdef uint32_t rank
    cdef int64_t ppm
    while said.place < said.count:
        rank = directory.rank(said.ids[said.place])
        unknown += rank == NO_RANK
        if said.rates != NULL:
            ppm = _ppm_of(said, said.rates[said.place], PPM, "rates_ppm")
            if ppm >= 0 and rank != NO_RANK:
                standing.rates[rank] = <uint32_t> ppm
        if said.multipliers != NULL:
            ppm = _ppm_of(
                said, said.multipliers[said.place], MULTIPLIER_PPM_MAX, "multipliers_ppm")
            if ppm >= 0 and rank != NO_RANK:
                standing.multipliers[rank] = <uint32_t> ppm
        if said.probabilities != NULL:
            ppm = said.probabilities[said.place]
            if ppm != AS_BOOKED:
                ppm = _ppm_of(said, ppm, PPM, "probabilities_ppm")
            if ppm >= 0 and rank != NO_RANK and _settings(tables, &tables.lines[rank]).by_event:
                standing.ppms[rank] = <uint32_t> ppm
                standing.ecpms[rank] = _worth(
                    tables.lines[rank].price_micros, <uint32_t> ppm, <int64_t> ECPM_MAX)
        if said.fault != NULL:
            break
        said.place += 1
    return unknown


cdef inline int64_t _ppm_of(
    Said* said, int64_t number, int64_t number_max, const char* what
) noexcept nogil:
    """The number, or -1 when it is the fault of what is said."""
    if 0 <= number <= number_max:
        return number
    if said.fault == NULL:
        said.fault = what
        said.number = number
        said.number_max = number_max
    return -1


cdef void _score(Standing* standing, const Tables* tables) noexcept nogil:
    """Work out scores and bounds from eCPMs and multipliers."""
    cdef uint32_t rank, row = tables.row_count
    cdef int64_t bound = -1, ecpm_bound = -1
    cdef const Tier* tier = NULL
    cdef const Tier* tier_below = NULL
    for rank in range(tables.counts[LINES]):
        if not _tier(tables, &tables.lines[rank]).lottery:
            standing.scores[rank] = _share(standing.ecpms[rank], standing.multipliers[rank])
    while row:
        row -= 1
        rank = tables.row_ranks[row]
        tier = _tier(tables, &tables.lines[rank])
        if tier != tier_below:
            bound = ecpm_bound = -1
            tier_below = tier
        bound = max(bound, standing.scores[rank])
        ecpm_bound = max(ecpm_bound, standing.ecpms[rank])
        if row % BLOCK_ROWS == 0:
            standing.bounds[row // BLOCK_ROWS] = bound
            standing.ecpm_bounds[row // BLOCK_ROWS] = ecpm_bound
