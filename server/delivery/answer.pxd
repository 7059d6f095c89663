from libc.stdint cimport int64_t, uint8_t

from adcore.win cimport Win

from server.delivery.sealing cimport Key
from server.delivery.snapshot cimport Snapshot

cdef class Moment:
    cdef readonly bytes decision_id
    cdef readonly int64_t now_s
    cdef readonly int flags

cdef class Writer:
    cdef Key key
    cdef bytes shown_head, click_head, impression_head, base_url
    cdef object sign_event
    cdef char* room
    cdef Py_ssize_t size, used

    cpdef bytes write(self, asked, list wins, Snapshot snapshot, Moment moment)
    cdef int _begin(self, user, Snapshot snapshot, Moment moment) except -1
    cdef int _add_ad(
        self, Win win, placement, Snapshot snapshot, Moment moment, unsigned int place) except -1
    cdef void _seal(self, uint8_t* token, bytes head, const char* mac, char* text)
    cdef int _add_events(self, list event_ids, served) except -1
    cdef int _add_pricing(self, Win win, Snapshot snapshot) except -1
    cdef int _add(self, bytes piece) except -1
    cdef int _append(self, const char* piece, Py_ssize_t size) except -1
    cdef int _add_hex(self, const uint8_t* raw, Py_ssize_t size) except -1
    cdef int _grow(self, Py_ssize_t wanted) except -1
