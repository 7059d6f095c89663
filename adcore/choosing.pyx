"""From matching rows to winners: groups, weighted draws, labels, ads and clear prices.

Rows arrive best first. The rows of a line are adjacent and those of a group are a run, so a group
is closed, and its winners drawn, when a row of the next one arrives or its end has been passed.
The placement is settled once it has its winners and each of them its price: no later row can change
that. A second price may need one more line of the same priority. The winner is pending until then,
and only the last winner can be: another one must be in the running first, and that gives the price.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from adcore.arithmetic cimport _scale
from adcore.bits cimport _count
from adcore.checking cimport _checks_hold
from adcore.drawing cimport _splitmix64
from adcore.matching cimport MATCH_WORDS_MAX, SMALL_BLOCKS, _match
from adcore.plan cimport PPM
from adcore.pricing cimport _price, _price_pending, _price_pending_against
from adcore.rescoring cimport _pop, _push
from adcore.tables cimport (
    BLOCK_ROWS, BLOCK_WORDS, CHECKED_ROWS, Ad, Creative, Settings, Line, Tier, _settings, _tier,
)

cdef extern from *:
    int _lowest_bit "__builtin_ctzll"(unsigned long long bits) noexcept nogil

cdef enum:
    NO_RANK = 0xFFFFFFFF
    PURPOSE_LINE = 0
    PURPOSE_AD = 1
    PURPOSE_RATE = 2


# -- draws -----------------------------------------------------------------------------------------


cdef inline uint64_t _draw(const Choice* choice, uint32_t purpose, uint64_t total) noexcept nogil:
    """Draw from [0, total) for the placement's next winner."""
    cdef uint64_t hashed = _splitmix64(choice.context.draw ^ choice.context.placement)
    hashed = _splitmix64(hashed ^ (choice.winner_count - choice.winner_first))
    return _scale(_splitmix64(hashed ^ purpose), total)


cdef bint _throttled(const Choice* choice, uint32_t rank) noexcept nogil:
    """Whether a line sits this request out: the same in all of its placements."""
    cdef uint64_t hashed
    if choice.standing.rates == NULL or choice.standing.rates[rank] >= <uint32_t> PPM:
        return False
    hashed = _splitmix64(choice.context.draw ^ choice.tables.lines[rank].line_item_id)
    return _scale(_splitmix64(hashed ^ PURPOSE_RATE), PPM) >= choice.standing.rates[rank]


# -- what a line must have -------------------------------------------------------------------------


cdef inline bint _eligible(const Choice* choice, const Ad* ad) noexcept nogil:
    cdef const Context* context = &choice.context
    cdef const Creative* creative = &choice.tables.creatives[ad.creative]
    cdef uint32_t place
    for place in range(context.blocked_count):
        if context.blocked[place] == creative.creative_id:
            return False
    for place in range(context.ad_type_count):
        if context.ad_types[place] == creative.ad_type_id:
            return True
    return context.ad_type_count == 0


cdef bint _servable(const Choice* choice, const Line* line) noexcept nogil:
    cdef uint32_t ad
    if choice.context.ad_type_count == 0 and choice.context.blocked_count == 0:
        return True
    for ad in range(line.ad_first, line.ad_first + _settings(choice.tables, line).ad_count):
        if _eligible(choice, &choice.tables.ads[ad]):
            return True
    return False


cdef uint32_t _drawn_ad(const Choice* choice, const Line* line) noexcept nogil:
    cdef const Ad* ads = choice.tables.ads
    cdef uint64_t total = 0
    cdef uint64_t drawn
    cdef uint32_t ad
    for ad in range(line.ad_first, line.ad_first + _settings(choice.tables, line).ad_count):
        if _eligible(choice, &ads[ad]):
            total += ads[ad].weight
    drawn = _draw(choice, PURPOSE_AD, total)
    for ad in range(line.ad_first, line.ad_first + _settings(choice.tables, line).ad_count):
        if _eligible(choice, &ads[ad]):
            if drawn < ads[ad].weight:
                return ad
            drawn -= ads[ad].weight
    return line.ad_first  # not reached: the weights add up to total


cdef inline bint _conflicts(const Choice* choice, const Line* line) noexcept nogil:
    cdef const Settings* settings = _settings(choice.tables, line)
    cdef uint32_t place
    for place in range(settings.label_first, settings.label_first + settings.label_count):
        if choice.labels_taken[choice.tables.labels[place]]:
            return True
    return False


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
        choice.candidate_weight += _settings(choice.tables, line).weight
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
    cdef const Settings* settings
    while drawn >= _settings(choice.tables, &lines[choice.candidates[place]]).weight:
        drawn -= _settings(choice.tables, &lines[choice.candidates[place]]).weight
        place += 1
    rank = choice.candidates[place]
    line = &lines[rank]
    choice.winners[winner].rank = rank
    choice.winners[winner].ad = _drawn_ad(choice, line)
    choice.winners[winner].clear_price_micros = line.price_micros
    choice.winners[winner].clear_ecpm_micros = _ecpm(choice, rank)
    choice.winner_count += 1
    choice.seen[SEEN_WON] += 1
    settings = _settings(choice.tables, line)
    for label in range(settings.label_first, settings.label_first + settings.label_count):
        choice.labels_taken[choice.tables.labels[label]] = True
    _keep_running(choice, rank)
    if not choice.tables.header.second_price or _tier(choice.tables, line).lottery \
            or not _ppm(choice, rank):
        return
    if choice.candidate_count:
        _price(choice, winner, _ecpm(choice, rank))  # an equal is still in the running
    else:
        choice.pending = winner


