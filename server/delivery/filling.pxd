from libc.stdint cimport uint64_t

from adcore.live cimport Live
from adcore.request cimport Request

from server.delivery.snapshot cimport Snapshot

cdef class Filler:
    cpdef list fill(
        self, Request request, Snapshot snapshot, Live live, uint64_t draw, bint billed)
