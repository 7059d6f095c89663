"""Ranks that wait for their turn by score: a heap, the highest score on top, equals in line order.

Rows arrive in the order that was booked. Those that match wait here until the bound of the rows to
come says that nobody can outbid them, and then take part in that order.
"""

from libc.stdint cimport int64_t, uint32_t

from adcore.choosing cimport Choice


cdef inline bint _above(const Choice* choice, uint32_t one, uint32_t other) noexcept nogil:
    cdef int64_t score = choice.standing.scores[one]
    cdef int64_t other_score = choice.standing.scores[other]
    if score != other_score:
        return score > other_score
    return choice.tables.lines[one].line < choice.tables.lines[other].line


cdef void _push(Choice* choice, uint32_t rank) noexcept nogil:
    cdef uint32_t place = choice.held_count
    cdef uint32_t parent
    while place:
        parent = (place - 1) // 2
        if not _above(choice, rank, choice.held[parent]):
            break
        choice.held[place] = choice.held[parent]
        place = parent
    choice.held[place] = rank
    choice.held_count += 1


cdef uint32_t _pop(Choice* choice) noexcept nogil:
    cdef uint32_t top = choice.held[0]
    cdef uint32_t place = 0
    cdef uint32_t child = 1
    cdef uint32_t last
    choice.held_count -= 1
    last = choice.held[choice.held_count]
    while child < choice.held_count:
        if child + 1 < choice.held_count \
                and _above(choice, choice.held[child + 1], choice.held[child]):
            child += 1
        if not _above(choice, choice.held[child], last):
            break
        choice.held[place] = choice.held[child]
        place = child
        child = 2 * place + 1
    choice.held[place] = last
    return top
