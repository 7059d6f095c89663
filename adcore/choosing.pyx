"""From matching rows to winners: groups, weighted draws, labels, ads and clear prices.

Rows arrive best first. The rows of a line are adjacent and those of a group are a run, so a group
is closed, and its winners drawn, when a row of the next one arrives or its end has been passed.
The placement is settled once it has its winners and each of them its price: no later row can change
that. A second price may need one more line of the same priority. The winner is pending until then,
and only the last winner can be: another one must be in the running first, and that gives the price.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from adcore.bits cimport _count
from adcore.matching cimport MATCH_WORDS_MAX, SMALL_BLOCKS, _match
from adcore.tables cimport BLOCK_ROWS, BLOCK_WORDS, RANGES, Ad, Group, Line, Range

cdef extern from *:
    """
    #include <stdint.h>
    __extension__ typedef unsigned __int128 adcore_uint128;

    static inline uint64_t adcore_scale(uint64_t hashed, uint64_t total) {
        return (uint64_t)(((adcore_uint128)hashed * total) >> 64);
    }
    static inline uint64_t adcore_convert(uint64_t ecpm_micros, uint32_t ppm) {
        return (uint64_t)(((adcore_uint128)ecpm_micros * 1000 + ppm - 1) / ppm);
    }
    """
    uint64_t _scale "adcore_scale"(uint64_t hashed, uint64_t total) noexcept nogil
    # A clear eCPM in the unit of the rate, rounded up.
    uint64_t _convert "adcore_convert"(uint64_t ecpm_micros, uint32_t ppm) noexcept nogil
    int _lowest_bit "__builtin_ctzll"(unsigned long long bits) noexcept nogil

cdef enum:
    NO_GROUP = 0xFFFFFFFF
    NO_RANK = 0xFFFFFFFF
    NO_WINNER = 0xFFFFFFFF
    PURPOSE_LINE = 0
    PURPOSE_AD = 1


# -- draws -----------------------------------------------------------------------------------------


cdef inline uint64_t _splitmix64(uint64_t state) noexcept nogil:
    state += <uint64_t> 0x9E3779B97F4A7C15
    state = (state ^ (state >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    state = (state ^ (state >> 27)) * <uint64_t> 0x94D049BB133111EB
    return state ^ (state >> 31)


cdef inline uint64_t _draw(const Choice* choice, uint32_t purpose, uint64_t total) noexcept nogil:
    """Draw from [0, total) for the placement's next winner."""
    cdef uint64_t hashed = _splitmix64(choice.context.draw ^ choice.context.placement)
    hashed = _splitmix64(hashed ^ (choice.winner_count - choice.winner_first))
    return _scale(_splitmix64(hashed ^ purpose), total)


# -- what a line must have -------------------------------------------------------------------------


cdef inline bint _eligible(const Choice* choice, const Ad* ad) noexcept nogil:
    cdef const Context* context = &choice.context
    cdef uint32_t place
    for place in range(context.blocked_count):
        if context.blocked[place] == ad.creative_id:
            return False
    for place in range(context.ad_type_count):
        if context.ad_types[place] == ad.ad_type_id:
            return True
    return context.ad_type_count == 0


cdef bint _servable(const Choice* choice, const Line* line) noexcept nogil:
    cdef uint32_t ad
    if choice.context.ad_type_count == 0 and choice.context.blocked_count == 0:
        return True
    for ad in range(line.ad_first, line.ad_first + line.ad_count):
        if _eligible(choice, &choice.tables.ads[ad]):
            return True
    return False


cdef uint32_t _drawn_ad(const Choice* choice, const Line* line) noexcept nogil:
    cdef const Ad* ads = choice.tables.ads
    cdef uint64_t total = 0
    cdef uint64_t drawn
    cdef uint32_t ad
    for ad in range(line.ad_first, line.ad_first + line.ad_count):
        if _eligible(choice, &ads[ad]):
            total += ads[ad].weight
    drawn = _draw(choice, PURPOSE_AD, total)
    for ad in range(line.ad_first, line.ad_first + line.ad_count):
        if _eligible(choice, &ads[ad]):
            if drawn < ads[ad].weight:
                return ad
            drawn -= ads[ad].weight
    return line.ad_first  # not reached: the weights add up to total


cdef inline bint _conflicts(const Choice* choice, const Line* line) noexcept nogil:
    cdef uint32_t place
    for place in range(line.label_first, line.label_first + line.label_count):
        if choice.labels_taken[choice.tables.labels[place]]:
            return True
    return False


