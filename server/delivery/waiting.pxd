cdef class Waiting:
    cdef double timeout_s
    cdef dict since_s  # by waiter
    cpdef add(self, waiter)
    cpdef bint remove(self, waiter)
