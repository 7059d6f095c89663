"""Which tokens have been seen, and with what: one table for each hour in which they were issued.

A table is open addressing over 128-bit ids, whole, so that no two are ever taken for one. It takes
17 bytes a place and is at most three quarters full: 23 to 45 bytes an id. An hour is forgotten all
at once.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cdef enum:
    ID_BYTES = 16
    PLACES_MIN = 1024


@cython.final
cdef class IdTable:
    """Marks by id. A mark of 0 is no mark: the id is not in the table."""

    def __cinit__(self, Py_ssize_t places=PLACES_MIN):
        self.places = places
        self.count = 0
        self.keys = <uint64_t*> calloc(2 * places, sizeof(uint64_t))
        self.marks = <uint8_t*> calloc(places, 1)
        if self.keys == NULL or self.marks == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.keys)
        free(self.marks)

    def __len__(self):
        return self.count

    cpdef int get(self, bytes key) except -1:
        cdef uint64_t[2] words
        _words(key, words)
        return self.marks[self._place(words)]

    cpdef int add(self, bytes key, int mark) except -1:
        """Add bits to an id's mark; return what the mark was before."""
        cdef uint64_t[2] words
        _words(key, words)
        if 4 * (self.count + 1) > 3 * self.places:
            self._grow()
        cdef Py_ssize_t place = self._place(words)
        cdef int before = self.marks[place]
        if before == 0 and mark != 0:
            memcpy(self.keys + 2 * place, words, ID_BYTES)
            self.count += 1
        self.marks[place] = <uint8_t> (before | mark)
        return before

    def dump(self):
        """Return the table as bytes, for `load`."""
        cdef bytes keys = PyBytes_FromStringAndSize(<char*> self.keys, ID_BYTES * self.places)
        return keys + PyBytes_FromStringAndSize(<char*> self.marks, self.places)

    @staticmethod
    def load(bytes dumped not None):
        cdef Py_ssize_t places = PyBytes_GET_SIZE(dumped) // (ID_BYTES + 1)
        if places < PLACES_MIN or places & (places - 1) \
                or places * (ID_BYTES + 1) != PyBytes_GET_SIZE(dumped):
            raise ValueError("no dump of a table")
        cdef IdTable table = IdTable(places)
        memcpy(table.keys, PyBytes_AS_STRING(dumped), ID_BYTES * places)
        memcpy(table.marks, PyBytes_AS_STRING(dumped) + ID_BYTES * places, places)
        cdef Py_ssize_t place
        for place in range(places):
            table.count += table.marks[place] != 0
        return table

    cdef Py_ssize_t _place(self, const uint64_t* words) noexcept:
        """Find the id's place, or the free one where it would go."""
        cdef uint64_t h = words[0] ^ (words[1] * 0x9E3779B97F4A7C15ULL)
        h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93ULL
        cdef Py_ssize_t mask = self.places - 1
        cdef Py_ssize_t place = <Py_ssize_t> (h >> 32) & mask
        while self.marks[place] != 0 and (
            self.keys[2 * place] != words[0] or self.keys[2 * place + 1] != words[1]
        ):
            place = (place + 1) & mask
        return place

    cdef int _grow(self) except -1:
        cdef IdTable larger = IdTable(2 * self.places)
        cdef Py_ssize_t place, to
        for place in range(self.places):
            if self.marks[place]:
                to = larger._place(self.keys + 2 * place)
                memcpy(larger.keys + 2 * to, self.keys + 2 * place, ID_BYTES)
                larger.marks[to] = self.marks[place]
        self.keys, larger.keys = larger.keys, self.keys
        self.marks, larger.marks = larger.marks, self.marks
        self.places, larger.places = larger.places, self.places
        return 0


cdef int _words(bytes key, uint64_t* words) except -1:
    if PyBytes_GET_SIZE(key) != ID_BYTES:
        raise ValueError("an id has 16 bytes")
    memcpy(words, PyBytes_AS_STRING(key), ID_BYTES)
    return 0
