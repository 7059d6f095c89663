# From matching rows to winners: groups, weighted draws, labels, ads and clear prices.

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from adcore.limits cimport (
    BLOCKED_MAX, CAPPED_HERE_MAX, CAPPED_MAX, PLACEMENTS_MAX, REQUEST_FEATURES_MAX,
    REQUEST_VALUES_MAX, WINNERS_MAX,
)
from adcore.interning cimport Batch
from adcore.matching cimport Matcher
from adcore.plan cimport Standing
from adcore.tables cimport Line, Tables, Tier, _settings

# What a select counts of the rows in the blocks that it looked at; the others came after its last
# winner. Of a line item's several rows only the first that matches is counted.
cdef enum:
    SEEN_ROWS = 0
    SEEN_LIVE = 1
    SEEN_MATCHING = 2   # of the live ones, by columns
    SEEN_CHECK = 3      # of the matching ones: a check failed
    SEEN_THROTTLED = 4
    SEEN_CAPPED = 5
    SEEN_FLOOR = 6
    SEEN_LABEL = 7
    SEEN_CREATIVE = 8
    SEEN_WON = 9
    SEEN_COUNT = 10
    OUTCOME_COUNT = 9   # index.OUTCOMES: what they come to

cdef enum:
    NO_WINNER = 0xFFFFFFFF

cdef struct Number:
    uint32_t key
    double value

# A request as the kernels see it. The placement's own features and numbers follow the request's.
cdef struct Context:
    Batch batch                 # values that wait to become features
    uint32_t features[REQUEST_FEATURES_MAX]
    uint32_t feature_count
    Number numbers[REQUEST_VALUES_MAX]
    uint32_t number_count
    uint32_t key_value_count    # values of all keys, of which some are numbers
    int64_t blocked[BLOCKED_MAX]
    uint32_t blocked_count
    int64_t capped[CAPPED_MAX]  # line item ids, rising
    uint32_t capped_count
    int64_t capped_here[CAPPED_HERE_MAX]    # in this placement, in no order
    uint32_t capped_here_count
    int64_t ad_types[REQUEST_VALUES_MAX]
    uint32_t ad_type_count
    int64_t floor_micros
    uint32_t wanted
    uint32_t placement
    uint64_t draw

cdef struct Winner:
    uint32_t rank
    uint32_t ad
    int64_t clear_price_micros
    int64_t clear_ecpm_micros

# Everything that one select changes; one an Index, because a request must not allocate.
cdef struct Choice:
    const Tables* tables
    Context context
    Matcher matcher
    Winner winners[PLACEMENTS_MAX * WINNERS_MAX]
    uint32_t winner_count       # of the request
    uint64_t* asked             # per feature a bit, all zero but while rows are read one by one
    uint8_t* labels_taken       # per label: did a winner of the request take it?
    uint32_t* candidates        # ranks in the running within the open group, in line order
    uint32_t candidate_count
    uint64_t candidate_weight
    uint32_t winner_first       # of this placement
    uint32_t pending            # the winner whose price waits for the next best line, or NO_WINNER
    const Standing* standing
    uint32_t* held              # ranks that wait by score; see rescoring.pyx
    uint32_t held_count
    const Tier* held_tier       # the priority that rows are arriving of
    const Tier* tier            # of the open group; NULL: none is open
    int64_t key                 # of the open group, among those of its priority
    uint32_t group_row_end      # of the open group, if rows arrive in the order of groups
    uint32_t rank               # the last rank that was settled, so that its other rows are skipped
    uint32_t row_skip           # rows before this one can't win any more
    int64_t seen[SEEN_COUNT]    # of the request

cdef inline int64_t _ecpm(const Choice* choice, uint32_t rank) noexcept nogil:
    if choice.standing.ecpms != NULL:
        return choice.standing.ecpms[rank]
    return choice.tables.lines[rank].ecpm_micros

cdef inline uint32_t _ppm(const Choice* choice, uint32_t rank) noexcept nogil:
    if choice.standing.ppms != NULL:
        return choice.standing.ppms[rank]
    return _settings(choice.tables, &choice.tables.lines[rank]).ppm

cdef inline int64_t _key(const Choice* choice, uint32_t rank) noexcept nogil:
    """What lines of one priority are equals by: the higher goes first."""
    if choice.standing.scores != NULL:
        return choice.standing.scores[rank]
    return -<int64_t> choice.tables.lines[rank].group

cdef inline bint _capped(const Choice* choice, uint32_t rank) noexcept nogil:
    """Whether the request leaves a line out, everywhere or in this placement."""
    cdef const Context* context = &choice.context
    cdef int64_t line_item_id = choice.tables.lines[rank].line_item_id
    cdef uint32_t low = 0, high = context.capped_count
    cdef uint32_t middle
    while low < high:
        middle = low + (high - low) // 2
        if context.capped[middle] < line_item_id:
            low = middle + 1
        else:
            high = middle
    if low < context.capped_count and context.capped[low] == line_item_id:
        return True
    for middle in range(context.capped_here_count):
        if context.capped_here[middle] == line_item_id:
            return True
    return False

cdef bint _throttled(const Choice* choice, uint32_t rank) noexcept nogil
cdef bint _servable(const Choice* choice, const Line* line) noexcept nogil
cdef void _fill(Choice* choice) noexcept nogil
cdef void _outcomes(const int64_t* seen, int64_t* outcomes) noexcept nogil
cdef void _forget_labels(Choice* choice) noexcept nogil
