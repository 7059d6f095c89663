"""How lines stand now, over and above how they were booked: stops, rates, bids and probabilities.

A plan is made in one piece and then only stops change. The catalog is ordered by what was booked;
where scores say otherwise, the bounds tell how far a request must read on.
"""

cimport cython
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport qsort

from adcore.tables cimport (
    BLOCK_ROWS, BLOCK_WORDS, ECPM_MAX, LINES, Tables, Tier, _deal, _tier,
)

cdef extern from *:
    """
    #include <stdint.h>
    __extension__ typedef unsigned __int128 adcore_uint128_plan;

    static inline int64_t adcore_share(int64_t micros, uint32_t ppm) {
        return (int64_t)((adcore_uint128_plan)micros * ppm / 1000000);
    }
    static inline int64_t adcore_worth(int64_t micros, uint32_t ppm, int64_t most) {
        adcore_uint128_plan ecpm = (adcore_uint128_plan)micros * ppm / 1000;
        return ecpm < (adcore_uint128_plan)most ? (int64_t)ecpm : most;
    }
    """
    int64_t _worth_most "adcore_worth"(int64_t micros, uint32_t ppm, int64_t most) noexcept nogil
    int64_t _share "adcore_share"(int64_t micros, uint32_t ppm) noexcept nogil


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
            for rank in range(lines):
                standing.ecpms[rank] = tables.lines[rank].ecpm_micros
                standing.ppms[rank] = _deal(tables, &tables.lines[rank]).ppm
                standing.multipliers[rank] = PPM
        return 0

    cdef void follow(self, Rows* rows) noexcept:
        rows.following = self.rows
        self.rows = rows

    cdef void forget(self, Rows* rows) noexcept:
        cdef Rows** link = &self.rows
        while link[0] != NULL and link[0] != rows:
            link = &link[0].following
        if link[0] != NULL:
            link[0] = rows.following


cdef Plan plan_of(
    object index, const Tables* tables, Directory directory, object line_items, object rates_ppm,
    object multipliers_ppm, object probabilities_ppm
):
    cdef Plan plan = Plan.__new__(Plan)
    cdef Standing* standing = &plan.standing
    cdef bint scored = multipliers_ppm is not None or probabilities_ppm is not None
    cdef Py_ssize_t place
    cdef uint32_t rank, ppm
    plan.index = index
    plan.allocate(tables, rates_ppm is not None, scored)
    for given in (rates_ppm, multipliers_ppm, probabilities_ppm):
        if given is not None and len(given) != len(line_items):
            raise ValueError(f"{len(given)} numbers for {len(line_items)} line items")
    for place in range(len(line_items)):
        rank = directory.rank(line_items[place])
        if rank == NO_RANK:
            plan.unknown += 1
            continue
        if rates_ppm is not None:
            standing.rates[rank] = _ppm_of(rates_ppm, place, PPM, "rates_ppm")
        if multipliers_ppm is not None:
            standing.multipliers[rank] = _ppm_of(
                multipliers_ppm, place, MULTIPLIER_PPM_MAX, "multipliers_ppm")
        if probabilities_ppm is not None:
            ppm = _ppm_of(probabilities_ppm, place, PPM, "probabilities_ppm")
            if _deal(tables, &tables.lines[rank]).by_event:
                standing.ppms[rank] = ppm
                standing.ecpms[rank] = _worth(tables.lines[rank].price_micros, ppm)
    if scored:
        with nogil:
            _score(standing, tables)
    return plan


cdef inline int64_t _worth(int64_t price_micros, uint32_t ppm) noexcept nogil:
    """The eCPM of a price for each of so many events a million impressions."""
    return _worth_most(price_micros, ppm, <int64_t> ECPM_MAX)


cdef inline uint32_t _ppm_of(
    object numbers, Py_ssize_t place, uint32_t ppm_max, str what
) except? 0xFFFFFFFF:
    number = numbers[place]
    if not 0 <= number <= ppm_max:
        raise ValueError(f"{what}[{place}]: {number} is not from 0 to {ppm_max}")
    return number


cdef void* _room(size_t count, size_t size) except NULL:
    cdef void* room = PyMem_RawCalloc(count + 1, size)
    if room == NULL:
        raise MemoryError
    return room


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
