"""From the log to counts: which impression, click, event and conversion is valid, which is not.

A `Counter` is a function of the log's records alone, taken in order. It looks at no clock and no
catalog, so the same log always gives the same counts, on whatever machine it is read again.

Time is the log's: the latest moment that one of its records was written. For what is decided by
when a person acted, it is the moment that the server wrote into the beacon.
"""

cimport cython
from libc.stdint cimport int64_t

from server.ledger.memory cimport Ids, Memory, load
from server.ledger.sums cimport Cell, Spending, Sums

from collections import deque
from hashlib import blake2b

import msgspec

from server.events.leases import NO_LEASE, closed_window, window_of
from server.events.records import (
    CLICK_WINDOW_S,
    EVENT_WINDOW_S,
    IMPRESSION_WINDOW_S,
    RATE_MASK,
    RATE_SHIFT,
    RATES,
    RECORD_BEACON,
    RECORD_DECISION,
    VIEWABLE_EVENT,
    Beacon,
    Decision,
    Kind,
    Outcome,
)
from server.events.walking import split
from server.ledger.measures import (
    FOUND,
    NUMBERS,
    OTHER,
    OUTCOMES_STORED,
    invalid,
)
from server.ledger.memory import CLICK_KEPT_S
from server.ledger.wal import Received, Shipped
from server.store.buckets import HOUR, SPANS, Spent

SKEW_S = 60  # servers keep time by NTP
HELD_S = 300  # a click waits so long for its impression, which may lie in another server's spool
# Counts go to hours that Redis and checkpoints still keep; a clock gone wrong makes no new ones.
HOURS_BACK_S = SPANS[HOUR].kept_s
HELD_MAX = 100_000  # what waits at once: 50 MB; the next one is counted without an impression

_WINDOWS_S = {
    Kind.IMPRESSION: IMPRESSION_WINDOW_S,
    Kind.CLICK: CLICK_WINDOW_S,
    Kind.EVENT: EVENT_WINDOW_S,
    Kind.CONVERSION: CLICK_KEPT_S,
}

_beacon = msgspec.msgpack.Decoder(Beacon).decode
_decision = msgspec.msgpack.Decoder(Decision).decode

cdef enum:
    HOUR_S = 3600
    ID_BYTES = 16
    # marks of an id
    SEEN = 1     # its impression is counted
    CLICKED = 2  # a click of it was taken, billed or not
    VIEWED = 4   # so was that it could be seen
    WAITS = 8    # something waits for its impression

cdef enum:
    IMPRESSION = 1
    CLICK = 2
    EVENT = 3
    CONVERSION = 4

assert [*Kind] == [IMPRESSION, CLICK, EVENT, CONVERSION]

cdef int IMPRESSIONS = NUMBERS["impressions"], CLICKS = NUMBERS["clicks"]
cdef int VIEWABLE = NUMBERS["viewable"], EVENTS = NUMBERS["events"]
cdef int CONVERSIONS = NUMBERS["conversions"], REVENUE = NUMBERS["revenue_nanos"]
cdef int VALUE = NUMBERS["conversion_value_micros"], UNREADABLE = NUMBERS["unreadable"]
cdef int REQUESTS = NUMBERS["requests"], DECISIONS = NUMBERS["decisions"]
cdef int NO_FILL = NUMBERS["no_fill"], LOGS = NUMBERS["decision_logs"]

cdef enum Reason:
    DUPLICATE, NO_IMPRESSION, DOUBLE, RATE, LATE, UNATTRIBUTED, LEASE_CLOSED

# [kind - 1][outcome], and [kind - 1][Reason]
_KNOWN = {outcome.value: outcome.name.lower() for outcome in Outcome}
cdef list _BY_OUTCOME = [
    [invalid(kind, _KNOWN.get(number, OTHER) if number else OTHER)
     for number in range(OUTCOMES_STORED)] for kind in Kind]
cdef list _BY_REASON = [[invalid(kind, reason) for reason in FOUND] for kind in Kind]
cdef int EXPIRED = Outcome.EXPIRED, FUTURE = Outcome.FUTURE
# The place in `Spent` of what each kind of beacon is billed as; events are not.
cdef int[5] _SPENT = [-1, Spent._fields.index("impressions"), Spent._fields.index("clicks"), -1,
                      Spent._fields.index("conversions")]