cdef bint _in_range(const Choice* choice, const Range* range_) noexcept nogil:
    cdef const Context* context = &choice.context
    cdef uint32_t place
    cdef double value
    for place in range(context.number_count):
        value = context.numbers[place].value
        # Without an upper bound infinity is inside; NaN is in no range, as it compares false.
        if context.numbers[place].key == range_.key and range_.at_least <= value \
                and (value < range_.below or range_.below == INFINITY):
            return not range_.negated
    return range_.negated


cdef bint _in_ranges(const Choice* choice, uint32_t row) noexcept nogil:
    cdef uint32_t number
    for number in range(choice.tables.range_firsts[row], choice.tables.range_firsts[row + 1]):
        if not _in_range(choice, &choice.tables.ranges[number]):
            return False
    return True


# -- prices ----------------------------------------------------------------------------------------


cdef inline void _price(Choice* choice, uint32_t winner, int64_t ecpm_micros) noexcept nogil:
    """Set the clear price from what the line next in the running makes it: never above its own."""
    cdef const Line* line = &choice.tables.lines[choice.winners[winner].rank]
    cdef int64_t clear = min(max(ecpm_micros, choice.context.floor_micros), line.ecpm_micros)
    cdef int64_t price = <int64_t> _convert(<uint64_t> clear, line.ppm)
    choice.winners[winner].clear_price_micros = min(price, line.price_micros)


cdef inline void _price_pending(Choice* choice, int64_t ecpm_micros) noexcept nogil:
    if choice.pending != NO_WINNER:
        _price(choice, choice.pending, ecpm_micros)
        choice.pending = NO_WINNER


# -- groups ----------------------------------------------------------------------------------------


cdef inline bint _full(const Choice* choice) noexcept nogil:
    return choice.winner_count - choice.winner_first == choice.context.wanted


cdef inline bint _settled(const Choice* choice) noexcept nogil:
    return _full(choice) and choice.pending == NO_WINNER


cdef void _keep_running(Choice* choice, uint32_t taken) noexcept nogil:
    """Drop the winner and everyone who shares a label with it from the open group."""
    cdef uint32_t kept = 0
    cdef uint32_t place, rank
    cdef const Line* line
    choice.candidate_weight = 0
    for place in range(choice.candidate_count):
        rank = choice.candidates[place]
        line = &choice.tables.lines[rank]
        if rank == taken:
            continue
        if _conflicts(choice, line):
            choice.seen[SEEN_LABEL] += 1
            continue
        choice.candidates[kept] = rank
        choice.candidate_weight += line.weight
        kept += 1
    choice.candidate_count = kept


cdef void _take(Choice* choice) noexcept nogil:
    """Draw one winner from the open group, which has a candidate, and its ad."""
    cdef const Line* lines = choice.tables.lines
    cdef uint64_t drawn = _draw(choice, PURPOSE_LINE, choice.candidate_weight)
    cdef uint32_t place = 0
    cdef uint32_t winner = choice.winner_count
    cdef uint32_t rank, label
    cdef const Line* line
    while drawn >= lines[choice.candidates[place]].weight:
        drawn -= lines[choice.candidates[place]].weight
        place += 1
    rank = choice.candidates[place]
    line = &lines[rank]
    choice.winners[winner].rank = rank
    choice.winners[winner].ad = _drawn_ad(choice, line)
    choice.winners[winner].clear_price_micros = line.price_micros
    choice.winner_count += 1
    choice.seen[SEEN_WON] += 1
    for label in range(line.label_first, line.label_first + line.label_count):
        choice.labels_taken[choice.tables.labels[label]] = True
    _keep_running(choice, rank)
    if not choice.tables.header.second_price or choice.tables.groups[line.group].lottery \
            or not line.ppm:
        return
    if choice.candidate_count:
        _price(choice, winner, line.ecpm_micros)  # an equal is still in the running
    else:
        choice.pending = winner


cdef inline bint _close(Choice* choice) noexcept nogil:
    """Draw the open group's winners; true: the placement is settled."""
    while choice.candidate_count and not _full(choice):
        _take(choice)
    choice.candidate_count = 0
    choice.candidate_weight = 0
    return _settled(choice)


