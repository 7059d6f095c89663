# Memory that grows at its end.

cdef class Vector:
    cdef char* data
    cdef size_t bytes, capacity

    cdef void* extend(self, size_t more) except NULL
