from libc.stdint cimport int64_t, uint32_t, uint64_t

from adcore.choosing cimport Choice, Winner
from adcore.live cimport Live
from adcore.plan cimport Directory
from adcore.request cimport Request
from adcore.tables cimport Tables
from adcore.win cimport Win

cdef class Index:
    cdef Py_buffer view
    cdef Tables tables
    cdef Choice* choice
    cdef uint32_t* row_lines    # the line of each row; NULL until the first full match
    cdef bint busy
    cdef Directory directory    # made when first asked for
    # How much of the context is the request's own, and stays from one placement to the next.
    cdef uint32_t shared_features, shared_numbers, shared_key_values

    cpdef list select(self, Request request, Live live, uint64_t draw)
    cdef int _check_zones(self) except -1
    cdef int _allocate(self) except -1
    cdef int _explain(
        self, Request request, Live live, uint64_t draw, list reasons, list details) except -1
    cdef Directory _known(self)
    cdef str _dimension(self, uint32_t space)
    cdef list _placements(self, Request request, Live live)
    cdef int _begin(self, Request request) except -1
    cdef int _prepare(
        self, Request request, Live live, uint32_t number, bint to_the_end) except -1
    cdef int _select(self, Request request, Live live, uint64_t draw, list answers) except -1
    cdef int _know_lines(self) except -1
    cdef list _matching(self, Request request, Live live, bint by_rows)
    cdef Win _win(self, const Winner* winner)
