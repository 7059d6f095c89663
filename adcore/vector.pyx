"""Memory for what is being made: of a size that is known, and such as grows at its end."""

cimport cython
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawRealloc

cdef size_t BYTES_MIN = 4096


@cython.final
@cython.auto_pickle(False)
cdef class Vector:
    """Memory that grows at its end; filled and read by compiled code only."""

    def __cinit__(self):
        self.data = <char*> PyMem_RawRealloc(NULL, BYTES_MIN)
        if self.data == NULL:
            raise MemoryError
        self.capacity = BYTES_MIN

    def __dealloc__(self):
        PyMem_RawFree(self.data)

    cdef void* extend(self, size_t more) except NULL:
        """Return the place of so many new bytes; earlier places may have moved."""
        cdef size_t wanted = self.bytes + more
        cdef size_t capacity = self.capacity
        cdef char* data
        if wanted > capacity:
            while capacity < wanted:
                capacity *= 2
            data = <char*> PyMem_RawRealloc(self.data, capacity)
            if data == NULL:
                raise MemoryError
            self.data = data
            self.capacity = capacity
        self.bytes = wanted
        return self.data + wanted - more


cdef void* _room(size_t count, size_t size) except NULL:
    cdef void* room = PyMem_RawCalloc(count + 1, size)
    if room == NULL:
        raise MemoryError
    return room
