"""Which line items of a snapshot need leases, and which of them may be selected now.

A line item whose lease is used up, or ended, is stopped in the plan, so that a select goes on to
the next without looking at it. It is written ten times a second for all of them: read without the
GIL, and written in small steps with it, since an answer waits meanwhile.
"""

cimport cython
from cpython.mem cimport PyMem_RawFree
from libc.stdint cimport int64_t, uint32_t, uint64_t

from adcore.index cimport Index
from adcore.live cimport Live
from adcore.plan cimport NO_RANK, Directory, Standing
from adcore.vector cimport _room

from server.delivery.leasing cimport LeaseTable, _give_back, _open_to, _take

cdef enum:
    NO_SLOT = 0xFFFFFFFF
    STEP = 256          # line items turned in one go: some 50 us


@cython.final
@cython.auto_pickle(False)
cdef class LeasedLines:

    def __cinit__(self, Index index not None, ids not None, lines not None):
        cdef const uint64_t[::1] all_ids = ids
        cdef const uint32_t[::1] all_lines = lines
        cdef uint32_t place, rank
        cdef Directory directory
        self.count = <uint32_t> all_ids.shape[0]
        if not self.count:
            return
        if all_lines.shape[0] != self.count:
            raise ValueError("leased line items: columns of different sizes")
        directory = index._known()
        self.kept = ids
        self.ids = &all_ids[0]
        self.ranks = <uint32_t*> _room(self.count, sizeof(uint32_t))
        self.slots = <uint32_t*> _room(self.count, sizeof(uint32_t))
        self.line_count = index.line_count
        self.places = <uint32_t*> _room(self.line_count, sizeof(uint32_t))
        with nogil:
            for place in range(self.line_count):
                self.places[place] = NO_PLACE
            for place in range(self.count):
                self.slots[place] = NO_SLOT
                rank = directory.rank(<int64_t> self.ids[place])
                if rank == NO_RANK or all_lines[place] >= self.line_count:
                    with gil:
                        raise ValueError("leased line items: not of this index")
                self.ranks[place] = rank
                self.places[all_lines[place]] = place

    def __dealloc__(self):
        PyMem_RawFree(self.ranks)
        PyMem_RawFree(self.slots)
        PyMem_RawFree(self.places)

    def needs(self, uint32_t line):
        return _place_of(self, line) != NO_PLACE

    # -- by the thread that follows the agent

    def look_up(self, LeaseTable table):
        cdef uint64_t version
        if table is None or not self.count:
            return
        version = table.version
        if table is self.table and version == self.version:
            return
        with nogil:
            self._find_slots(table)
        self.table, self.version = table, version

    def apply(self, Live live not None, int64_t monotonic_ns):
        cdef uint32_t[STEP] found
        cdef uint32_t place = 0, number = 0, turned = 0
        cdef uint64_t window = self.window(monotonic_ns)
        cdef Standing* standing = &live.plan.standing
        cdef uint32_t rank, differing
        while place < self.count:
            with nogil:
                differing = self._differing(standing, window, &place, found)
            for number in range(differing):
                rank = self.ranks[found[number]]
                live.turn(rank, not standing.stopped[rank >> 6] >> (rank & 63) & 1)
            turned += differing
        return turned

    cdef uint32_t _differing(
        self, const Standing* standing, uint64_t window, uint32_t* place, uint32_t* found
    ) noexcept nogil:
        """From a place on, find those that must be turned: as many as are turned in one go."""
        cdef uint32_t count = 0, rank, slot
        cdef bint stopped, open_
        while place[0] < self.count and count < STEP:
            rank, slot = self.ranks[place[0]], self.slots[place[0]]
            open_ = slot != NO_SLOT \
                and _open_to(&self.table.entries[slot], self.ids[place[0]], window)
            stopped = standing.stopped[rank >> 6] >> (rank & 63) & 1
            if stopped == open_:
                found[count] = place[0]
                count += 1
            place[0] += 1
        return count

    cdef void _find_slots(self, LeaseTable table) noexcept nogil:
        cdef uint32_t slot, place
        for slot in range(<uint32_t> table.header.count):
            place = self._place(table.entries[slot].id)
            if place != NO_PLACE:
                self.slots[place] = slot

    cdef uint32_t _place(self, uint64_t line_item_id) noexcept nogil:
        cdef uint32_t low = 0, high = self.count
        cdef uint32_t middle
        while low < high:
            middle = low + (high - low) // 2
            if self.ids[middle] < line_item_id:
                low = middle + 1
            else:
                high = middle
        return low if low < self.count and self.ids[low] == line_item_id else <uint32_t> NO_PLACE

    # -- at a decision

    cdef uint64_t window(self, int64_t monotonic_ns) noexcept nogil:
        """The window of this moment; 0 as long as there is no table."""
        if self.version == 0:
            return 0
        return self.table.window(monotonic_ns)

    cdef uint64_t take(self, uint32_t place, uint64_t window) noexcept nogil:
        """Take a unit for a win; the window of its lease, or 0 when there is none."""
        cdef uint32_t slot = self.slots[place]
        if slot == NO_SLOT:
            return 0
        return _take(&self.table.entries[slot], self.ids[place], window)

    cdef void give_back(self, uint32_t place, uint64_t window) noexcept nogil:
        _give_back(&self.table.entries[self.slots[place]], self.ids[place], window)
