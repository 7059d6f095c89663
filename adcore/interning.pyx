"""Text of the request to feature numbers: one open-addressing table over bytes, inside the buffer.

The catalog's owner fills the table and the requests only read it, so a hostile request can at worst
walk the longest run that the catalog itself made; half the slots are free, so runs are short.
"""

from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy

from adcore.tables cimport SLOTS, TEXT_BYTES_INSIDE, Feature, Tables, _slot

cdef extern from *:
    void _prefetch "__builtin_prefetch"(const void* place) noexcept nogil


cdef inline uint64_t _stir(uint64_t hashed) noexcept nogil:
    hashed = (hashed ^ (hashed >> 32)) * <uint64_t> 0xD6E8FEB86659FD93
    return hashed ^ (hashed >> 29)


cdef inline uint64_t _load(const uint8_t* text) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, text, 8)
    return word


cdef inline uint64_t _load_end(const uint8_t* text, uint32_t size) noexcept nogil:
    """Load 1 to 7 bytes, the first lowest, in at most three loads and none beyond the text."""
    cdef uint32_t low, high
    if size >= 4:
        memcpy(&low, text, 4)
        memcpy(&high, text + size - 4, 4)
        return low | <uint64_t> high << 8 * (size - 4)
    return text[0] | <uint64_t> text[size >> 1] << 8 * (size >> 1) \
        | <uint64_t> text[size - 1] << 8 * (size - 1)


cdef inline uint64_t _fold(uint64_t word) noexcept nogil:
    """ASCII capitals to lower case, eight bytes at once; other bytes, as of UTF-8, stay."""
    cdef uint64_t low_bits = word & <uint64_t> 0x7F7F7F7F7F7F7F7F
    # The top bit of a byte says whether its low seven bits are at least "A", and more than "Z".
    cdef uint64_t from_a = low_bits + <uint64_t> 0x3F3F3F3F3F3F3F3F
    cdef uint64_t after_z = low_bits + <uint64_t> 0x2525252525252525
    return word | ((from_a & ~after_z & ~word & <uint64_t> 0x8080808080808080) >> 2)


cdef inline uint64_t _hash_first(uint32_t space, uint32_t size) noexcept nogil:
    # The length is stirred in first, so that zero padding can't collide.
    return _stir((<uint64_t> space << 32 | size) + <uint64_t> 0x9E3779B97F4A7C15)


cdef uint64_t _hash(uint32_t space, const uint8_t* text, uint32_t size) noexcept nogil:
    """Eight bytes a step; the last ones are filled up with zeros."""
    cdef uint64_t hashed = _hash_first(space, size)
    while size >= 8:
        hashed = _stir(hashed ^ _load(text))
        text += 8
        size -= 8
    return _stir(hashed ^ _load_end(text, size)) if size else hashed


cdef inline uint32_t _probe(
    const Tables* tables, uint64_t hashed, uint32_t* place
) noexcept nogil:
    """Return the feature of the next slot that has the hash's tag, from `place` on, or UNKNOWN."""
    cdef uint32_t mask = tables.counts[SLOTS] - 1
    cdef uint32_t slot
    while True:
        slot = tables.slots[place[0] & mask]
        place[0] += 1
        if not slot:
            return UNKNOWN
        if slot == _slot(hashed, mask, (slot & mask) - 1):
            return (slot & mask) - 1


cdef inline bint _is(
    const Tables* tables, uint32_t number, uint32_t space, const uint8_t* text, uint32_t size
) noexcept nogil:
    cdef const Feature* feature = &tables.features[number]
    cdef const uint8_t* known
    if feature.space != space or feature.text_bytes != size:
        return False
    if size < 8:
        return not size or feature.text == _load_end(text, size)
    if size == TEXT_BYTES_INSIDE:
        return feature.text == _load(text)
    known = tables.texts + feature.text
    while size >= 8:
        if _load(known) != _load(text):
            return False
        known += 8
        text += 8
        size -= 8
    return not size or _load_end(known, size) == _load_end(text, size)


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

    Folded, ASCII letters are in lower case; other bytes, UTF-8 among them, stay as they are. The
    copy is of whole words, so that it is folded, hashed and written in one go.
    """
    cdef Lookup* lookup = &batch.lookups[batch.count]
    cdef uint64_t* copy = batch.texts + batch.word_count
    cdef uint64_t hashed = _hash_first(space, size)
    cdef uint64_t word
    lookup.space = space
    lookup.word_first = batch.word_count
    lookup.text_bytes = size
    while size:
        if size >= 8:
            word = _load(text)
            text += 8
            size -= 8
        else:
            word = _load_end(text, size)
            size = 0
        if folded:
            word = _fold(word)
        hashed = _stir(hashed ^ word)
        copy[0] = word
        copy += 1
    lookup.hashed = hashed
    _prefetch(&tables.slots[<uint32_t> hashed & (tables.counts[SLOTS] - 1)])
    batch.word_count = <uint32_t> (copy - batch.texts)
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
        if lookup.feature != UNKNOWN and lookup.text_bytes > <uint32_t> TEXT_BYTES_INSIDE:
            feature = &tables.features[lookup.feature]
            if feature.text_bytes == lookup.text_bytes:
                _prefetch(tables.texts + feature.text)
    for number in range(batch.count):
        lookup = &batch.lookups[number]
        if lookup.feature == UNKNOWN:
            continue
        text = <const uint8_t*> (batch.texts + lookup.word_first)
        if not _is(tables, lookup.feature, lookup.space, text, lookup.text_bytes):
            # Another value has the same bits of the hash in its slot: of 2^17 values, 1 in 2^14.
            lookup.feature = _feature(tables, lookup.space, text, lookup.text_bytes)
        if lookup.feature != UNKNOWN:
            features[found] = lookup.feature
            found += 1
    batch.count = 0
    batch.word_count = 0
    return found
