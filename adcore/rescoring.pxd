# Ranks that wait for their turn by score.

from libc.stdint cimport uint32_t

from adcore.choosing cimport Choice

cdef void _push(Choice* choice, uint32_t rank) noexcept nogil
cdef uint32_t _pop(Choice* choice) noexcept nogil
