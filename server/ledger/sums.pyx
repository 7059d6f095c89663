"""Sums since the last time they were taken away, in the buckets that they go to."""

cimport cython
from libc.stdint cimport int64_t

from server.events.leases import window_start_s
from server.ledger.measures import MEASURES
from server.store.buckets import EVER, QUARTER, SPANS, WINDOW, Spent, hour, quarter, window

assert len(MEASURES) <= MEASURE_COUNT
assert len(Spent._fields) == SPENT_COUNT
assert SPANS[QUARTER].seconds % SPANS[WINDOW].seconds == 0, "a window lies in one quarter"

cdef list _NAMES = [name.encode() for name in MEASURES]
cdef list _SPENT_NAMES = [name.encode() for name in Spent._fields]
cdef int QUARTER_S = SPANS[QUARTER].seconds


@cython.final
cdef class Sums:
    """A cell for each hour, line item, creative and site that something was added to."""

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
        """Return {hour's bucket: {b"line.creative.site.measure": sum}}, and begin anew."""
        cdef dict hours = {}, fields
        cdef Cell cell
        cdef int number
        for (since, line, creative, site), cell in self.cells.items():
            fields = hours.get(since)
            if fields is None:
                fields = hours[since] = {}
            head = b"%d.%d.%d." % (line, creative, site)
            for number in range(len(_NAMES)):
                if cell.sums[number]:
                    fields[head + <bytes> _NAMES[number]] = cell.sums[number]
        self.cells = {}
        return {hour(since): fields for since, fields in hours.items()}


@cython.final
cdef class Cell:
    """One combination's sums, by the measure's number."""

    cdef int add(self, int number, int64_t amount) except -1:
        self.sums[number] += amount
        return 0


@cython.final
cdef class Spending:
    """A cell for each window and line item of which something was billed."""

    def __init__(self):
        self.cells = {}

    def __len__(self):
        return len(self.cells)

    cdef int add(self, int64_t of, line_item_id, int number, int64_t revenue_nanos) except -1:
        """Add one to a measure of `Spent`, by its number, and what it cost, in the window `of`."""
        key = (of, line_item_id)
        cdef SpentCell cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = SpentCell()
        cell.sums[number] += 1
        cell.sums[<int> SPENT_COUNT - 1] += revenue_nanos
        return 0

    def drain(self):
        """Return {bucket: {b"line.measure": sum}} of all kinds but hours, and begin anew."""
        cdef dict totals = {}, in_window, in_quarter, ever
        cdef SpentCell cell
        cdef int number
        for (of, line), cell in self.cells.items():
            in_window = totals.setdefault(window(of), {})
            in_quarter = totals.setdefault(quarter(window_start_s(of) // QUARTER_S), {})
            ever = totals.setdefault(EVER, {})
            for number in range(SPENT_COUNT):
                if cell.sums[number]:
                    field = b"%d.%b" % (line, _SPENT_NAMES[number])
                    for fields in (in_window, in_quarter, ever):
                        (<dict> fields)[field] = (<dict> fields).get(field, 0) + cell.sums[number]
        self.cells = {}
        return totals


@cython.final
cdef class SpentCell:
    """What was billed of one line item in one window, by the measure's number in `Spent`."""
