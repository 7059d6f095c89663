# Why each line item did not win, by the same tables that the winners came from.

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from adcore.choosing cimport Choice

# In the order in which they are looked for; what each means is in `reasons.py`.
cpdef enum:
    WON = 0
    PAUSED = 1
    FLIGHT = 2
    STOPPED = 3
    DAYPART = 4
    TARGETING = 5
    THROTTLED = 6
    CAPPED = 7
    CREATIVE = 8
    FLOOR = 9
    LABEL = 10
    OUTRANKED = 11
    DRAW = 12
    REASON_COUNT = 13

cdef enum:
    NO_DETAIL = 0xFFFFFFFF

# `reasons` and `details` have an entry for each rank. A detail is the space that targeting failed
# in, or the rank of the winner that stood in the way.
cdef void _judge(
    Choice* choice, const uint64_t* live, int64_t now_s, uint8_t* reasons, uint32_t* details
) noexcept nogil