cdef int CPM = RATES.index("cpm"), CPC = RATES.index("cpc"), CPA = RATES.index("cpa")


@cython.final
cdef class Counter:
    """Takes the log's records in order; `drain` gives what they added to the counts."""

    cdef readonly int64_t now_s  # the log's time
    cdef int64_t window, closed  # the window that it lies in, and the last one that it has closed
    cdef int64_t begun           # the last window of which a lease may be, by any server's clock
    cdef Sums sums
    cdef Spending spending
    cdef Memory memory
    cdef dict held         # id -> [beacon]
    cdef object deadlines  # (until when, id), in order
    cdef Py_ssize_t held_count

    def __init__(self):
        self.sums, self.spending, self.memory = Sums(), Spending(), Memory()
        self.held, self.deadlines = {}, deque()

    @property
    def waiting(self):
        """How many beacons wait for an impression."""
        return self.held_count

    @property
    def touched(self):
        """How many combinations the next `drain` gives; each has one field and more."""
        return len(self.sums) + 3 * len(self.spending)  # of window, quarter and ever

    @property
    def known_until_s(self):
        """The moment by which buckets grow old: the log's time, or the last hour of ids if earlier.

        A clock that was wrong for one record of the log makes no other record old.
        """
        return min(self.now_s, (self.memory.newest_hour + 1) * HOUR_S)

    def take(self, body):
        """Count one record of the log."""
        cdef int64_t written_s = body.written_ms // 1000
        if written_s > self.now_s:
            self._advance(written_s)
        if not isinstance(body, (Shipped, Received)):
            return
        for kind, record in split(body.frames):
            if kind == RECORD_BEACON:
                try:
                    beacon = _beacon(record)
                except msgspec.MsgspecError:
                    self._unreadable()
                else:
                    self._beacon(beacon)
            elif kind == RECORD_DECISION:
                self._decision(record)
            else:
                self._unreadable()

    def drain(self):
        """Return {bucket: {field: sum}} of what was taken since; see `server.store.buckets`."""
        return self.sums.drain() | self.spending.drain()

    # -- one beacon

    cdef int _beacon(self, beacon) except -1:
        cdef int kind = beacon.kind, outcome = beacon.outcome
        if not IMPRESSION <= kind <= CONVERSION or len(beacon.id) != ID_BYTES:
            return self._unreadable()
        if outcome == 0:
            outcome = self._untimely(beacon, kind)
        if outcome:
            outcome = outcome if 0 < outcome < <int> OUTCOMES_STORED else 0
            return self._cell(beacon).add(_BY_OUTCOME[kind - 1][outcome], 1)
        cdef Ids ids = self.memory.ids(beacon.issued_s // HOUR_S, self.now_s)
        if kind == CONVERSION:
            return self._conversion(beacon, ids)
        if ids is None:
            return self._refuse(beacon, LATE)
        if kind == IMPRESSION:
            return self._impression(beacon, ids)
        if kind == CLICK:
            return self._click(beacon, ids)
        return self._event(beacon, ids)

    cdef int _untimely(self, beacon, int kind) except -1:
        """Tell what the server should have told: a stock shipper's records come as they like."""
        cdef int64_t received_s = beacon.received_s, age_s = received_s - beacon.issued_s
        if age_s < -SKEW_S or received_s > self.now_s + HELD_S:
            return FUTURE
        return EXPIRED if age_s > <int64_t> _WINDOWS_S[kind] else 0

    cdef int _impression(self, beacon, Ids ids) except -1:
        cdef int64_t lease = beacon.lease
        if lease != NO_LEASE and not self.closed < lease <= self.begun:
            # Its units were given back, and may be another's by now; or nobody ever had them.
            repeated = ids.served.get(beacon.id) & SEEN
            return self._refuse(beacon, DUPLICATE if repeated else LEASE_CLOSED)
        cdef int before = ids.served.add(beacon.id, SEEN)
        if before & SEEN:
            return self._refuse(beacon, DUPLICATE)
        self._bill(beacon, IMPRESSIONS)
        if before & WAITS:
            for waiting in self._let_go(beacon.id):
                self._beacon(waiting)
        return 0

    cdef int _click(self, beacon, Ids ids) except -1:
        cdef int before = ids.served.get(beacon.id)
        if before & CLICKED:
            return self._refuse(beacon, DUPLICATE)
        if not before & SEEN:
            return self._hold(beacon, ids, NO_IMPRESSION)
        ids.served.add(beacon.id, CLICKED)
        if self.memory.is_double(beacon):
            return self._refuse(beacon, DOUBLE)
        if self.memory.is_crowd(beacon):
            return self._refuse(beacon, RATE)
        self._bill(beacon, CLICKS)
        self.memory.clicked[beacon.id] = beacon.received_s
        return 0

    cdef int _event(self, beacon, Ids ids) except -1:
        if not ids.served.get(beacon.id) & SEEN:
            return self._hold(beacon, ids, NO_IMPRESSION)
        cdef bint viewable = beacon.event == VIEWABLE_EVENT
        if viewable:
            repeated = ids.served.add(beacon.id, VIEWED) & VIEWED
        else:
            repeated = ids.events.add(_digest(beacon.id, b"%d" % beacon.event), SEEN)
        if repeated:
            return self._refuse(beacon, DUPLICATE)
        return self._cell(beacon).add(VIEWABLE if viewable else EVENTS, 1)

    cdef int _conversion(self, beacon, Ids ids) except -1:
        """Count it for the click that it names, or the view, if that is not too long ago."""
        cdef int64_t received_s = beacon.received_s
        cdef bint seen = ids is not None and ids.served.get(beacon.id) & SEEN
        clicked_s = self.memory.clicked.get(beacon.id)
        if not seen and clicked_s is None:
            return self._hold(beacon, ids, UNATTRIBUTED)
        if not (
            (clicked_s is not None and received_s - clicked_s <= beacon.click_lookback_s)
            or (seen and received_s - beacon.issued_s <= beacon.view_lookback_s)
        ):
            return self._refuse(beacon, UNATTRIBUTED)
        key = _digest(beacon.id, b"%d %b" % (beacon.event, beacon.order))
        if key in self.memory.converted:
            return self._refuse(beacon, DUPLICATE)
        self.memory.converted[key] = received_s
        self._bill(beacon, CONVERSIONS).add(VALUE, <int64_t> beacon.value_micros)
        return 0

    cdef Cell _bill(self, beacon, int measure):
        """Count a valid beacon, and what is owed for it; return its hour's cell."""
        cdef int kind = beacon.kind, rate = _rate(beacon)
        cdef int64_t price_micros = beacon.price_micros, revenue_nanos = 0
        if kind == IMPRESSION and rate == CPM:
            revenue_nanos = price_micros  # micros for a thousand are nanos for one
        elif (kind == CLICK and rate == CPC) or (kind == CONVERSION and rate == CPA):
            revenue_nanos = price_micros * 1000
        cdef Cell cell = self._cell(beacon)
        cell.add(measure, 1)
        cell.add(REVENUE, revenue_nanos)
        # A lease is settled by what was shown of it; what comes after finds its own window.
        cdef int64_t lease = beacon.lease if kind == IMPRESSION else NO_LEASE
        self.spending.add(lease if lease else self.window, beacon.line_item_id, _SPENT[kind],
                          revenue_nanos)
        return cell

    cdef int _refuse(self, beacon, Reason reason) except -1:
        return self._cell(beacon).add(_BY_REASON[<int> beacon.kind - 1][<int> reason], 1)

    cdef int _unreadable(self) except -1:
        return self.sums.of(self.now_s // HOUR_S, 0, 0, 0).add(UNREADABLE, 1)

    # -- what waits for its impression

    cdef int _hold(self, beacon, Ids ids, Reason reason) except -1:
        """Keep it until its impression comes, unless that can't be any more; then refuse it."""
        if (
            ids is None
            or self.held_count >= HELD_MAX
            or self.now_s - <int64_t> beacon.issued_s > IMPRESSION_WINDOW_S + HELD_S
        ):
            return self._refuse(beacon, reason)
        ids.served.add(beacon.id, WAITS)
        self.held.setdefault(beacon.id, []).append(beacon)
        self.held_count += 1
        self.deadlines.append((self.now_s + HELD_S, beacon.id))
        return 0

    cdef list _let_go(self, id):
        cdef list waiting = self.held.pop(id, [])
        self.held_count -= len(waiting)
        return waiting

    cdef int _give_up(self, id) except -1:
        """Refuse the first that waits for this impression, if it is not there by now."""
        cdef list waiting = self.held.get(id)
        if waiting is None:
            return 0
        beacon = waiting.pop(0)
        self.held_count -= 1
        if not waiting:
            del self.held[id]
        return self._refuse(beacon, UNATTRIBUTED if beacon.kind == CONVERSION else NO_IMPRESSION)

    cdef int _advance(self, int64_t now_s) except -1:
        """Move the log's clock, and let go of what is over."""
        cdef bint new_minute = now_s // 60 != self.now_s // 60
        self._set_time(now_s)
        while self.deadlines and self.deadlines[0][0] <= now_s:
            self._give_up(self.deadlines.popleft()[1])
        if new_minute:
            self.memory.forget(now_s)
        return 0

    cdef int _set_time(self, int64_t now_s) except -1:
        self.now_s = now_s
        self.window, self.closed = window_of(now_s), closed_window(now_s)
        self.begun = window_of(now_s + HELD_S)
        return 0

    cdef Cell _cell(self, beacon):
        """Where a beacon counts: the hour of its decision, or of the log if that can't be true."""
        cdef int64_t issued_s = beacon.issued_s
        if not self.now_s - <int64_t> HOURS_BACK_S <= issued_s <= self.now_s + HELD_S:
            issued_s = self.now_s
        return self.sums.of(
            issued_s // HOUR_S, beacon.line_item_id, beacon.creative_id, beacon.site_id)

    cdef int _decision(self, record) except -1:
        try:
            decision = _decision(record)
        except msgspec.MsgspecError:
            return self._unreadable()
        cdef int64_t hour = decision.issued_s // HOUR_S
        cdef int64_t weight = decision.weight
        if not decision.answers or self.memory.is_over(hour, self.now_s) \
                or decision.issued_s > self.now_s + HELD_S:
            return self._unreadable()
        cdef Cell cell = self.sums.of(hour, 0, 0, decision.answers[0].site_id)
        cell.add(LOGS, 1)
        cell.add(REQUESTS, weight)
        for answer in decision.answers:
            cell = self.sums.of(hour, answer.line_item_id, answer.creative_id, answer.site_id)
            cell.add(DECISIONS if answer.line_item_id else NO_FILL, weight)
        return 0

    # -- a state that outlives the process

    def state(self):
        """Return (all but the ids, {hour: its ids} for those that are being saved), as bytes."""
        memory, hours = self.memory.dump()
        held = [beacon for waiting in self.held.values() for beacon in waiting]
        return msgspec.msgpack.encode((self.now_s, held, list(self.deadlines), memory)), hours

    def known_hours(self):
        """The hours whose ids are still known."""
        return set(self.memory.hours)

    def begin_saving(self):
        """Mark the hours whose ids changed since they were last saved: `state` gives these."""
        self.memory.saving |= self.memory.changed
        self.memory.changed = set()

    def end_saving(self, bint kept):
        """Say whether that state was kept; if not, the next one holds those hours again."""
        if not kept:
            self.memory.changed |= self.memory.saving
        self.memory.saving = set()

    @staticmethod
    def restore(bytes state not None, dict hours not None):
        """Return a counter that goes on where the one went whose `state` this is."""
        now_s, held, deadlines, memory = msgspec.msgpack.decode(state, type=_State)
        cdef Counter counter = Counter()
        counter._set_time(now_s)
        counter.held_count = len(held)
        counter.memory = load(memory, hours)
        for beacon in held:
            counter.held.setdefault(beacon.id, []).append(beacon)
        counter.deadlines.extend(deadlines)
        return counter


_State = tuple[int, list[Beacon], list[tuple[int, bytes]], bytes]


cdef int _rate(beacon) except -1:
    return (<int> beacon.flags >> <int> RATE_SHIFT) & <int> RATE_MASK


cdef bytes _digest(bytes id, bytes rest):
    return blake2b(id + rest, digest_size=ID_BYTES).digest()
