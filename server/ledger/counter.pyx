"""From the log to counts: which impression, click, event and conversion is valid, which is not.

A `Counter` is a function of the log's records alone, taken in order. It looks at no clock and no
catalog, so the same log always gives the same counts, on whatever machine it is read again.

Time is the log's: the latest moment that one of its records was written. For what is decided by
when a person acted, it is the moment that the server wrote into the beacon.
"""

cimport cython
from libc.stdint cimport int64_t

from server.ledger.ids cimport IdTable

from collections import deque
from hashlib import blake2b

import msgspec

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
    MEASURES,
    NUMBERS,
    OTHER,
    OUTCOMES_STORED,
    invalid,
)
from server.ledger.wal import Received, Shipped

SKEW_S = 60  # servers keep time by NTP
HELD_S = 300  # a click waits so long for its impression, which may lie in another server's spool
HELD_MAX = 100_000  # what waits at once: 50 MB; the next one is counted without an impression
# Ids are known for as long as a beacon of theirs may be valid, and two hours on the way.
KEPT_S = max(CLICK_WINDOW_S, EVENT_WINDOW_S) + 7_200
IDS_MAX = 100_000_000  # over all hours: 4.5 GB at most; beyond, the oldest hour goes early
CLICK_KEPT_S = 31 * 86_400  # a conversion's longest look back, and a day
# A second click on one creative from one network and browser within a second is the first one's.
DOUBLE_CLICK_S = 1
# A /24 may be a whole town behind one address: only what no crowd does is refused.
CLICKS_A_MINUTE_MAX = 60
CROWD_KEPT_S = 3600  # how long a spool may be late and still find the clicks beside its own

_WINDOWS_S = {
    Kind.IMPRESSION: IMPRESSION_WINDOW_S,
    Kind.CLICK: CLICK_WINDOW_S,
    Kind.EVENT: EVENT_WINDOW_S,
    Kind.CONVERSION: CLICK_KEPT_S,
}

_beacon = msgspec.msgpack.Decoder(Beacon).decode
_decision = msgspec.msgpack.Decoder(Decision).decode

cdef enum:
    MEASURE_COUNT = 160
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

assert len(MEASURES) <= MEASURE_COUNT
assert [*Kind] == [IMPRESSION, CLICK, EVENT, CONVERSION]

cdef int IMPRESSIONS = NUMBERS["impressions"], CLICKS = NUMBERS["clicks"]
cdef int VIEWABLE = NUMBERS["viewable"], EVENTS = NUMBERS["events"]
cdef int CONVERSIONS = NUMBERS["conversions"], REVENUE = NUMBERS["revenue_nanos"]
cdef int VALUE = NUMBERS["conversion_value_micros"], UNREADABLE = NUMBERS["unreadable"]
cdef int REQUESTS = NUMBERS["requests"], DECISIONS = NUMBERS["decisions"]
cdef int NO_FILL = NUMBERS["no_fill"], LOGS = NUMBERS["decision_logs"]

cdef enum Reason:
    DUPLICATE, NO_IMPRESSION, DOUBLE, RATE, LATE, UNATTRIBUTED

# [kind - 1][outcome], and [kind - 1][Reason]
_KNOWN = {outcome.value: outcome.name.lower() for outcome in Outcome}
cdef list _BY_OUTCOME = [
    [invalid(kind, _KNOWN.get(number, OTHER) if number else OTHER)
     for number in range(OUTCOMES_STORED)] for kind in Kind]
cdef list _BY_REASON = [[invalid(kind, reason) for reason in FOUND] for kind in Kind]
cdef list _NAMES = [name.encode() for name in MEASURES]
cdef int EXPIRED = Outcome.EXPIRED, FUTURE = Outcome.FUTURE
cdef int CPM = RATES.index("cpm"), CPC = RATES.index("cpc"), CPA = RATES.index("cpa")


