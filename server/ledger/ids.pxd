from libc.stdint cimport uint8_t, uint64_t


cdef class IdTable:
    cdef Py_ssize_t places  # a power of two
    cdef Py_ssize_t count
    cdef uint64_t* keys
    cdef uint8_t* marks

    cpdef int get(self, bytes key) except -1
    cpdef int add(self, bytes key, int mark) except -1
    cdef Py_ssize_t _place(self, const uint64_t* words) noexcept
    cdef int _grow(self) except -1
