"""Who waits for what Redis says of a user: requests, and commands that are on their way."""

cimport cython
from libc.stdint cimport int64_t

from server.delivery.sightings cimport Rule

from server.clock import perf_ns


cdef class Visit:

    def __init__(self, bytes user, int64_t visit_s, bint counts):
        self.user = user
        self.visit_s = visit_s
        self.counts = counts

    cdef int note(self, bytes verdicts) except -1:
        """Note which of the needed were counted ahead, and leave out the others: how many."""
        cdef Rule rule
        cdef int denied = 0
        if self.reserved is None:
            self.reserved = {}
        for place, rule in enumerate(self.needed):
            if verdicts[place] == 49:  # "1"
                self.reserved.setdefault(rule.line_item_id, []).append(rule)
                continue
            denied += 1
            if rule.line_item_id in self.reserved:
                continue  # an earlier slot has it: it is not out altogether
            if self.excluded is None:
                self.excluded = set()
            self.excluded.add(rule.line_item_id)
        return denied


@cython.final
cdef class Sent:
    def __cinit__(self, int kind, bytes user, Visit visit):
        self.kind = kind
        self.user = user
        self.visit = visit
        self.sent_ns = perf_ns()
