"""The lease table: how much this server may still serve of line items that must not overspend.

A file in the run folder that all workers and the agent map. The agent puts units in, which it was
granted in Redis; a worker takes one for each ad that it decides. Whoever may be killed at any
instruction leaves the table whole: all that is left of a lease is one word, its window and its
units together, and it changes by compare-and-swap alone. So a unit is taken once; one that was
taken, or was on its way into the table, by somebody who then died is spent, and comes back when
the window is settled.

A lease ends by Redis's clock. The agent writes how far that is ahead of CLOCK_MONOTONIC, which all
processes of a machine share: it takes a reply's time for that of its request's sending, so the
clock is never behind, and a lease ends early by a round trip at most. Nobody has to tell a worker
that a lease ended, so it ends when the agent is dead, too.

Entries are added at the end and never move: a worker looks up its line items when the file's
version changes, and takes by slot. An entry that goes to another line item was empty for long.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport int64_t, uint32_t, uint64_t

import mmap
import os

from server.events.leases import WINDOW_S, WINDOWS_USED

cdef extern from *:
    """
    #define AT_LOAD(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
    #define AT_STORE(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
    #define AT_ADD(at, value) __atomic_fetch_add(at, value, __ATOMIC_RELAXED)
    #define AT_SWAP(at, value) __atomic_exchange_n(at, value, __ATOMIC_ACQ_REL)
    #define AT_CHANGE(at, found, value) __atomic_compare_exchange_n( \\
        at, found, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
    """
    uint64_t AT_LOAD_64 "AT_LOAD"(uint64_t*) nogil
    int64_t AT_LOAD_I64 "AT_LOAD"(int64_t*) nogil
    uint32_t AT_LOAD_32 "AT_LOAD"(uint32_t*) nogil
    void AT_STORE_64 "AT_STORE"(uint64_t*, uint64_t) nogil
    void AT_STORE_I64 "AT_STORE"(int64_t*, int64_t) nogil
    void AT_STORE_32 "AT_STORE"(uint32_t*, uint32_t) nogil
    uint64_t AT_ADD_64 "AT_ADD"(uint64_t*, uint64_t) nogil
    uint32_t AT_ADD_32 "AT_ADD"(uint32_t*, uint32_t) nogil
    uint64_t AT_SWAP_64 "AT_SWAP"(uint64_t*, uint64_t) nogil
    uint32_t AT_SWAP_32 "AT_SWAP"(uint32_t*, uint32_t) nogil
    bint AT_CHANGE_64 "AT_CHANGE"(uint64_t*, uint64_t*, uint64_t) nogil

# 64 MiB of address space; memory is what has been used of it.
SLOTS_MAX = 1 << 21
WINDOW_NS = WINDOW_S * 1_000_000_000

cdef uint64_t MAGIC = 0x0001_6573_6165_6C61
cdef int64_t _WINDOW_NS = WINDOW_NS
cdef uint64_t _WINDOWS_USED = WINDOWS_USED
cdef uint64_t UNITS = 0xFFFF_FFFF

cdef enum:
    HEADER_BYTES = 4096
    CHUNK_BYTES = 1 << 16   # of the file, backed by memory at once: no take can fail for want of it


# -- what a worker does, with an entry and the window of now


cdef uint64_t _take(Entry* entry, uint64_t line_item_id, uint64_t window) noexcept nogil:
    """Take a unit: the window of its lease; 0 without one, which makes it wanted."""
    cdef uint64_t word = AT_LOAD_64(&entry.word)
    if AT_LOAD_64(&entry.id) != line_item_id:
        return 0
    while _usable(word, window):
        # A failure loads the word as it is now.
        if AT_CHANGE_64(&entry.word, &word, word - 1):
            AT_ADD_64(&entry.taken, 1)
            return word >> 32
    AT_ADD_32(&entry.wanted, 1)
    return 0


cdef inline bint _usable(uint64_t word, uint64_t window) noexcept nogil:
    return word & UNITS and window < (word >> 32) + _WINDOWS_USED


cdef bint _give_back(Entry* entry, uint64_t line_item_id, uint64_t window) noexcept nogil:
    cdef uint64_t word = AT_LOAD_64(&entry.word)
    if AT_LOAD_64(&entry.id) != line_item_id:
        return False
    # Only to the lease that it is of: the units of each must come out even.
    while word >> 32 == window and (word & UNITS) < UNITS:
        if AT_CHANGE_64(&entry.word, &word, word + 1):
            AT_ADD_64(&entry.taken, -1)
            return True
    return False


cdef bint _open_to(Entry* entry, uint64_t line_item_id, uint64_t window) noexcept nogil:
    """Whether a select may find it: it has units, or nobody has found out that it has none."""
    if AT_LOAD_64(&entry.id) != line_item_id:
        return False
    if _usable(AT_LOAD_64(&entry.word), window):
        return True
    return AT_LOAD_32(&entry.state) == ASLEEP and not AT_LOAD_32(&entry.wanted)


@cython.final
@cython.auto_pickle(False)
@cython.no_gc
cdef class LeaseTable:

    def __cinit__(self, path not None, bint create=False):
        cdef int handle
        cdef Py_buffer view
        self.path = os.fspath(path)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        handle = os.open(self.path, flags, 0o600)
        try:
            if create:
                self._create(handle, SLOTS_MAX)
            self.size = os.fstat(handle).st_size
            if self.size < HEADER_BYTES:
                raise ValueError(f"{self.path}: no lease table")
            self.mapped = mmap.mmap(handle, self.size)
        finally:
            os.close(handle)
        # It is never closed, so its memory stays for as long as the object that we hold.
        PyObject_GetBuffer(self.mapped, &view, PyBUF_WRITABLE)
        self.header = <Header*> view.buf
        self.entries = <Entry*> (<char*> view.buf + HEADER_BYTES)
        PyBuffer_Release(&view)
        if self.header.magic != MAGIC \
                or self.header.capacity > (self.size - HEADER_BYTES) // sizeof(Entry):
            raise ValueError(f"{self.path}: no lease table")
        if create:
            self.looked = <uint64_t*> PyMem_RawCalloc(self.header.capacity, sizeof(uint64_t))
            if self.looked == NULL:
                raise MemoryError
            self.look()  # what was taken before is no news

    cdef int _create(self, int handle, uint64_t capacity) except -1:
        """Make a new file ours, or leave one of a predecessor as it is."""
        cdef Header header
        found = os.pread(handle, sizeof(Header), 0)
        if len(found) == sizeof(Header) and int.from_bytes(found[:8], "little") == MAGIC:
            return 0
        header.magic, header.capacity = MAGIC, capacity
        header.count = header.version = 0
        header.clock_ns = 0
        os.ftruncate(handle, HEADER_BYTES + capacity * sizeof(Entry))
        os.posix_fallocate(handle, 0, HEADER_BYTES)
        os.pwrite(handle, (<char*> &header)[:sizeof(Header)], 0)
        return 0

    def __dealloc__(self):
        PyMem_RawFree(self.looked)

    cdef Entry* _entry(self, uint32_t slot) except NULL:
        if slot >= self.header.count:
            raise IndexError("no such slot")
        return &self.entries[slot]

    cdef uint64_t window(self, int64_t monotonic_ns) noexcept nogil:
        """The window of this moment, by Redis's clock."""
        return <uint64_t> ((monotonic_ns + AT_LOAD_I64(&self.header.clock_ns)) // _WINDOW_NS)

    # -- the agent's

    @property
    def clock_ns(self):
        return self.header.clock_ns

    @clock_ns.setter
    def clock_ns(self, int64_t clock_ns):
        AT_STORE_I64(&self.header.clock_ns, clock_ns)

    @property
    def version(self):
        return AT_LOAD_64(&self.header.version)

    @property
    def count(self):
        return AT_LOAD_64(&self.header.count)

    def find_all(self):
        cdef uint32_t slot
        cdef dict slots = {}
        for slot in range(<uint32_t> self.header.count):
            if self.entries[slot].id:
                slots[self.entries[slot].id] = slot
        return slots

    def insert(self, uint64_t line_item_id):
        cdef uint64_t slot = self.header.count
        cdef Py_ssize_t end = HEADER_BYTES + (slot + 1) * sizeof(Entry)
        if slot >= self.header.capacity:
            raise OSError(f"{self.path}: full")
        if slot == 0 or end // CHUNK_BYTES != (end - <Py_ssize_t> sizeof(Entry)) // CHUNK_BYTES:
            self._back(end)
        self.entries[slot].id = line_item_id
        AT_STORE_64(&self.header.count, slot + 1)
        return slot

    def _back(self, Py_ssize_t end):
        """Have memory behind the file up to the end of the next chunk, or fail here."""
        handle = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(handle, 0, min(self.size, (end // CHUNK_BYTES + 1) * CHUNK_BYTES))
        finally:
            os.close(handle)

    def reuse(self, uint32_t slot, uint64_t line_item_id):
        cdef Entry* entry = self._entry(slot)
        AT_STORE_64(&entry.id, 0)
        AT_SWAP_64(&entry.word, 0)
        AT_STORE_32(&entry.state, ASLEEP)
        AT_SWAP_32(&entry.wanted, 0)
        AT_STORE_64(&entry.id, line_item_id)

    def announce(self):
        AT_ADD_64(&self.header.version, 1)

    def put(self, uint32_t slot, uint64_t window, uint64_t units):
        cdef Entry* entry = self._entry(slot)
        cdef uint64_t word = AT_LOAD_64(&entry.word)
        cdef uint64_t wanted
        if not 0 < window <= UNITS or units > UNITS:
            raise ValueError("a lease has a window and units of 32 bits")
        while True:
            if word >> 32 == window:
                wanted = word + min(units, UNITS - (word & UNITS))
            else:
                wanted = window << 32 | units
            if AT_CHANGE_64(&entry.word, &word, wanted):
                break
        if word >> 32 == window:
            word = 0
        return word >> 32, word & UNITS

    def withdraw(self, uint32_t slot):
        cdef uint64_t word = AT_SWAP_64(&self._entry(slot).word, 0)
        return word >> 32, word & UNITS

    def left(self, uint32_t slot):
        cdef uint64_t word = AT_LOAD_64(&self._entry(slot).word)
        return word >> 32, word & UNITS

    def wake(self, uint32_t slot, bint awake):
        AT_STORE_32(&self._entry(slot).state, AWAKE if awake else ASLEEP)

    def is_awake(self, uint32_t slot):
        return AT_LOAD_32(&self._entry(slot).state) == AWAKE

    def look(self):
        cdef Entry* entry
        cdef uint64_t taken
        cdef uint32_t slot, wanted
        cdef list changes = []
        if self.looked == NULL:
            raise ValueError("only the agent looks")
        for slot in range(<uint32_t> self.header.count):
            entry = &self.entries[slot]
            taken = AT_LOAD_64(&entry.taken)
            wanted = AT_LOAD_32(&entry.wanted)
            if taken != self.looked[slot] or wanted:
                if wanted:
                    # Awake before it is no longer wanted: no worker may take it for untried.
                    AT_STORE_32(&entry.state, AWAKE)
                    wanted = AT_SWAP_32(&entry.wanted, 0)
                changes.append((slot, <int64_t> (taken - self.looked[slot]), wanted))
                self.looked[slot] = taken
        return changes

    def held(self):
        cdef uint64_t units = 0
        cdef uint32_t slot
        for slot in range(<uint32_t> self.header.count):
            units += AT_LOAD_64(&self.entries[slot].word) & UNITS
        return units

    # -- a worker's, as it does it in C

    def take(self, uint32_t slot, uint64_t line_item_id, int64_t monotonic_ns):
        return _take(self._entry(slot), line_item_id, self.window(monotonic_ns))

    def give_back(self, uint32_t slot, uint64_t line_item_id, uint64_t window):
        return _give_back(self._entry(slot), line_item_id, window)
