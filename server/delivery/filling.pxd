from libc.stdint cimport uint64_t

from adcore.live cimport Live
from adcore.request cimport Request

from server.delivery.leased cimport LeasedLines
from server.delivery.snapshot cimport Snapshot

cdef class Filler:
    cdef readonly uint64_t refused

    cpdef list fill(
        self, Request request, Snapshot snapshot, Live live, uint64_t draw, bint billed)
    cdef bint _lease(self, list wins, LeasedLines leased, Live live, uint64_t window) except -1
