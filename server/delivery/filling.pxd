from libc.stdint cimport uint64_t

from adcore.live cimport Live
from adcore.request cimport Request

from server.delivery.capping cimport Capper
from server.delivery.leased cimport LeasedLines
from server.delivery.snapshot cimport Snapshot
from server.delivery.visits cimport Visit

cdef class Filler:
    cdef Capper capper
    cdef readonly uint64_t refused
    cdef bint selected      # since the caller last looked

    cpdef list fill(
        self, Request request, Snapshot snapshot, Live live, uint64_t draw, bint billed,
        Visit visit)
    cdef list _reviewed(
        self, Request request, Snapshot snapshot, Live live, uint64_t draw, Visit visit)
    cdef bint _lease(self, list wins, LeasedLines leased, Live live, uint64_t window) except -1
