# Draws: numbers that look random and are the same for the same request in every process.

from libc.stdint cimport uint64_t

cdef inline uint64_t _splitmix64(uint64_t state) noexcept nogil:
    state += <uint64_t> 0x9E3779B97F4A7C15
    state = (state ^ (state >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    state = (state ^ (state >> 27)) * <uint64_t> 0x94D049BB133111EB
    return state ^ (state >> 31)
