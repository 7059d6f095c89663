# Memory for what is being made: of a size that is known, and such as grows at its end.

# Room for so many and one more, all zero, so that none is not NULL; PyMem_RawFree gives it back.
cdef void* _room(size_t count, size_t size) except NULL

cdef class Vector:
    cdef char* data
    cdef size_t bytes, capacity

    cdef void* extend(self, size_t more) except NULL