cdef inline bint _close(Choice* choice) noexcept nogil:
    """Draw the open group's winners; true: the placement is settled."""
    while choice.candidate_count and not _full(choice):
        _take(choice)
    choice.candidate_count = 0
    choice.candidate_weight = 0
    return _settled(choice)


cdef bint _turn(Choice* choice, uint32_t rank) noexcept nogil:
    """Close the open group if the line is of another one; true: the placement is settled."""
    cdef const Line* line = &choice.tables.lines[rank]
    cdef const Tier* tier = _tier(choice.tables, line)
    cdef int64_t key = _key(choice, rank)
    if choice.tier == tier and choice.key == key:
        return False
    if _close(choice):
        return True
    if choice.tier != NULL and choice.tier != tier:
        # Nobody was left to outbid in the last priority: the floor is the price.
        _price_pending(choice, choice.context.floor_micros)
        if _full(choice):
            return True
    choice.tier = tier
    choice.key = key
    choice.group_row_end = choice.tables.groups[line.group].row_end
    return False


cdef bint _consider(Choice* choice, uint32_t rank) noexcept nogil:
    """Take the line that is next by rank, or by score; true: the placement is settled."""
    cdef const Line* line = &choice.tables.lines[rank]
    if _turn(choice, rank):
        return True
    if _ecpm(choice, rank) < choice.context.floor_micros:
        choice.seen[SEEN_FLOOR] += 1
        if not choice.tier.lottery:
            # Everything that follows in this priority is below the floor as well. Where scores make
            # the order, nobody comes here who is below it.
            choice.row_skip = choice.tier.row_end
            return _full(choice)
        return False
    if _conflicts(choice, line):
        choice.seen[SEEN_LABEL] += 1
        return False
    if not _servable(choice, line):
        choice.seen[SEEN_CREATIVE] += 1
        return False
    _price_pending_against(choice, rank)
    choice.candidates[choice.candidate_count] = rank
    choice.candidate_count += 1
    choice.candidate_weight += _settings(choice.tables, line).weight
    return _full(choice)


cdef bint _offer(Choice* choice, uint32_t row) noexcept nogil:
    """Take a matching row into account; true: the placement is settled."""
    cdef uint32_t rank = choice.tables.row_ranks[row]
    if rank == choice.rank:
        choice.seen[SEEN_ROWS] -= 1
        choice.seen[SEEN_LIVE] -= 1
        choice.seen[SEEN_MATCHING] -= 1
        return False
    if row < choice.row_skip:
        choice.seen[SEEN_FLOOR] += 1
        return False
    if choice.tables.counts[CHECKED_ROWS] and not _checks_hold(choice, row):
        choice.seen[SEEN_CHECK] += 1
        return False
    choice.rank = rank
    if _throttled(choice, rank):
        choice.seen[SEEN_THROTTLED] += 1
        return False
    if choice.context.capped_count + choice.context.capped_here_count and _capped(choice, rank):
        choice.seen[SEEN_CAPPED] += 1
        return False
    if choice.standing.scores == NULL:
        return _consider(choice, rank)
    return _hold(choice, rank)


# -- by score --------------------------------------------------------------------------------------


cdef bint _hold(Choice* choice, uint32_t rank) noexcept nogil:
    """Let a line wait until nobody can come who outbids it; true: the placement is settled."""
    cdef const Tier* tier = _tier(choice.tables, &choice.tables.lines[rank])
    if choice.held_tier != NULL and choice.held_tier != tier and _end_tier(choice):
        return True
    choice.held_tier = tier
    if _ecpm(choice, rank) < choice.context.floor_micros:
        choice.seen[SEEN_FLOOR] += 1
        return False
    _push(choice, rank)
    return False


cdef bint _release(Choice* choice, int64_t bound) noexcept nogil:
    """Consider who is above the bound, best first; true: the placement is settled."""
    while choice.held_count and choice.standing.scores[choice.held[0]] > bound:
        if _consider(choice, _pop(choice)):
            return True
    # All equals of the last one were above the bound as well.
    return _close(choice)


cdef bint _end_tier(Choice* choice) noexcept nogil:
    """All rows of a priority have arrived; true: the placement is settled."""
    if _release(choice, -1):
        return True
    _price_pending(choice, choice.context.floor_micros)
    return _full(choice)


