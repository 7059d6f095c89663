"""Text of the request to feature numbers: one open-addressing table over bytes, inside the buffer.

The catalog's owner fills the table and the requests only read it, so a hostile request can at worst
walk the longest run that the catalog itself made; half the slots are free, so runs are short.
"""

from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memcpy

from adcore.tables cimport SLOTS, Feature, Slot, Tables

cdef extern from *:
    void _prefetch "__builtin_prefetch"(const void* place) noexcept nogil


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


cdef inline uint32_t _probe(
    const Tables* tables, uint64_t hashed, uint32_t* place
) noexcept nogil:
    """Return the feature of the next slot that has the hash's tag, from `place` on, or UNKNOWN."""
    cdef uint32_t mask = tables.counts[SLOTS] - 1
    cdef const Slot* slot
    while True:
        slot = &tables.slots[place[0] & mask]
        place[0] += 1
        if not slot.feature_after:
            return UNKNOWN
        if slot.tag == <uint32_t> (hashed >> 32):
            return slot.feature_after - 1


cdef inline bint _is(
    const Tables* tables, uint32_t number, uint32_t space, const uint8_t* text, uint32_t size
) noexcept nogil:
    cdef const Feature* feature = &tables.features[number]
    return feature.space == space and feature.text_bytes == size \
        and not memcmp(tables.texts + feature.text_first, text, size)


cdef uint32_t _feature(
    const Tables* tables, uint32_t space, const uint8_t* text, uint32_t size
) noexcept nogil:
    cdef uint64_t hashed = _hash(space, text, size)
    cdef uint32_t place = <uint32_t> hashed
    cdef uint32_t feature = _probe(tables, hashed, &place)
    while feature != UNKNOWN and not _is(tables, feature, space, text, size):
        feature = _probe(tables, hashed, &place)
    return feature


# -- many at once: the table is larger than a core's caches, and a look-up misses up to three times


cdef void _enqueue(
    Batch* batch, const Tables* tables, uint32_t space, const uint8_t* text, uint32_t size,
    bint folded
) noexcept nogil:
    """Begin a look-up; the batch must have room, and `size` be at most VALUE_BYTES_MAX.

    Folded, ASCII letters are in lower case; other bytes, UTF-8 among them, stay as they are.
    """
    cdef Lookup* lookup = &batch.lookups[batch.count]
    cdef uint8_t* copy = batch.texts + batch.text_bytes
    cdef uint32_t place
    cdef uint8_t byte
    if folded:
        for place in range(size):
            byte = text[place]
            copy[place] = byte | ((<uint8_t> (byte - 65) < 26) << 5)
    else:
        memcpy(copy, text, size)
    lookup.hashed = _hash(space, copy, size)
    lookup.space = space
    lookup.text_first = batch.text_bytes
    lookup.text_bytes = size
    _prefetch(&tables.slots[<uint32_t> lookup.hashed & (tables.counts[SLOTS] - 1)])
    batch.text_bytes += size
    batch.count += 1


cdef uint32_t _resolve(Batch* batch, const Tables* tables, uint32_t* features) noexcept nogil:
    """End all look-ups, in order; write those found and return how many they are."""
    cdef uint32_t number, place, found = 0
    cdef Lookup* lookup
    cdef const Feature* feature
    cdef const uint8_t* text
    for number in range(batch.count):
        lookup = &batch.lookups[number]
        place = <uint32_t> lookup.hashed
        lookup.feature = _probe(tables, lookup.hashed, &place)
        if lookup.feature != UNKNOWN:
            _prefetch(&tables.features[lookup.feature])
    for number in range(batch.count):
        lookup = &batch.lookups[number]
        if lookup.feature != UNKNOWN:
            feature = &tables.features[lookup.feature]
            _prefetch(tables.texts + feature.text_first)
            _prefetch(&tables.postings[feature.posting_first])
    for number in range(batch.count):
        lookup = &batch.lookups[number]
        if lookup.feature == UNKNOWN:
            continue
        text = batch.texts + lookup.text_first
        if not _is(tables, lookup.feature, lookup.space, text, lookup.text_bytes):
            # Another value has the same tag; one in four billion has.
            lookup.feature = _feature(tables, lookup.space, text, lookup.text_bytes)
        if lookup.feature != UNKNOWN:
            features[found] = lookup.feature
            found += 1
    batch.count = 0
    batch.text_bytes = 0
    return found
