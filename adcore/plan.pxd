# How lines stand now, over and above how they were booked.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from adcore.tables cimport Tables

cpdef enum:
    PPM = 1_000_000
    # A bid may be raised to so much of itself; more, and a score would not fit into 63 bits.
    MULTIPLIER_PPM_MAX = 8_000_000
    AS_BOOKED = -1  # in a probability's place

# By rank. NULL: nobody is throttled; nobody's score is other than the eCPM that was booked.
cdef struct Standing:
    uint32_t* rates         # share of requests a line takes part in, ppm
    int64_t* ecpms
    uint32_t* ppms
    uint32_t* multipliers   # ppm
    int64_t* scores         # eCPM x multiplier; 0 in a lottery
    # By block of BLOCK_ROWS rows: the highest score from its first row to the end of that row's
    # priority. Whoever is above it is outbid by nobody who comes later.
    int64_t* bounds
    int64_t* ecpm_bounds    # likewise the highest eCPM: below a floor, nobody follows
    uint64_t* stopped       # a bit a rank

# The rows of one Live, which a stop changes in place.
cdef struct LiveRows:
    uint64_t* bitmap        # what serves: due, and not stopped
    uint64_t* due           # what would serve at its second if nothing were stopped
    LiveRows* following     # of the same plan

cdef enum:
    NO_RANK = 0xFFFFFFFF

cdef struct Entry:
    int64_t line_item_id
    uint32_t rank

cdef class Directory:
    cdef Entry* by_id
    cdef uint32_t count

    cdef uint32_t rank(self, int64_t line_item_id) noexcept nogil

cdef class Plan:
    cdef readonly object index
    cdef readonly uint32_t unknown
    cdef Standing standing
    cdef LiveRows* rows     # of every Live that has it
    cdef uint32_t changes   # stops and resumes so far

    cdef int allocate(self, const Tables* tables, bint rated, bint scored) except -1
    cdef void follow(self, LiveRows* rows) noexcept
    cdef void forget(self, LiveRows* rows) noexcept

cdef Directory directory_of(const Tables* tables)
cdef Plan plan_of(
    object index, const Tables* tables, Directory directory, object line_items, object rates_ppm,
    object multipliers_ppm, object probabilities_ppm)
cdef void _score(Standing* standing, const Tables* tables) noexcept nogil

cdef inline bint _stopped(const Standing* standing, uint32_t rank) noexcept nogil:
    return standing.stopped[rank >> 6] >> (rank & 63) & 1 \
        or (standing.rates != NULL and not standing.rates[rank])
