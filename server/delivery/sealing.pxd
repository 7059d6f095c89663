cimport cython
from libc.stdint cimport uint8_t


@cython.final
cdef class Key:
    cdef readonly int id
    cdef object inner
    cdef object outer
    cpdef bytes mac(self, bytes message)


# The spelling of `size` bytes, a multiple of three, as size / 3 * 4 characters at `text`.
cdef void _spell(const uint8_t* raw, Py_ssize_t size, char* text) noexcept nogil
