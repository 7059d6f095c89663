"""Text of the request to feature numbers: one open-addressing table over bytes, inside the buffer.

The catalog's owner fills the table and the requests only read it, so a hostile request can at worst
walk the longest run that the catalog itself made; half the slots are free, so runs are short.
"""

from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memcpy

from adcore.limits cimport VALUE_BYTES_MAX
from adcore.tables cimport SLOTS, Feature, Slot, Tables

import array


cdef inline uint64_t _stir(uint64_t hashed) noexcept nogil:
    hashed = (hashed ^ (hashed >> 32)) * <uint64_t> 0xD6E8FEB86659FD93
    return hashed ^ (hashed >> 29)


cdef uint64_t _hash(uint32_t space, const uint8_t* text, uint32_t size) noexcept nogil:
    """Eight bytes a step; the length is stirred in first, so zero padding can't collide."""
    cdef uint64_t hashed = _stir((<uint64_t> space << 32 | size) + <uint64_t> 0x9E3779B97F4A7C15)
    cdef uint64_t word
    while size >= 8:
        memcpy(&word, text, 8)
        hashed = _stir(hashed ^ word)
        text += 8
        size -= 8
    if size:
        word = 0
        memcpy(&word, text, size)
        hashed = _stir(hashed ^ word)
    return hashed


cdef uint32_t _feature(
    const Tables* tables, uint32_t space, const uint8_t* text, uint32_t size
) noexcept nogil:
    cdef uint64_t hashed = _hash(space, text, size)
    cdef uint32_t tag = <uint32_t> (hashed >> 32)
    cdef uint32_t mask = tables.counts[SLOTS] - 1
    cdef uint32_t place = <uint32_t> hashed & mask
    cdef const Slot* slot
    cdef const Feature* feature
    while True:
        slot = &tables.slots[place]
        if not slot.feature_after:
            return UNKNOWN
        if slot.tag == tag:
            feature = &tables.features[slot.feature_after - 1]
            if feature.space == space and feature.text_bytes == size \
                    and not memcmp(tables.texts + feature.text_first, text, size):
                return slot.feature_after - 1
        place = (place + 1) & mask


cdef uint32_t _feature_folded(
    const Tables* tables, uint32_t space, const uint8_t* text, uint32_t size
) noexcept nogil:
    """Look up with ASCII letters in lower case; other bytes, UTF-8 among them, stay as they are."""
    cdef uint8_t[VALUE_BYTES_MAX] folded
    cdef uint32_t place
    cdef uint8_t byte
    for place in range(size):
        byte = text[place]
        folded[place] = byte | ((<uint8_t> (byte - 65) < 26) << 5)
    return _feature(tables, space, folded, size)


def slots_of(features):
    """Lay out the table, a tag and a feature number + 1 a slot, of `features`: (space, text)."""
    cdef uint32_t count = 2
    cdef uint64_t hashed
    cdef uint32_t place, number
    cdef bytes text
    while count < 2 * len(features):
        count *= 2
    slots = array.array("I", bytes(8 * count))
    cdef unsigned int[::1] table = slots
    for number, (space, text) in enumerate(features):
        hashed = _hash(space, <const uint8_t*> <const char*> text, <uint32_t> len(text))
        place = <uint32_t> hashed & (count - 1)
        while table[2 * place + 1]:
            place = (place + 1) & (count - 1)
        table[2 * place] = <uint32_t> (hashed >> 32)
        table[2 * place + 1] = number + 1
    return slots
