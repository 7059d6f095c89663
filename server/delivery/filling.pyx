"""From a request to winners that may be served: select, look at who won, and select again.

The index decides by what it was built from. What changes from one answer to the next is looked at
here, for winners alone: a catalog has many line items, an answer a few.
"""

cimport cython
from libc.stdint cimport uint64_t

from adcore.live cimport Live
from adcore.request cimport Request

from server.delivery.capping cimport DONE, WAIT, Capper
from server.delivery.snapshot cimport Snapshot
from server.delivery.users cimport Visit


@cython.final
cdef class Filler:
    """One a worker."""

    def __init__(self, Capper capper not None):
        self.capper = capper

    cpdef list fill(
        self, Request request, Snapshot snapshot, Live live, uint64_t draw, bint billed,
        Visit visit
    ):
        cdef list wins
        cdef int verdict
        while True:
            wins = snapshot.index.select(request, live, draw)
            verdict = self.capper.review(visit, request, snapshot, wins)
            if verdict == WAIT:
                return None
            if verdict == DONE:
                return wins
