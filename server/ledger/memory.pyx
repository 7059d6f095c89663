"""What the counter remembers of the past: which ids were seen, which clicks were taken, and when.

Everything here is bounded: it is forgotten by the log's clock, hour by hour and minute by minute,
or earlier where there is too much of it.
"""

cimport cython
from libc.stdint cimport int64_t

from server.ledger.ids cimport IdTable

from itertools import islice

import msgspec

from server.events.records import CLICK_WINDOW_S, EVENT_WINDOW_S

# Ids are known for as long as a beacon of theirs may be valid, and two hours on the way.
KEPT_S = max(CLICK_WINDOW_S, EVENT_WINDOW_S) + 7_200
IDS_MAX = 100_000_000  # over all hours: 4.5 GB at most; beyond, the oldest hour goes early
CLICK_KEPT_S = 31 * 86_400  # a conversion's longest look back, and a day
CLICKS_MAX = 10_000_000  # 1.5 GB: four a second for a month; beyond, the oldest go early
CROWD_KEPT_S = 3600  # how long a spool may be late and still find the clicks beside its own
# A second click on one creative from one network and browser within a second is the first one's.
DOUBLE_CLICK_S = 1
# A /24 may be a whole town behind one address: only what no crowd does is refused.
CLICKS_A_MINUTE_MAX = 60

cdef enum:
    HOUR_S = 3600


@cython.final
cdef class Ids:
    """What was issued in one hour: served ads by id, and a digest for each custom event."""

    def __init__(self):
        self.served, self.events = IdTable(), IdTable()


@cython.final
cdef class Memory:
    def __init__(self):
        self.hours, self.changed, self.saving = {}, set(), set()
        self.clicked, self.converted, self.last_click, self.rates = {}, {}, {}, {}

    cdef Ids ids(self, int64_t hour, int64_t now_s):
        """Return the ids issued in an hour, or None when they are forgotten."""
        if self.is_over(hour, now_s):
            return None
        cdef Ids ids = self.hours.get(hour)
        if ids is None:
            ids = self.hours[hour] = Ids()
        self.changed.add(hour)
        if hour > self.newest_hour:
            self.newest_hour = hour
        return ids

    cdef bint is_over(self, int64_t hour, int64_t now_s):
        return hour < self.first_hour or (hour + 1) * HOUR_S + <int64_t> KEPT_S < now_s

    cdef bint is_double(self, click) except -1:
        """Whether this is the second half of a double click; each click is asked about once."""
        key = (click.network, click.user_agent, click.creative_id)
        before_s = self.last_click.pop(key, None)
        self.last_click[key] = click.received_s
        return before_s is not None and abs(click.received_s - before_s) <= DOUBLE_CLICK_S

    cdef bint is_crowd(self, click) except -1:
        """Whether it is one of too many of its minute; each click is asked about once."""
        if not click.network:
            return False
        key = (click.network, click.creative_id, click.received_s // 60)
        clicks = self.rates[key] = self.rates.get(key, 0) + 1
        return clicks > CLICKS_A_MINUTE_MAX

    cdef int forget(self, int64_t now_s) except -1:
        """Let go of what is over; once a minute is enough."""
        for hour in [hour for hour in self.hours if self.is_over(hour, now_s)]:
            del self.hours[hour]
        while self.hours and sum(len(ids.served) for ids in self.hours.values()) > IDS_MAX:
            self.first_hour = min(self.hours) + 1
            del self.hours[self.first_hour - 1]
        _drop_until(self.last_click, now_s - CROWD_KEPT_S)
        for moments in (self.clicked, self.converted):
            _drop_until(moments, now_s - CLICK_KEPT_S)
            _drop_oldest(moments, len(moments) - <Py_ssize_t> CLICKS_MAX)
        for key in [key for key in self.rates if 60 * <int64_t> key[2] < now_s - CROWD_KEPT_S]:
            del self.rates[key]
        return 0

    cdef tuple dump(self):
        """Return (all but the ids, {hour: its ids} for those in `saving`), each as bytes."""
        small = _Small(self.first_hour, self.clicked, self.converted,
                       list(self.last_click.items()), list(self.rates.items()), self.newest_hour)
        return msgspec.msgpack.encode(small), {
            hour: msgspec.msgpack.encode((ids.served.dump(), ids.events.dump()))
            for hour, ids in self.hours.items() if hour in self.saving}


cdef Memory load(bytes dumped, dict hours):
    """Return what was dumped, with the dumps of all its hours."""
    small = msgspec.msgpack.decode(dumped, type=_Small)
    cdef Memory memory = Memory()
    cdef Ids ids
    memory.first_hour, memory.newest_hour = small.first_hour, small.newest_hour
    memory.clicked, memory.converted = small.clicked, small.converted
    memory.last_click, memory.rates = dict(small.last_click), dict(small.rates)
    for hour, both in hours.items():
        served, events = msgspec.msgpack.decode(both, type=tuple[bytes, bytes])
        ids = Ids()
        ids.served, ids.events = IdTable.load(served), IdTable.load(events)
        memory.hours[hour] = ids
    return memory


class _Small(msgspec.Struct, array_like=True):
    """A `Memory` but for its tables of ids."""

    first_hour: int
    clicked: dict[bytes, int]
    converted: dict[bytes, int]
    last_click: list[tuple[tuple[str, str, int], int]]
    rates: list[tuple[tuple[str, int, int], int]]
    newest_hour: int


cdef int _drop_oldest(dict moments, Py_ssize_t count) except -1:
    for key in list(islice(moments, max(count, 0))):
        del moments[key]
    return 0


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
