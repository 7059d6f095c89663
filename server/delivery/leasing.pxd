from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    ASLEEP = 0  # nobody has asked for units of it lately
    AWAKE = 1   # the agent asks for it each second

cdef struct Header:
    uint64_t magic
    uint64_t capacity
    uint64_t count          # entries in use, or used before
    uint64_t version        # changes with the line item of any entry
    int64_t clock_ns        # Redis's time less CLOCK_MONOTONIC, never too small

cdef struct Entry:
    uint64_t id             # line item; 0: nobody's
    uint64_t word           # window << 32 | units that are left; changed by compare-and-swap only
    uint64_t taken          # units so far
    uint32_t wanted         # takes that failed since the agent last looked
    uint32_t state

cdef class LeaseTable:
    cdef readonly str path
    cdef Py_ssize_t size
    cdef object mapped
    cdef Header* header
    cdef Entry* entries
    cdef uint64_t* looked   # units taken when the agent last looked, by slot

    cdef int _create(self, int handle, uint64_t capacity) except -1
    cdef Entry* _entry(self, uint32_t slot) except NULL
    cdef uint64_t window(self, int64_t monotonic_ns) noexcept nogil

cdef uint64_t _take(Entry* entry, uint64_t line_item_id, uint64_t window) noexcept nogil
cdef bint _give_back(Entry* entry, uint64_t line_item_id, uint64_t window) noexcept nogil
cdef bint _open_to(Entry* entry, uint64_t line_item_id, uint64_t window) noexcept nogil
