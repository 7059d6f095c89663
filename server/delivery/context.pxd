cdef class Context:
    cdef readonly object device  # devices.Device
    cdef readonly object place   # geo.Place
    cdef readonly str language

cpdef domain(str url)
