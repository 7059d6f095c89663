"""From a request to winners that may be served: select, look at who won, and select again.

The index decides by what it was built from. What changes from one answer to the next is looked at
here, for winners alone: a catalog has many line items, an answer a few.
"""

cimport cython
from libc.stdint cimport uint64_t

from adcore.live cimport Live
from adcore.request cimport Request

from server.delivery.snapshot cimport Snapshot


@cython.final
cdef class Filler:
    """One a worker."""

    cpdef list fill(
        self, Request request, Snapshot snapshot, Live live, uint64_t draw, bint billed
    ):
        return snapshot.index.select(request, live, draw)
