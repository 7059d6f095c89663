# Loops over words of bitmaps, in C: what is done to every 64 rows of a request is done here.
#
# On x86-64 those that gain by it exist twice, and the processor is asked at each call (a load and a
# test), so that one wheel runs everywhere; elsewhere the plain ones are all there is.

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SPREAD_MORE = 4  # places that `_spread` may write to beyond what it returns

cdef extern from *:
    """
    #ifndef ADCORE_BITS
    #define ADCORE_BITS
    #include <stdbool.h>
    #include <stddef.h>
    #include <stdint.h>

    #if defined(__x86_64__) && defined(__GNUC__)
    #define ADCORE_FOR(features) __attribute__((target(features)))
    #define ADCORE_CHOOSE(feature, call, plain_call) \\
        (__builtin_cpu_supports(feature) ? call : plain_call)
    #else
    #define ADCORE_FOR(features)
    #define ADCORE_CHOOSE(feature, call, plain_call) (plain_call)
    #endif
    #define ADCORE_BODY static inline __attribute__((always_inline))

    /* A part is what a register holds; of longer vectors GCC makes code that goes through memory.
       A buffer that is attached to is aligned to 8 bytes only. */
    typedef uint64_t adcore_part __attribute__((vector_size(16), aligned(8), may_alias));
    typedef uint64_t adcore_wide __attribute__((vector_size(32), aligned(8), may_alias));

    /* All bitmaps for one block of 8 words, then the next: what is left stays in registers. */
    #define ADCORE_MEET(name, attributes, part) \\
        attributes static inline bool name( \\
            const uint64_t *const *bitmaps, uint32_t count, size_t word, uint32_t words, \\
            uint64_t *rows \\
        ) { \\
            enum { PARTS = 64 / sizeof(part) }; \\
            uint64_t found = 0; \\
            part any = {0}; \\
            for (uint32_t place = 0; place < words; place += 8) { \\
                part left[PARTS]; \\
                for (int at = 0; at < PARTS; at++) \\
                    left[at] = ((const part *)(bitmaps[0] + word + place))[at]; \\
                for (uint32_t number = 1; number < count; number++) \\
                    for (int at = 0; at < PARTS; at++) \\
                        left[at] &= ((const part *)(bitmaps[number] + word + place))[at]; \\
                for (int at = 0; at < PARTS; at++) { \\
                    ((part *)(rows + place))[at] = left[at]; \\
                    any |= left[at]; \\
                } \\
            } \\
            for (unsigned lane = 0; lane < sizeof(part) / 8; lane++) \\
                found |= any[lane]; \\
            return found != 0; \\
        }
    ADCORE_MEET(adcore_meet_plain, , adcore_part)
    ADCORE_MEET(adcore_meet_wide, ADCORE_FOR("avx2"), adcore_wide)

    static inline bool adcore_meet(const uint64_t *const *bitmaps, uint32_t count, size_t word,
                                   uint32_t words, uint64_t *rows) {
        return ADCORE_CHOOSE("avx2", adcore_meet_wide(bitmaps, count, word, words, rows),
                             adcore_meet_plain(bitmaps, count, word, words, rows));
    }

    #define ADCORE_GIVEN(words) (*(const adcore_part *)(words))
    #define ADCORE_PART(words) (*(adcore_part *)(words))

    static inline bool adcore_meet_turned(const uint64_t *base, const uint64_t *turned,
                                          uint32_t words, uint64_t *rows) {
        adcore_part found = {0, 0};
        for (uint32_t place = 0; place < words; place += 2) {
            ADCORE_PART(rows + place) &= ADCORE_GIVEN(base + place) ^ ADCORE_GIVEN(turned + place);
            found |= ADCORE_PART(rows + place);
        }
        return (found[0] | found[1]) != 0;
    }

    static inline void adcore_turn(const uint64_t *base, const uint64_t *bitmap,
                                   uint32_t words, uint64_t *turned) {
        for (uint32_t place = 0; place < words; place += 2)
            ADCORE_PART(turned + place) |= ADCORE_GIVEN(base + place)
                                         ^ ADCORE_GIVEN(bitmap + place);
    }

    /* Without its instruction, counting the bits of a word is a call. */
    ADCORE_BODY uint32_t adcore_count_plain(const uint64_t *rows, uint32_t words) {
        uint32_t count = 0;
        for (uint32_t place = 0; place < words; place++)
            count += (uint32_t)__builtin_popcountll(rows[place]);
        return count;
    }
    ADCORE_FOR("popcnt") static inline uint32_t adcore_count_fast(
        const uint64_t *rows, uint32_t words
    ) {
        return adcore_count_plain(rows, words);
    }
    static inline uint32_t adcore_count(const uint64_t *rows, uint32_t words) {
        return ADCORE_CHOOSE("popcnt", adcore_count_fast(rows, words),
                             adcore_count_plain(rows, words));
    }

    ADCORE_BODY uint32_t adcore_spread_plain(
        const uint64_t *rows, uint32_t words, uint32_t row, uint32_t *numbers
    ) {
        uint32_t count = 0;
        for (uint32_t place = 0; place < words; place++, row += 64) {
            uint64_t bits = rows[place];
            uint32_t end = count + (uint32_t)__builtin_popcountll(bits);
            /* Always four: how many bits a word has can't be foretold, that four will do mostly. */
            do {
                for (int step = 0; step < 4; step++) {
                    numbers[count++] = row + (uint32_t)__builtin_ctzll(bits | 1ull << 63);
                    bits &= bits - 1;
                }
            } while (count < end);
            count = end;
        }
        return count;
    }
    ADCORE_FOR("bmi,popcnt") static inline uint32_t adcore_spread_fast(
        const uint64_t *rows, uint32_t words, uint32_t row, uint32_t *numbers
    ) {
        return adcore_spread_plain(rows, words, row, numbers);
    }
    static inline uint32_t adcore_spread(
        const uint64_t *rows, uint32_t words, uint32_t row, uint32_t *numbers
    ) {
        /* Whoever has the first has the second. */
        return ADCORE_CHOOSE("bmi", adcore_spread_fast(rows, words, row, numbers),
                             adcore_spread_plain(rows, words, row, numbers));
    }
    #endif
    """
    # Everywhere `words` is of whole blocks.
    # rows = the words of all bitmaps from `word` on, ANDed; false: all zero.
    bint _meet "adcore_meet"(
        const uint64_t** bitmaps, uint32_t count, size_t word, uint32_t words, uint64_t* rows
    ) noexcept nogil
    # rows &= base ^ turned; false: all zero.
    bint _meet_turned "adcore_meet_turned"(
        const uint64_t* base, const uint64_t* turned, uint32_t words, uint64_t* rows
    ) noexcept nogil
    # turned |= base ^ bitmap
    void _turn "adcore_turn"(
        const uint64_t* base, const uint64_t* bitmap, uint32_t words, uint64_t* turned
    ) noexcept nogil
    # How many bits are set.
    uint32_t _count "adcore_count"(const uint64_t* rows, uint32_t words) noexcept nogil
    # Write the numbers of the rows whose bits are set, the first bit's being `row`, and up to
    # SPREAD_MORE numbers without meaning behind them; how many rows they are.
    uint32_t _spread "adcore_spread"(
        const uint64_t* rows, uint32_t words, uint32_t row, uint32_t* numbers) noexcept nogil
