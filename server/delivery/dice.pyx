"""A decision's id, and the draw that it says."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t

from os import urandom

from server.delivery.answer import DECISION_ID_BYTES

cdef enum:
    PAGE_BYTES = 4096


@cython.final
cdef class Dice:
    """Random decision ids, bought from the kernel by the page: one system call in 292 requests."""

    def __init__(self):
        self.at = PAGE_BYTES

    cdef bytes take(self):
        cdef Py_ssize_t first = self.at
        cdef Py_ssize_t size = DECISION_ID_BYTES
        if first + size > PAGE_BYTES:
            self.page, first = urandom(PAGE_BYTES), 0
        self.at = first + size
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.page) + first, size)


cpdef uint64_t draw_of(bytes decision_id):
    """The engine's draw: the id's first 64 bits, so that a decisionId is enough to replay it."""
    cdef const uint8_t* raw = <const uint8_t*> PyBytes_AS_STRING(decision_id)
    cdef uint64_t draw = 0
    cdef Py_ssize_t place
    if len(decision_id) < 8:
        raise ValueError("a decision id has 8 bytes and more")
    for place in range(8):
        draw = draw << 8 | raw[place]
    return draw
