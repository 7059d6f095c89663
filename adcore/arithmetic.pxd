# Products of 64 bits by 64, which need 128 on the way: exact, where a double would not be.

from libc.stdint cimport int64_t, uint32_t, uint64_t

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
    static inline int64_t adcore_outbid(int64_t score, uint32_t ppm, int64_t own) {
        adcore_uint128 needed = ((adcore_uint128)score * 1000000 + 1000000 + ppm - 1) / ppm;
        return needed < (adcore_uint128)own ? (int64_t)needed : own;
    }
    static inline int64_t adcore_share(int64_t micros, uint32_t ppm) {
        return (int64_t)((adcore_uint128)micros * ppm / 1000000);
    }
    static inline int64_t adcore_worth(int64_t micros, uint32_t ppm, int64_t most) {
        adcore_uint128 ecpm = (adcore_uint128)micros * ppm / 1000;
        return ecpm < (adcore_uint128)most ? (int64_t)ecpm : most;
    }
    """
    # Take a hash to [0, total).
    uint64_t _scale "adcore_scale"(uint64_t hashed, uint64_t total) noexcept nogil
    # A clear eCPM in the unit of the rate, rounded up.
    uint64_t _convert "adcore_convert"(uint64_t ecpm_micros, uint32_t ppm) noexcept nogil
    # The least eCPM of which so many ppm are more than the score, at most its own.
    int64_t _outbid "adcore_outbid"(int64_t score, uint32_t ppm, int64_t own) noexcept nogil
    # So many ppm of an eCPM.
    int64_t _share "adcore_share"(int64_t micros, uint32_t ppm) noexcept nogil
    # The eCPM of a price for each of so many events a million impressions, at most `most`.
    int64_t _worth "adcore_worth"(int64_t micros, uint32_t ppm, int64_t most) noexcept nogil