# -- block by block --------------------------------------------------------------------------------


cdef bint _passed(Choice* choice, uint32_t row) noexcept nogil:
    """Close what ends before `row`; true: the placement is settled."""
    if choice.standing.scores != NULL:
        if choice.held_tier == NULL:
            return False
        if row >= choice.held_tier.row_end:
            return _end_tier(choice)
        if choice.standing.ecpm_bounds[row // BLOCK_ROWS] < choice.context.floor_micros:
            choice.row_skip = choice.held_tier.row_end
            return _end_tier(choice)
        return _release(choice, choice.standing.bounds[row // BLOCK_ROWS])
    if choice.tier == NULL:
        return False
    if row >= choice.group_row_end and _close(choice):
        return True
    return row >= choice.tier.row_end and _full(choice)


cdef inline void _count_seen(
    Choice* choice, uint32_t word, uint32_t words, const uint64_t* rows
) noexcept nogil:
    choice.seen[SEEN_ROWS] += min(words * 64, choice.tables.row_count - word * 64)
    choice.seen[SEEN_LIVE] += _count(choice.matcher.plain[0] + word, words)
    if rows != NULL:
        choice.seen[SEEN_MATCHING] += _count(rows, words)


cdef void _outcomes(const int64_t* seen, int64_t* outcomes) noexcept nogil:
    """What became of the rows looked at, in the order of `index.OUTCOMES`; they add up to all."""
    cdef int64_t refused = seen[SEEN_CHECK] + seen[SEEN_FLOOR] + seen[SEEN_LABEL] \
        + seen[SEEN_CREATIVE] + seen[SEEN_THROTTLED] + seen[SEEN_CAPPED]
    outcomes[0] = seen[SEEN_WON]
    outcomes[1] = seen[SEEN_ROWS] - seen[SEEN_LIVE]
    outcomes[2] = seen[SEEN_LIVE] - seen[SEEN_MATCHING] + seen[SEEN_CHECK]
    outcomes[3] = seen[SEEN_THROTTLED]
    outcomes[4] = seen[SEEN_CAPPED]
    outcomes[5] = seen[SEEN_FLOOR]
    outcomes[6] = seen[SEEN_LABEL]
    outcomes[7] = seen[SEEN_CREATIVE]
    outcomes[8] = seen[SEEN_MATCHING] - refused - seen[SEEN_WON]


cdef inline bint _offer_all(
    Choice* choice, uint32_t word, uint32_t words, const uint64_t* rows
) noexcept nogil:
    cdef uint32_t place
    cdef uint64_t bits
    for place in range(words):
        bits = rows[place]
        while bits:
            if _offer(choice, (word + place) * 64 + <uint32_t> _lowest_bit(bits)):
                return True
            bits &= bits - 1
    return False


cdef void _fill(Choice* choice) noexcept nogil:
    """Find the winners of the placement in `choice.context`, whose plan is in `choice.matcher`."""
    cdef uint64_t[MATCH_WORDS_MAX] rows
    cdef uint32_t row_words = choice.tables.row_words
    cdef uint32_t word = 0
    cdef uint32_t block = 0
    cdef uint32_t words
    choice.candidate_count = 0
    choice.candidate_weight = 0
    choice.pending = NO_WINNER
    choice.winner_first = choice.winner_count
    choice.tier = NULL
    choice.held_tier = NULL
    choice.held_count = 0
    choice.rank = NO_RANK
    choice.row_skip = 0
    while word < row_words:
        words = BLOCK_WORDS if block < SMALL_BLOCKS else MATCH_WORDS_MAX
        words = min(words, row_words - word)
        block += 1
        if _match(&choice.matcher, word, words, rows):
            _count_seen(choice, word, words, rows)
            if _offer_all(choice, word, words, rows):
                _price_pending(choice, choice.context.floor_micros)
                return
        else:
            _count_seen(choice, word, words, NULL)
        word = max(word + words, choice.row_skip // BLOCK_ROWS * BLOCK_WORDS)
        if _passed(choice, word * 64):
            _price_pending(choice, choice.context.floor_micros)
            return
        word = max(word, choice.row_skip // BLOCK_ROWS * BLOCK_WORDS)
    _close(choice)
    _price_pending(choice, choice.context.floor_micros)


cdef void _forget_labels(Choice* choice) noexcept nogil:
    """Undo the labels of the request's winners: cheaper than clearing every label."""
    cdef uint32_t winner, label
    cdef const Line* line
    cdef const Settings* settings
    for winner in range(choice.winner_count):
        line = &choice.tables.lines[choice.winners[winner].rank]
        settings = _settings(choice.tables, line)
        for label in range(settings.label_first, settings.label_first + settings.label_count):
            choice.labels_taken[choice.tables.labels[label]] = False
    choice.winner_count = 0
