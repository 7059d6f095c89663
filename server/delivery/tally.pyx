"""What every request counts, written straight into the worker's slots of `server/metrics.py`.

That module has the table; here are the few of its counters that a request can't avoid.
"""

cimport cython

from adcore.choosing cimport OUTCOME_COUNT, _outcomes
from adcore.index cimport Index
from adcore.win cimport Win

from adcore.index import OUTCOMES
from server.families import (
    BAD_REQUESTS,
    CLEARED,
    DECISION_LOGS,
    DECISION_SECONDS,
    DECISIONS,
    LATENCY_BOUNDS_NS,
    OTHER,
    REQUESTS,
    ROUTES,
    ROWS_LOOKED_AT,
    SHADOW_CHECKS,
    STATUSES,
    STOPPING,
)


@cython.final
cdef class Tally:
    """Counts for one worker; `metrics` owns the slots, and nobody else writes these."""

    def __init__(self, metrics not None):
        self.slots = metrics.slots
        self.of_main = metrics.of_main
        self.stopping = STOPPING.slot()
        self.first_of_route = {
            path: REQUESTS.slot(route, str(STATUSES[0])) for path, route in ROUTES.items()
        }
        self.first_of_page = REQUESTS.slot("page", str(STATUSES[0]))
        self.first_of_other = REQUESTS.slot(OTHER, str(STATUSES[0]))
        self.place_of_status = {status: place for place, status in enumerate(STATUSES)}
        self.bad_request_slots = {
            reason: BAD_REQUESTS.slot(reason) for reason in BAD_REQUESTS.labels["reason"]
        }
        self.log_slots = {
            result: DECISION_LOGS.slot(result) for result in DECISION_LOGS.labels["result"]
        }
        self.filled = DECISIONS.slot("filled")
        self.no_fill = DECISIONS.slot("no_fill")
        self.no_snapshot = DECISIONS.slot("no_snapshot")
        self.cleared = CLEARED.slot()
        self.rows_looked_at = ROWS_LOOKED_AT.slot(OUTCOMES[0])
        self.shadow_agrees = SHADOW_CHECKS.slot("agrees")
        self.shadow_differs = SHADOW_CHECKS.slot("differs")
        self.latency = DECISION_SECONDS.slot()
        self.bound_count = len(LATENCY_BOUNDS_NS)
        if self.bound_count > BOUNDS_MAX:
            raise ValueError(f"more than {BOUNDS_MAX} buckets")
        for place, bound_ns in enumerate(LATENCY_BOUNDS_NS):
            self.bounds_ns[place] = bound_ns

    cpdef request(self, str path, int status):
        """Count an answer, by route and status."""
        first = self.first_of_route.get(path)
        if first is None:
            first = self.first_of_page if status == 200 else self.first_of_other
        cdef Py_ssize_t place = self.place_of_status.get(status, len(self.place_of_status))
        self.slots[<Py_ssize_t> first + place] += 1

    cpdef bad_request(self, str reason):
        """Count an API request refused; a reason that the table does not know is OTHER."""
        slot = self.bad_request_slots.get(reason)
        self.slots[<Py_ssize_t> (self.bad_request_slots[OTHER] if slot is None else slot)] += 1

    cpdef decided(self, list placements, list wins, int64_t duration_ns):
        """Count an API request; `wins`, by placement, is empty when there is no catalog."""
        cdef Py_ssize_t filled = 0, place = 0
        if wins:
            for won in wins:
                filled += len(<list> won) > 0
            self.slots[self.filled] += filled
            self.slots[self.no_fill] += len(wins) - filled
        else:
            self.slots[self.no_snapshot] += len(placements)
        while place < self.bound_count and duration_ns > self.bounds_ns[place]:
            place += 1
        self.slots[self.latency + place] += 1
        self.slots[self.latency + self.bound_count + 1] += duration_ns

    cpdef sold(self, list wins):
        """Count what an API request's wins, by placement, are worth."""
        cdef Win win
        for won in wins:
            for win in <list> won:
                self.slots[self.cleared] += win.clear_ecpm_micros

    cdef void looked(self, Index index) noexcept:
        """Count what became of the rows that the index looked at in its last select."""
        cdef int64_t[OUTCOME_COUNT] outcomes
        cdef Py_ssize_t place
        _outcomes(index.choice.seen, outcomes)
        for place in range(OUTCOME_COUNT):
            self.slots[self.rows_looked_at + place] += outcomes[place]

    cpdef shadowed(self, bint agrees):
        """Count a check of the index against a scan."""
        self.slots[self.shadow_agrees if agrees else self.shadow_differs] += 1

    cpdef logged(self, str result):
        """Count what became of a decision's log."""
        self.slots[<Py_ssize_t> self.log_slots[result]] += 1

    cpdef bint draining(self):
        """Read the parent's word to its workers: say goodbye to every client."""
        return self.of_main[self.stopping] != 0
