cdef class Placement:
    cdef public str name
    cdef public object site
    cdef public list zones
    cdef public list ad_types
    cdef public object count
    cdef public object floor_micros
    cdef public dict key_values
    cdef public list capped_line_items

cdef class Request:
    cdef public list placements
    cdef public str country
    cdef public str region
    cdef public str metro
    cdef public str city
    cdef public str device
    cdef public str os
    cdef public str browser
    cdef public str language
    cdef public str domain
    cdef public str connection
    cdef public list keywords
    cdef public list categories
    cdef public list segments
    cdef public dict key_values
    cdef public list blocked_creatives
    cdef public list capped_line_items
