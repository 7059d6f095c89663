from libc.stdint cimport int64_t, uint32_t

from adcore.index cimport Index
from adcore.live cimport Live
from adcore.plan cimport Plan

from server.delivery.leased cimport LeasedLines
from server.delivery.leasing cimport LeaseTable

from server.delivery.sightings cimport Rule

cdef class Snapshot:
    cdef readonly int64_t generation
    cdef readonly Index index
    cdef readonly object click_url  # by creative id
    cdef readonly object lookbacks  # by line item id
    cdef readonly object names
    cdef object bundle
    cdef dict templates             # by ad
    cdef dict rules                 # by line item id; None: neither held nor counting
    cdef readonly bint has_caps
    cdef readonly object sharing    # by cap
    cdef readonly LeasedLines leased
    cdef Live _live, _booked
    cdef Plan _plan
    cpdef Live live(self, int64_t now_s)
    cpdef Live booked(self, int64_t at_s)
    cpdef template(self, uint32_t ad)
    cpdef Rule rule(self, int64_t line_item_id)

cdef class Holder:
    cdef readonly Snapshot snapshot
    cdef object run_dir, link, name
    cdef Snapshot retired
    cdef readonly LeaseTable table
    cdef readonly object plan
    cdef str plan_name
