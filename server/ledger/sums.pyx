"""Sums since the last time they were taken away, by hour, line item, creative and site."""

cimport cython
from libc.stdint cimport int64_t

from server.ledger.measures import MEASURES

assert len(MEASURES) <= MEASURE_COUNT

cdef list _NAMES = [name.encode() for name in MEASURES]


@cython.final
cdef class Sums:
    """A cell for each combination that something was added to."""

    def __init__(self):
        self.cells = {}

    def __len__(self):
        return len(self.cells)

    cdef Cell of(self, hour, line_item_id, creative_id, site_id):
        key = (hour, line_item_id, creative_id, site_id)
        cdef Cell cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Cell()
        return cell

    def drain(self):
        """Return {hour: {b"line.creative.site.measure": sum}}, and begin anew."""
        cdef dict hours = {}, fields
        cdef Cell cell
        cdef int number
        for (hour, line, creative, site), cell in self.cells.items():
            fields = hours.setdefault(hour, {})
            head = b"%d.%d.%d." % (line, creative, site)
            for number in range(len(_NAMES)):
                if cell.sums[number]:
                    fields[head + <bytes> _NAMES[number]] = cell.sums[number]
        self.cells = {}
        return hours


@cython.final
cdef class Cell:
    """One combination's sums, by the measure's number."""

    cdef int add(self, int number, int64_t amount) except -1:
        self.sums[number] += amount
        return 0
