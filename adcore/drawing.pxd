# Draws: numbers that look random and are the same for the same request in every process.

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    __extension__ typedef unsigned __int128 adcore_uint128;

    static inline uint64_t adcore_scale(uint64_t hashed, uint64_t total) {
        return (uint64_t)(((adcore_uint128)hashed * total) >> 64);
    }
    """
    # Take a hash to [0, total).
    uint64_t _scale "adcore_scale"(uint64_t hashed, uint64_t total) noexcept nogil

cdef inline uint64_t _splitmix64(uint64_t state) noexcept nogil:
    state += <uint64_t> 0x9E3779B97F4A7C15
    state = (state ^ (state >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    state = (state ^ (state >> 27)) * <uint64_t> 0x94D049BB133111EB
    return state ^ (state >> 31)
