from libc.stdint cimport int64_t

from server.ledger.ids cimport IdTable


cdef class Ids:
    cdef readonly IdTable served, events


cdef class Memory:
    cdef dict hours            # hour -> Ids
    cdef set changed, saving   # hours whose ids changed since they were saved, or are being saved
    cdef int64_t first_hour    # those before it were forgotten early
    cdef int64_t newest_hour   # of which an id was ever known
    cdef dict clicked          # id -> when, of billed clicks
    cdef dict converted        # digest of id, event and order -> when
    cdef dict last_click       # (network, user agent, creative) -> when
    cdef dict rates            # (network, creative, minute) -> clicks

    cdef Ids ids(self, int64_t hour, int64_t now_s)
    cdef bint is_over(self, int64_t hour, int64_t now_s)
    cdef bint is_double(self, click) except -1
    cdef bint is_crowd(self, click) except -1
    cdef int forget(self, int64_t now_s) except -1
    cdef tuple dump(self)


cdef Memory load(bytes dumped, dict hours)
