cdef class Ask:
    cdef readonly str method
    cdef readonly str path
    cdef readonly str query
    cdef readonly object headers  # http.pyi's HeaderMap
    cdef readonly str peer

cdef class Answer:
    cdef readonly int status
    cdef readonly tuple headers
    cdef readonly bytes body
