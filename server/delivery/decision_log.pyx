"""Decisions on the record, one in N: what was asked of us and what we answered, for totals.

Every decision would be as many frames as there are requests, for numbers that a sample tells within
a known error: a total is the sum of weights, and its standard deviation is at most the root of
(N x total), so of 10^6 wins one in 100 gives the count within 3 % at 3 sigma.

Who is kept is said by the decision's id alone, so every process says the same of one decision, and
whether a beacon's decision was logged can be told from the beacon's own id. It is said by those
six bytes of the id that are not the draw. The draw says who wins, which line items sit out, and
which requests are held against a scan (`SHADOW_ONE_IN`): chosen by it, the sample would be one of
requests that all had the same luck, and every checked request would be in it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint64_t

from adcore.drawing cimport _splitmix64

from server.delivery.answer cimport Moment
from server.delivery.snapshot cimport Snapshot
from server.delivery.tally cimport Tally

import msgspec

from server.delivery.answer import DECISION_ID_BYTES
from server.errors import SpoolError, SpoolFullError
from server.events.records import RECORD_DECISION, Answered, Decision

cdef enum:
    DRAW_BYTES = 8
    ID_BYTES = 14

if DECISION_ID_BYTES != ID_BYTES:
    raise ImportError(f"a decision id has {DECISION_ID_BYTES} bytes")


@cython.final
cdef class DecisionLog:
    """Writes to a worker's spool, and counts what became of each log.

    The spool sheds a log before anything that is billed, and no answer waits for one that failed.
    """

    def __init__(self, spool not None, int64_t one_in, Tally tally not None):
        if one_in < 0:
            raise ValueError("one in how many decisions: 0 for none")
        self.one_in = one_in
        self.hash_max = (1 << 64) // one_in - 1 if one_in else 0
        self.append = spool.append
        self.encode = msgspec.msgpack.Encoder().encode
        self.tally = tally

    cpdef bint keeps(self, bytes decision_id) except -1:
        """Tell whether this decision is one of those to log."""
        if self.one_in == 0:
            return False
        if len(decision_id) != ID_BYTES:
            raise ValueError(f"a decision id has {ID_BYTES} bytes")
        cdef const uint8_t* raw = <const uint8_t*> PyBytes_AS_STRING(decision_id)
        cdef uint64_t rest = 0
        cdef Py_ssize_t place
        for place in range(DRAW_BYTES, ID_BYTES):
            rest = rest << 8 | raw[place]
        return _splitmix64(rest) <= self.hash_max

    cpdef write(self, list placements, list wins, Snapshot snapshot, Moment moment):
        """Log a decision; `wins`, by placement, is empty when there is no snapshot."""
        record = Decision(
            kind=0,
            outcome=0,
            received_s=moment.now_s,
            issued_s=moment.now_s,
            id=moment.decision_id,
            weight=self.one_in,
            generation=0 if snapshot is None else snapshot.generation,
            answers=_answers(placements, wins),
        )
        try:
            self.append(self.encode(record), billable=False, kind=RECORD_DECISION)
        except SpoolFullError:
            self.tally.logged("shed")
        except SpoolError:
            self.tally.logged("failed")
        else:
            self.tally.logged("written")


cdef list _answers(list placements, list wins):
    cdef list answers = []
    cdef Py_ssize_t number
    for number in range(len(placements)):
        site_id = placements[number].site_id or 0
        won = wins[number] if wins else ()
        for win in won:
            answers.append(Answered(site_id, win.line_item_id, win.creative_id))
        if not won:
            answers.append(Answered(site_id, 0, 0))
    return answers
