from libc.stdint cimport int64_t, uint64_t

from server.delivery.answer cimport Moment
from server.delivery.snapshot cimport Snapshot
from server.delivery.tally cimport Tally

cdef class DecisionLog:
    cdef int64_t one_in             # 0: none
    cdef uint64_t hash_max          # the largest hash of an id that is kept
    cdef object append, encode
    cdef Tally tally

    cpdef bint keeps(self, bytes decision_id) except -1
    cpdef write(self, list placements, list wins, Snapshot snapshot, Moment moment)
