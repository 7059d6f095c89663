from libc.stdint cimport uint64_t

cdef class Dice:
    cdef bytes page
    cdef Py_ssize_t at

    cdef bytes take(self)

cpdef uint64_t draw_of(bytes decision_id)
