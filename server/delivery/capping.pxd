# Which winners a user may not see, and which of them must be counted first.

from libc.stdint cimport int64_t

from adcore.request cimport Request

from server.delivery.sightings cimport Rule, Seen
from server.delivery.snapshot cimport Snapshot
from server.delivery.users cimport Users
from server.delivery.visits cimport Visit

cdef enum:
    DONE = 0    # all may be shown
    AGAIN = 1   # some may not, and the request leaves them out by now: select again
    WAIT = 2    # the visit waits, and is resumed

cdef class Capper:
    cdef readonly Users users

    cdef int review(
        self, Visit visit, Request request, Snapshot snapshot, list wins) except -1
    cdef int shown(self, Visit visit, Snapshot snapshot, list wins) except -1
    cdef bint _cap(
        self, Visit visit, Request request, Snapshot snapshot, list held) except -1
    cdef bint _find_out(self, Visit visit, list held) except -1
    cdef bint _deny(self, Visit visit, Request request, list held) except -1
    cdef int _leave_out(
        self, Visit visit, Request request, Snapshot snapshot, Rule rule) except -1
    cdef list _near(self, Visit visit, list held)
    cdef int _drop(self, Visit visit, list held, list wins) except -1
