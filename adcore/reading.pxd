# From a Request to feature numbers: the only place that touches the request's Python objects.

from adcore.choosing cimport Context
from adcore.request cimport Placement, Request
from adcore.tables cimport Tables

cdef int read_request(Context* context, const Tables* tables, Request request) except -1
cdef int read_placement(
    Context* context, const Tables* tables, Placement placement, Request request) except -1
