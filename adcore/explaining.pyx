"""Why each line item did not win, by the same tables that the winners came from.

Called when a placement has its winners, and once for each. It reads every line item: for people
who ask, not for each request.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from adcore.checking cimport _failing_space, _mark, _unmark
from adcore.choosing cimport Choice, _capped, _ecpm, _key, _servable, _throttled
from adcore.plan cimport _stopped
from adcore.tables cimport LINES, Settings, Line, Tier, _settings, _tier


cdef void _judge(
    Choice* choice, const uint64_t* live, int64_t now_s, uint8_t* reasons, uint32_t* details
) noexcept nogil:
    cdef uint32_t row = 0
    cdef uint32_t rank, row_first
    _mark(choice)
    for rank in range(choice.tables.counts[LINES]):
        row_first = row
        while row < choice.tables.row_count and choice.tables.row_ranks[row] == rank:
            row += 1
        details[rank] = NO_DETAIL
        reasons[rank] = _closed(_settings(choice.tables, &choice.tables.lines[rank]), now_s)
        if reasons[rank]:
            continue
        if _stopped(choice.standing, rank):
            reasons[rank] = STOPPED
            continue
        # A line whose rows are not live although its flight is on: it is not its hour.
        if row_first < row and not live[row_first >> 6] >> (row_first & 63) & 1:
            reasons[rank] = DAYPART
        elif not _targeted(choice, row_first, row, &details[rank]):
            reasons[rank] = TARGETING
        elif _throttled(choice, rank):
            reasons[rank] = THROTTLED
        elif _capped(choice, rank):
            reasons[rank] = CAPPED
        else:
            reasons[rank] = _lost(choice, rank, &details[rank])
    _unmark(choice)


cdef inline uint8_t _closed(const Settings* settings, int64_t now_s) noexcept nogil:
    if settings.start_s >= settings.end_s:
        return PAUSED  # the booking's way to say so
    return 0 if settings.start_s <= now_s < settings.end_s else FLIGHT


cdef bint _targeted(
    const Choice* choice, uint32_t row_first, uint32_t row_end, uint32_t* space
) noexcept nogil:
    """Whether a row holds; else the space that fails in the row that comes nearest to holding."""
    cdef uint32_t row, failing, failing_space
    cdef uint32_t nearest_space = NO_DETAIL
    cdef uint32_t fewest = NO_DETAIL
    for row in range(row_first, row_end):
        failing = _failing_space(choice, row, &failing_space)
        if not failing:
            return True
        if failing < fewest:
            fewest = failing
            nearest_space = failing_space
    space[0] = nearest_space
    return False


cdef uint8_t _lost(const Choice* choice, uint32_t rank, uint32_t* by) noexcept nogil:
    """Why a line whose targeting is met did not win; `by` is the rank of who did."""
    cdef const Line* line = &choice.tables.lines[rank]
    cdef uint32_t winner, last = choice.winner_count - 1
    cdef bint full
    for winner in range(choice.winner_first, choice.winner_count):
        if choice.winners[winner].rank == rank:
            return WON
    if not _servable(choice, line):
        return CREATIVE
    if _ecpm(choice, rank) < choice.context.floor_micros:
        return FLOOR
    full = choice.winner_count - choice.winner_first == choice.context.wanted
    if full and _before(choice, choice.winners[last].rank, rank):
        by[0] = choice.winners[last].rank
        return OUTRANKED
    # The last winner's labels kept nobody out: with it the placement was full.
    if not full or _before(choice, rank, choice.winners[last].rank):
        last = choice.winner_count
    for winner in range(last):
        if _share_label(choice, line, &choice.tables.lines[choice.winners[winner].rank]):
            by[0] = choice.winners[winner].rank
            return LABEL
    if choice.winner_count:  # a sound index has somebody who won instead
        by[0] = choice.winners[choice.winner_count - 1].rank
    return DRAW


cdef bint _before(const Choice* choice, uint32_t one, uint32_t other) noexcept nogil:
    """Whether a line had its turn before another one: equals have it together."""
    cdef const Tier* tier = _tier(choice.tables, &choice.tables.lines[one])
    cdef const Tier* other_tier = _tier(choice.tables, &choice.tables.lines[other])
    return tier < other_tier or (
        tier == other_tier and _key(choice, one) > _key(choice, other))


cdef bint _share_label(const Choice* choice, const Line* line, const Line* other) noexcept nogil:
    cdef const uint32_t* labels = choice.tables.labels
    cdef const Settings* settings = _settings(choice.tables, line)
    cdef const Settings* other_settings = _settings(choice.tables, other)
    cdef uint32_t own, others
    for own in range(settings.label_first, settings.label_first + settings.label_count):
        for others in range(
            other_settings.label_first, other_settings.label_first + other_settings.label_count
        ):
            if labels[own] == labels[others]:
                return True
    return False
