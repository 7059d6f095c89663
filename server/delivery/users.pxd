# What users were shown, as far as a worker knows, and its way to Redis.

from libc.stdint cimport int64_t, uint64_t

from server.delivery.sightings cimport Seen
from server.delivery.visits cimport Sent, Visit

cdef class Users:
    cdef readonly object turn       # held while the core, or anything here, is used
    cdef object commands, make_link, link, loop, timer, prober, resume, hash
    cdef dict cache                 # Seen by user, in the order of reading
    cdef dict flights               # visits by user: they share one read
    cdef dict unanswered            # by user: what was counted since, as (Rule, moment)
    cdef list outbox, takers
    cdef bint scheduled             # the loop will look for a batch
    cdef readonly bint broken       # the breaker is open
    cdef int64_t deadline_ns
    cdef int failures
    cdef int64_t failing_ns         # since when, if there are any
    cdef object waiting             # visits in order of deadline
    cdef uint64_t[::1] slots
    cdef dict slot_of

    cpdef bytes hashed(self, str key)
    cdef Seen known(self, bytes user, int64_t now_ns)
    cdef bint ask(self, Visit visit) except -1
    cdef bint check(self, Visit visit, list rules) except -1
    cdef int count(self, Visit visit, list rules) except -1
    cdef bytes _counting(self, Visit visit, list rules, bint checked)
    cdef int take_back(self, Visit visit, list rules) except -1
    cdef int tally(self, str what) except -1
    cdef bint _usable(self) except -1
    cdef int _wait(self, Visit visit, int waits) except -1
    cdef int _schedule(self) except -1
    cdef int _out(self, bytes command, taker) except -1
    cdef Seen _keep(self, bytes user, list flat, Py_ssize_t first)
    cdef int _answered(self, Sent sent, answer, int64_t now_ns, list ready) except -1
    cdef int _land(self, bytes user, Seen seen, list ready) except -1
    cdef int _fail(self, list ready) except -1
    cdef int _probe_in_turn(self) except -1
    cdef int _go_on(self, list ready) except -1