@cython.final
cdef class Cell:
    """The sums of one (hour, line item, creative, site) since the last `drain`."""

    cdef int64_t[MEASURE_COUNT] sums


@cython.final
cdef class Ids:
    """What was issued in one hour: served ads by id, and a digest for each custom event."""

    cdef readonly IdTable served, events

    def __init__(self):
        self.served, self.events = IdTable(), IdTable()


@cython.final
cdef class Counter:
    """Takes the log's records in order; `drain` gives what they added to the counts."""

    cdef int64_t now_s
    cdef dict cells
    cdef dict hours        # hour -> Ids
    cdef set changed, saving  # hours whose ids changed since they were saved, or are now
    cdef int64_t first_hour  # those before it were forgotten early
    cdef dict held         # id -> [beacon]
    cdef object deadlines  # (until when, id), in order
    cdef Py_ssize_t held_count
    cdef dict clicked      # id -> when, for conversions
    cdef dict converted    # digest of id, event and order -> when
    cdef dict last_click   # (network, user agent, creative) -> when
    cdef dict rates        # (network, creative, minute) -> clicks
    cdef readonly int64_t early  # hours forgotten early, for want of room

    def __init__(self):
        self.cells, self.hours, self.held = {}, {}, {}
        self.changed, self.saving, self.deadlines = set(), set(), deque()
        self.clicked, self.converted, self.last_click, self.rates = {}, {}, {}, {}

    @property
    def waiting(self):
        """How many beacons wait for an impression."""
        return self.held_count

    @property
    def touched(self):
        """How many combinations the next `drain` gives; each has one field and more."""
        return len(self.cells)

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
        """Return {hour: {field: delta}} since the last time; a field is b"line.creative.site.name"."""
        cdef dict hours = {}, deltas
        cdef Cell cell
        cdef int number
        for (hour, line, creative, site), cell in self.cells.items():
            deltas = hours.setdefault(hour, {})
            head = b"%d.%d.%d." % (line, creative, site)
            for number in range(len(_NAMES)):
                if cell.sums[number]:
                    deltas[head + <bytes> _NAMES[number]] = cell.sums[number]
        self.cells = {}
        return hours

    # -- one beacon

    cdef int _beacon(self, beacon) except -1:
        cdef int kind = beacon.kind, outcome = beacon.outcome
        if not IMPRESSION <= kind <= CONVERSION or len(beacon.id) != ID_BYTES:
            return self._unreadable()
        if outcome == 0:
            outcome = self._untimely(beacon, kind)
        if outcome:
            outcome = outcome if 0 < outcome < <int> OUTCOMES_STORED else 0
            return _add(self._cell_of(beacon), _BY_OUTCOME[kind - 1][outcome], 1)
        cdef Ids ids = self._ids(beacon.issued_s // HOUR_S)
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
        cdef int before = ids.served.add(beacon.id, SEEN)
        if before & SEEN:
            return self._refuse(beacon, DUPLICATE)
        cdef Cell cell = self._cell_of(beacon)
        _add(cell, IMPRESSIONS, 1)
        if _rate(beacon) == CPM:
            # Micros for a thousand are nanos for one.
            _add(cell, REVENUE, <int64_t> beacon.price_micros)
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
        if self._is_double(beacon):
            return self._refuse(beacon, DOUBLE)
        if self._is_crowd(beacon):
            return self._refuse(beacon, RATE)
        cdef Cell cell = self._cell_of(beacon)
        _add(cell, CLICKS, 1)
        if _rate(beacon) == CPC:
            _add(cell, REVENUE, <int64_t> beacon.price_micros * 1000)
        self.clicked[beacon.id] = beacon.received_s
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
        return _add(self._cell_of(beacon), VIEWABLE if viewable else EVENTS, 1)

    cdef int _conversion(self, beacon, Ids ids) except -1:
        """Count it for the click that it names, or the view, if that is not too long ago."""
        cdef int64_t received_s = beacon.received_s
        cdef bint seen = ids is not None and ids.served.get(beacon.id) & SEEN
        clicked_s = self.clicked.get(beacon.id)
        if not seen and clicked_s is None:
            return self._hold(beacon, ids, UNATTRIBUTED)
        if not (
            (clicked_s is not None and received_s - clicked_s <= beacon.click_lookback_s)
            or (seen and received_s - beacon.issued_s <= beacon.view_lookback_s)
        ):
            return self._refuse(beacon, UNATTRIBUTED)
        key = _digest(beacon.id, b"%d %b" % (beacon.event, beacon.order))
        if key in self.converted:
            return self._refuse(beacon, DUPLICATE)
        self.converted[key] = received_s
        cdef Cell cell = self._cell_of(beacon)
        _add(cell, CONVERSIONS, 1)
        _add(cell, VALUE, <int64_t> beacon.value_micros)
        if _rate(beacon) == CPA:
            _add(cell, REVENUE, <int64_t> beacon.price_micros * 1000)
        return 0

    cdef int _refuse(self, beacon, Reason reason) except -1:
        return _add(self._cell_of(beacon), _BY_REASON[<int> beacon.kind - 1][<int> reason], 1)

    cdef int _unreadable(self) except -1:
        return _add(self._cell(self.now_s // HOUR_S, 0, 0, 0), UNREADABLE, 1)

    # -- rules over several clicks

    cdef bint _is_double(self, beacon) except -1:
        key = (beacon.network, beacon.user_agent, beacon.creative_id)
        before_s = self.last_click.pop(key, None)
        self.last_click[key] = beacon.received_s
        return before_s is not None and abs(beacon.received_s - before_s) <= DOUBLE_CLICK_S

    cdef bint _is_crowd(self, beacon) except -1:
        if not beacon.network:
            return False
        key = (beacon.network, beacon.creative_id, beacon.received_s // 60)
        clicks = self.rates[key] = self.rates.get(key, 0) + 1
        return clicks > CLICKS_A_MINUTE_MAX

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
        self.now_s = now_s
        while self.deadlines and self.deadlines[0][0] <= now_s:
            self._give_up(self.deadlines.popleft()[1])
        if new_minute:
            self._forget(now_s)
        return 0

    cdef int _forget(self, int64_t now_s) except -1:
        for hour in [hour for hour in self.hours if self._is_over(hour)]:
            del self.hours[hour]
        while self.hours and sum(len(ids.served) for ids in self.hours.values()) > IDS_MAX:
            self.first_hour = min(self.hours) + 1
            del self.hours[self.first_hour - 1]
            self.early += 1
        _drop_until(self.last_click, now_s - CROWD_KEPT_S)
        _drop_until(self.clicked, now_s - CLICK_KEPT_S)
        _drop_until(self.converted, now_s - CLICK_KEPT_S)
        for key in [key for key in self.rates if 60 * <int64_t> key[2] < now_s - CROWD_KEPT_S]:
            del self.rates[key]
        return 0

    # -- where things are counted

    cdef Ids _ids(self, int64_t hour):
        """The ids issued in an hour, or None when they are forgotten."""
        cdef Ids ids = self.hours.get(hour)
        if ids is None and not self._is_over(hour):
            ids = self.hours[hour] = Ids()
        self.changed.add(hour)
        return ids

    cdef bint _is_over(self, int64_t hour):
        return hour < self.first_hour or (hour + 1) * HOUR_S + <int64_t> KEPT_S < self.now_s

    cdef Cell _cell_of(self, beacon):
        return self._cell(
            beacon.issued_s // HOUR_S, beacon.line_item_id, beacon.creative_id, beacon.site_id)

    cdef Cell _cell(self, hour, line_item_id, creative_id, site_id):
        key = (hour, line_item_id, creative_id, site_id)
        cdef Cell cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Cell()
        return cell

    cdef int _decision(self, record) except -1:
        try:
            decision = _decision(record)
        except msgspec.MsgspecError:
            return self._unreadable()
        cdef int64_t hour = decision.issued_s // HOUR_S
        cdef int64_t weight = decision.weight
        if not decision.answers or self._is_over(hour) \
                or decision.issued_s > self.now_s + HELD_S:
            return self._unreadable()
        cdef Cell cell = self._cell(hour, 0, 0, decision.answers[0].site_id)
        _add(cell, LOGS, 1)
        _add(cell, REQUESTS, weight)
        for answer in decision.answers:
            cell = self._cell(hour, answer.line_item_id, answer.creative_id, answer.site_id)
            _add(cell, DECISIONS if answer.line_item_id else NO_FILL, weight)
        return 0

    # -- a state that outlives the process

    def state(self):
        """Return (all but the ids, {hour: its ids} for those in `saving`), each as bytes."""
        small = State(
            self.now_s,
            self.first_hour,
            self.early,
            [beacon for waiting in self.held.values() for beacon in waiting],
            list(self.deadlines),
            self.clicked,
            self.converted,
            list(self.last_click.items()),
            list(self.rates.items()),
        )
        return msgspec.msgpack.encode(small), {
            hour: msgspec.msgpack.encode((ids.served.dump(), ids.events.dump()))
            for hour, ids in self.hours.items() if hour in self.saving}

    def known_hours(self):
        """The hours whose ids are still known."""
        return set(self.hours)

    def begin_saving(self):
        """Mark the hours whose ids changed since they were last saved: `state` gives these."""
        self.saving |= self.changed
        self.changed = set()

    def end_saving(self, bint kept):
        """Say whether that state was kept; if not, the next one holds those hours again."""
        if not kept:
            self.changed |= self.saving
        self.saving = set()

    @staticmethod
    def restore(bytes state not None, dict hours not None):
        """Return a counter that goes on where the one went whose `state` this is."""
        small = msgspec.msgpack.decode(state, type=State)
        cdef Counter counter = Counter()
        cdef Ids ids
        counter.now_s, counter.first_hour, counter.early = \
            small.now_s, small.first_hour, small.early
        for beacon in small.held:
            counter.held.setdefault(beacon.id, []).append(beacon)
        counter.held_count = len(small.held)
        counter.deadlines.extend(small.deadlines)
        counter.clicked, counter.converted = small.clicked, small.converted
        counter.last_click, counter.rates = dict(small.last_click), dict(small.rates)
        for hour, dumped in hours.items():
            served, events = msgspec.msgpack.decode(dumped, type=tuple[bytes, bytes])
            ids = Ids()
            ids.served, ids.events = IdTable.load(served), IdTable.load(events)
            counter.hours[hour] = ids
        return counter


class State(msgspec.Struct, array_like=True):
    """A `Counter` but for its tables of ids."""

    now_s: int
    first_hour: int
    early: int
    held: list[Beacon]
    deadlines: list[tuple[int, bytes]]
    clicked: dict[bytes, int]
    converted: dict[bytes, int]
    last_click: list[tuple[tuple[str, str, int], int]]
    rates: list[tuple[tuple[str, int, int], int]]


cdef int _add(Cell cell, int number, int64_t amount) except -1:
    cell.sums[number] += amount
    return 0


cdef int _rate(beacon) except -1:
    return (<int> beacon.flags >> <int> RATE_SHIFT) & <int> RATE_MASK


cdef bytes _digest(bytes id, bytes rest):
    return blake2b(id + rest, digest_size=ID_BYTES).digest()


cdef int _drop_until(dict moments, int64_t before_s) except -1:
    """Drop what is older than a moment, from the front: what came earlier stands there."""
    cdef list old = []
    for key, moment_s in moments.items():
        if moment_s >= before_s:
            break
        old.append(key)
    for key in old:
        del moments[key]
    return 0
