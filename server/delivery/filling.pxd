from libc.stdint cimport uint64_t

from adcore.live cimport Live
from adcore.request cimport Request

from server.delivery.capping cimport Capper
from server.delivery.snapshot cimport Snapshot
from server.delivery.users cimport Visit

cdef class Filler:
    cdef Capper capper

    cpdef list fill(
        self, Request request, Snapshot snapshot, Live live, uint64_t draw, bint billed,
        Visit visit)
