"""From a request to winners that may be served: select, look at who won, and select again.

The index decides by what it was built from and by what is stopped. What may change from one answer
to the next is looked at here, for winners alone: a catalog has many line items, an answer a few.
Selecting again has the same draw, so that whoever was not refused wins again.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from adcore.live cimport Live
from adcore.request cimport Request
from adcore.win cimport Win

from server.delivery.capping cimport DONE, WAIT, Capper
from server.delivery.leased cimport NO_PLACE, LeasedLines, _place_of
from server.delivery.snapshot cimport Snapshot
from server.delivery.visits cimport Visit

from server.clock import monotonic_ns

# A round costs as much as a select, and leaves out each winner that was refused. More than a few
# are needed only when many leases end at once; then the rest gets no ad.
ROUNDS_MAX = 4
cdef int _ROUNDS_MAX = ROUNDS_MAX


@cython.final
cdef class Filler:
    """One a worker."""

    def __init__(self, Capper capper not None):
        self.capper = capper

    cpdef list fill(
        self, Request request, Snapshot snapshot, Live live, uint64_t draw, bint billed,
        Visit visit
    ):
        cdef LeasedLines leased = snapshot.leased
        cdef list wins = self._reviewed(request, snapshot, live, draw, visit)
        cdef int _round
        cdef uint64_t window
        if wins is None or not billed or not leased.count:
            return wins
        window = leased.window(monotonic_ns())
        for _round in range(_ROUNDS_MAX - 1):
            if self._lease(wins, leased, live, window):
                return wins
            _give_back(wins, leased)
            wins = self._reviewed(request, snapshot, live, draw, visit)
            if wins is None:
                return None
        if not self._lease(wins, leased, live, window):
            _drop(wins, leased)
        return wins

    cdef list _reviewed(
        self, Request request, Snapshot snapshot, Live live, uint64_t draw, Visit visit
    ):
        """Select until the user may see all winners; None: the visit waits.

        Caps come before leases, so that no unit of a lease is taken for what a cap refuses.
        """
        cdef list wins
        cdef int verdict
        while True:
            wins, visit.wins = visit.wins, None
            if wins is None:
                wins = snapshot.index.select(request, live, draw)
                self.selected = True
            verdict = self.capper.review(visit, request, snapshot, wins)
            if verdict == WAIT:
                visit.wins = wins  # when it knows more, as a rule they may be shown
                return None
            if verdict == DONE:
                return wins

    cdef bint _lease(self, list wins, LeasedLines leased, Live live, uint64_t window) except -1:
        """Take a unit for each win that needs one; stop whoever has none, and say so."""
        cdef bint whole = True
        cdef uint32_t place
        cdef list won
        cdef Win win
        for won in wins:
            for win in won:
                place = _place_of(leased, win.line)
                if place == NO_PLACE:
                    continue
                win.lease = leased.take(place, window)
                if not win.lease:
                    whole = False
                    self.refused += 1
                    live.turn(leased.ranks[place], True)
        return whole


cdef int _give_back(list wins, LeasedLines leased) except -1:
    cdef list won
    cdef Win win
    for won in wins:
        for win in won:
            if win.lease:
                leased.give_back(_place_of(leased, win.line), win.lease)
                win.lease = 0
    return 0


cdef int _drop(list wins, LeasedLines leased) except -1:
    """No ad, rather than one that nobody may be charged for."""
    cdef Py_ssize_t number
    for number in range(len(wins)):
        wins[number] = [win for win in <list> wins[number] if _may_serve(win, leased)]
    return 0


cdef inline bint _may_serve(Win win, LeasedLines leased):
    return win.lease or _place_of(leased, win.line) == NO_PLACE
