"""What a winner pays: its own price, or the least with which it would still have won."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from adcore.arithmetic cimport _convert, _outbid
from adcore.choosing cimport NO_WINNER, Choice, _ecpm, _ppm


cdef void _price(Choice* choice, uint32_t winner, int64_t ecpm_micros) noexcept nogil:
    """Set the clear price from the eCPM that is enough to win: never above its own."""
    cdef uint32_t rank = choice.winners[winner].rank
    cdef int64_t clear = min(max(ecpm_micros, choice.context.floor_micros), _ecpm(choice, rank))
    cdef int64_t price = <int64_t> _convert(<uint64_t> clear, _ppm(choice, rank))
    choice.winners[winner].clear_price_micros = min(
        price, choice.tables.lines[rank].price_micros)
    choice.winners[winner].clear_ecpm_micros = clear


cdef void _price_pending(Choice* choice, int64_t ecpm_micros) noexcept nogil:
    if choice.pending != NO_WINNER:
        _price(choice, choice.pending, ecpm_micros)
        choice.pending = NO_WINNER


cdef void _price_pending_against(Choice* choice, uint32_t runner) noexcept nogil:
    """Price the winner that waits for this line, which came next."""
    cdef uint32_t rank
    if choice.pending == NO_WINNER:
        return
    if choice.standing.scores == NULL:
        _price_pending(choice, choice.tables.lines[runner].ecpm_micros + 1)
        return
    rank = choice.winners[choice.pending].rank
    _price_pending(choice, _outbid(
        choice.standing.scores[runner], max(choice.standing.multipliers[rank], <uint32_t> 1),
        _ecpm(choice, rank)))
