# Numbers for the values and predicates of a catalog while it is being compiled.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from adcore.vector cimport Vector

cdef struct Slot:
    uint32_t tag            # upper half of the hash
    uint32_t feature_after  # feature number + 1; 0: free

# Slots of a hash table, at least half of them free.
cdef struct Slots:
    Slot* slots
    uint32_t mask
    uint32_t used

# A predicate of the catalog, each one different.
cdef struct Distinct:
    uint32_t space
    uint32_t negated
    uint32_t value_first
    uint32_t value_count

cdef class Numbering:
    cdef Vector features            # Feature, of which the postings are not known yet
    cdef Vector texts
    cdef Vector predicates          # Distinct
    cdef Vector values              # uint32 feature numbers of predicates, rising within one
    cdef Slots feature_slots        # in the order in which the compiled catalog has them
    cdef Slots predicate_slots

    cdef uint32_t feature(
        self, uint32_t space, const uint8_t* text, uint32_t size) except? 0xFFFFFFFF
    cdef uint32_t predicate(
        self, uint32_t space, bint negated, const uint32_t* values, uint32_t count
    ) except? 0xFFFFFFFF
    cdef int _grow_features(self) except -1
    cdef int _grow_predicates(self) except -1
    cdef uint64_t _predicate_hash(
        self, uint32_t space, bint negated, const uint32_t* values, uint32_t count) noexcept nogil