cdef bint _offer(Choice* choice, uint32_t row) noexcept nogil:
    """Take a matching row into account; true: the placement is settled."""
    cdef uint32_t rank = choice.tables.row_ranks[row]
    cdef const Line* line = &choice.tables.lines[rank]
    cdef const Group* group = &choice.tables.groups[line.group]
    if rank == choice.rank:
        choice.seen[SEEN_ROWS] -= 1
        choice.seen[SEEN_LIVE] -= 1
        choice.seen[SEEN_MATCHING] -= 1
        return False
    if row < choice.row_skip:
        choice.seen[SEEN_FLOOR] += 1
        return False
    if choice.tables.counts[RANGES] and not _in_ranges(choice, row):
        choice.seen[SEEN_RANGE] += 1
        return False
    choice.rank = rank
    if line.group != choice.group:
        if _close(choice):
            return True
        if choice.group != NO_GROUP \
                and choice.tables.groups[choice.group].tier_row_end != group.tier_row_end:
            # Nobody was left to outbid in the last priority: the floor is the price.
            _price_pending(choice, choice.context.floor_micros)
            if _full(choice):
                return True
        choice.group = line.group
    if line.ecpm_micros < choice.context.floor_micros:
        choice.seen[SEEN_FLOOR] += 1
        if not group.lottery:
            # Everything that follows in this priority is below the floor as well.
            choice.row_skip = group.tier_row_end
            return _full(choice)
        return False
    if _conflicts(choice, line):
        choice.seen[SEEN_LABEL] += 1
        return False
    if not _servable(choice, line):
        choice.seen[SEEN_CREATIVE] += 1
        return False
    _price_pending(choice, line.ecpm_micros + 1)
    choice.candidates[choice.candidate_count] = rank
    choice.candidate_count += 1
    choice.candidate_weight += line.weight
    return _full(choice)


cdef inline bint _passed(Choice* choice, uint32_t row) noexcept nogil:
    """Close what ends before `row`; true: the placement is settled."""
    cdef const Group* group
    if choice.group == NO_GROUP:
        return False
    group = &choice.tables.groups[choice.group]
    if row >= group.row_end and _close(choice):
        return True
    return row >= group.tier_row_end and _full(choice)


cdef inline void _count_seen(
    Choice* choice, uint32_t word, uint32_t words, const uint64_t* rows
) noexcept nogil:
    choice.seen[SEEN_ROWS] += min(words * 64, choice.tables.row_count - word * 64)
    choice.seen[SEEN_LIVE] += _count(choice.matcher.plain[0] + word, words)
    choice.seen[SEEN_MATCHING] += _count(rows, words)


cdef void _outcomes(const int64_t* seen, int64_t* outcomes) noexcept nogil:
    """What became of the rows looked at, in the order of `index.OUTCOMES`; they add up to all."""
    cdef int64_t refused = seen[SEEN_RANGE] + seen[SEEN_FLOOR] + seen[SEEN_LABEL] \
        + seen[SEEN_CREATIVE]
    outcomes[0] = seen[SEEN_WON]
    outcomes[1] = seen[SEEN_ROWS] - seen[SEEN_LIVE]
    outcomes[2] = seen[SEEN_LIVE] - seen[SEEN_MATCHING] + seen[SEEN_RANGE]
    outcomes[3] = seen[SEEN_FLOOR]
    outcomes[4] = seen[SEEN_LABEL]
    outcomes[5] = seen[SEEN_CREATIVE]
    outcomes[6] = seen[SEEN_MATCHING] - refused - seen[SEEN_WON]


cdef void _fill(Choice* choice) noexcept nogil:
    """Find the winners of the placement in `choice.context`, whose plan is in `choice.matcher`."""
    cdef uint64_t[MATCH_WORDS_MAX] rows
    cdef uint32_t row_words = choice.tables.row_words
    cdef uint32_t word = 0
    cdef uint32_t block = 0
    cdef uint32_t words, place
    cdef uint64_t bits
    choice.candidate_count = 0
    choice.candidate_weight = 0
    choice.pending = NO_WINNER
    choice.winner_first = choice.winner_count
    choice.group = NO_GROUP
    choice.rank = NO_RANK
    choice.row_skip = 0
    while word < row_words:
        words = BLOCK_WORDS if block < SMALL_BLOCKS else MATCH_WORDS_MAX
        words = min(words, row_words - word)
        block += 1
        if not _match(&choice.matcher, word, words, rows):
            memset(rows, 0, words * sizeof(uint64_t))
        _count_seen(choice, word, words, rows)
        for place in range(words):
            bits = rows[place]
            while bits:
                if _offer(choice, (word + place) * 64 + <uint32_t> _lowest_bit(bits)):
                    _price_pending(choice, choice.context.floor_micros)
                    return
                bits &= bits - 1
        word = max(word + words, choice.row_skip // BLOCK_ROWS * BLOCK_WORDS)
        if _passed(choice, word * 64):
            break
    _close(choice)
    _price_pending(choice, choice.context.floor_micros)


cdef void _forget_labels(Choice* choice) noexcept nogil:
    """Undo the labels of the request's winners: cheaper than clearing every label."""
    cdef uint32_t winner, label
    cdef const Line* line
    for winner in range(choice.winner_count):
        line = &choice.tables.lines[choice.winners[winner].rank]
        for label in range(line.label_first, line.label_first + line.label_count):
            choice.labels_taken[choice.tables.labels[label]] = False
    choice.winner_count = 0
