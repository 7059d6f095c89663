"""Numbers for the values and predicates of a catalog while it is being compiled.

Bookings repeat each other's values and predicates, so each is kept once. The table of values grows
into the one that requests are looked up in.
"""

cimport cython
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from adcore.interning cimport _hash
from adcore.tables cimport NO_ROW, TEXT_BYTES_INSIDE, Feature, _text

import array

cdef enum:
    SLOTS_MIN = 2
    NUMBERS_MAX = 1 << 30  # so that a table's size stays a uint32


@cython.final
@cython.auto_pickle(False)
cdef class Numbering:
    """Gives each new value and each new predicate the next number."""

    def __cinit__(self):
        self.features = Vector()
        self.texts = Vector()
        self.predicates = Vector()
        self.values = Vector()
        self.feature_slots = _table(SLOTS_MIN)
        self.predicate_slots = _table(SLOTS_MIN)

    def __dealloc__(self):
        PyMem_RawFree(self.feature_slots.slots)
        PyMem_RawFree(self.predicate_slots.slots)

    def add(self, uint32_t space, bytes text not None):
        return self.feature(space, <const uint8_t*> <const char*> text, <uint32_t> len(text))

    def slots(self):
        table = array.array("I")
        table.frombytes((<char*> self.feature_slots.slots)[
            :(<size_t> self.feature_slots.mask + 1) * sizeof(Slot)])
        return table

    cdef uint32_t feature(
        self, uint32_t space, const uint8_t* text, uint32_t size
    ) except? 0xFFFFFFFF:
        cdef uint64_t hashed = _hash(space, text, size)
        cdef uint32_t place = <uint32_t> hashed & self.feature_slots.mask
        cdef Slot* slot = &self.feature_slots.slots[place]
        cdef Feature* feature
        while slot.feature_after:
            if slot.tag == <uint32_t> (hashed >> 32):
                feature = <Feature*> self.features.data + slot.feature_after - 1
                if feature.space == space and feature.text_bytes == size \
                        and not memcmp(_text(feature, <uint8_t*> self.texts.data), text, size):
                    return slot.feature_after - 1
            place = (place + 1) & self.feature_slots.mask
            slot = &self.feature_slots.slots[place]
        if self.texts.bytes + size > 0xFFFFFFFF:
            raise OverflowError("the catalog's values are more than 4 GiB of text")
        feature = <Feature*> self.features.extend(sizeof(Feature))
        feature.space = space
        feature.posting_first = 0
        feature.best_row = NO_ROW
        feature.text_bytes = <uint16_t> size
        feature.posting_count = 0
        feature.text = 0
        if size <= <uint32_t> TEXT_BYTES_INSIDE:
            memcpy(&feature.text, text, size)
        else:
            feature.text = self.texts.bytes
            memcpy(self.texts.extend(size), text, size)
        _occupy(&self.feature_slots, place, hashed)
        if 2 * self.feature_slots.used > self.feature_slots.mask + 1:
            self._grow_features()
        return <uint32_t> (self.features.bytes // sizeof(Feature)) - 1

    cdef uint32_t predicate(
        self, uint32_t space, bint negated, const uint32_t* values, uint32_t count
    ) except? 0xFFFFFFFF:
        cdef uint64_t hashed = self._predicate_hash(space, negated, values, count)
        cdef uint32_t place = <uint32_t> hashed & self.predicate_slots.mask
        cdef Slot* slot = &self.predicate_slots.slots[place]
        cdef Distinct* predicate
        while slot.feature_after:
            if slot.tag == <uint32_t> (hashed >> 32):
                predicate = <Distinct*> self.predicates.data + slot.feature_after - 1
                if predicate.space == space and predicate.negated == <uint32_t> negated \
                        and predicate.value_count == count and not memcmp(
                            <uint32_t*> self.values.data + predicate.value_first, values,
                            count * sizeof(uint32_t)):
                    return slot.feature_after - 1
            place = (place + 1) & self.predicate_slots.mask
            slot = &self.predicate_slots.slots[place]
        predicate = <Distinct*> self.predicates.extend(sizeof(Distinct))
        predicate.space = space
        predicate.negated = negated
        predicate.value_first = <uint32_t> (self.values.bytes // sizeof(uint32_t))
        predicate.value_count = count
        memcpy(self.values.extend(count * sizeof(uint32_t)), values, count * sizeof(uint32_t))
        _occupy(&self.predicate_slots, place, hashed)
        if 2 * self.predicate_slots.used > self.predicate_slots.mask + 1:
            self._grow_predicates()
        return <uint32_t> (self.predicates.bytes // sizeof(Distinct)) - 1

    cdef int _grow_features(self) except -1:
        cdef Slots grown = _table(2 * (self.feature_slots.mask + 1))
        cdef const Feature* features = <const Feature*> self.features.data
        cdef uint32_t number
        for number in range(<uint32_t> (self.features.bytes // sizeof(Feature))):
            _insert(&grown, _hash(
                features[number].space, _text(&features[number], <uint8_t*> self.texts.data),
                features[number].text_bytes))
        PyMem_RawFree(self.feature_slots.slots)
        self.feature_slots = grown
        return 0

    cdef int _grow_predicates(self) except -1:
        cdef Slots grown = _table(2 * (self.predicate_slots.mask + 1))
        cdef const Distinct* predicate
        cdef uint32_t number
        for number in range(<uint32_t> (self.predicates.bytes // sizeof(Distinct))):
            predicate = <const Distinct*> self.predicates.data + number
            _insert(&grown, self._predicate_hash(
                predicate.space, predicate.negated,
                <const uint32_t*> self.values.data + predicate.value_first,
                predicate.value_count))
        PyMem_RawFree(self.predicate_slots.slots)
        self.predicate_slots = grown
        return 0

    cdef uint64_t _predicate_hash(
        self, uint32_t space, bint negated, const uint32_t* values, uint32_t count
    ) noexcept nogil:
        return _hash(
            2 * space + negated, <const uint8_t*> values, <uint32_t> (count * sizeof(uint32_t)))


cdef Slots _table(uint32_t size) except *:
    cdef Slots table
    if size > 2 * <uint32_t> NUMBERS_MAX:
        raise OverflowError("the catalog has too many different values")
    table.slots = <Slot*> PyMem_RawCalloc(size, sizeof(Slot))
    if table.slots == NULL:
        raise MemoryError
    table.mask = size - 1
    table.used = 0
    return table


cdef inline void _occupy(Slots* table, uint32_t place, uint64_t hashed) noexcept nogil:
    """Fill a free slot with the next number."""
    table.used += 1
    table.slots[place].tag = <uint32_t> (hashed >> 32)
    table.slots[place].feature_after = table.used


cdef inline void _insert(Slots* table, uint64_t hashed) noexcept nogil:
    cdef uint32_t place = <uint32_t> hashed & table.mask
    while table.slots[place].feature_after:
        place = (place + 1) & table.mask
    _occupy(table, place, hashed)
