# What a winner pays.

from libc.stdint cimport int64_t, uint32_t

from adcore.choosing cimport Choice

cdef void _price(Choice* choice, uint32_t winner, int64_t ecpm_micros) noexcept nogil
cdef void _price_pending(Choice* choice, int64_t ecpm_micros) noexcept nogil
cdef void _price_pending_against(Choice* choice, uint32_t runner) noexcept nogil
