# Who waits for what Redis says of a user.

from libc.stdint cimport int64_t

from server.delivery.sightings cimport Seen

cdef enum:
    # What a visit waits for.
    NOTHING = 0
    READ = 1
    CHECK = 2
    # What is on its way beside.
    COUNT = 3
    PING = 4

# One request of a user, from its first look at caps to its answer.
cdef class Visit:
    cdef readonly bytes user        # hashed; None: caps do not apply
    cdef readonly int64_t visit_s
    cdef readonly bint counts       # false: a preview, which leaves nothing behind
    cdef Seen seen
    cdef bint fresh                 # `seen` was read for this visit, or a moment ago
    cdef bint unknown               # on_unknown decides
    cdef int waits
    cdef int64_t deadline_ns        # 0: has not waited yet
    cdef int rounds
    cdef dict reserved              # by line item id: counted in Redis before it is shown
    cdef set excluded
    cdef list needed                # Rules whose check is under way
    cdef list wins                  # what was selected before it waited
    cdef public object deliver      # called with the answer, once

    cdef int note(self, bytes verdicts) except -1

# A command whose answer is due.
cdef class Sent:
    cdef int kind
    cdef bytes user
    cdef Visit visit
    cdef int64_t sent_ns
