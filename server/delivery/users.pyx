"""What users were shown, as far as a worker knows, and its way to Redis and back.

Requests come on whatever thread the door has; Redis is spoken to on the event loop's. What requests
ask leaves in one batch: at once after a pause, and under load once in GAP_S, so that a request's
share of the way is small. Requests of one user share one read. A request waits for its deadline at
most, over all that it asks, by one timer for all; then its line items' `on_unknown` decides.

When several batches in a row failed or came too late, the breaker opens: nobody waits any more,
and a PING now and then finds out whether Redis answers in time again.

A count is sent when the ad is decided and added here at once. Answers come in the order of
commands, so whatever was counted after a read was sent is what is still unanswered when the read
arrives: it is added on top, and no read takes back what we know.
"""

cimport cython
from libc.stdint cimport int64_t

from server.delivery.sightings cimport Rule, Seen
from server.delivery.visits cimport CHECK, COUNT, NOTHING, PING, READ, Sent, Visit

import logging
import threading
from bisect import bisect_left
from collections import deque

from server.clock import perf_ns
from server.families import (
    CAP_BREAKER_OPEN,
    CAP_CHECKS,
    CAP_COUNTS,
    CAP_READ_SECONDS,
    CAP_READS,
    CAP_UNKNOWN,
    CAP_WINS_REFUSED,
    LATENCY_BOUNDS_NS,
)
from server.store.users import UserCommands, is_error, lost_scripts, user_link

FAILURES_MAX = 3  # batches in a row, and
FAILING_NS = 20_000_000  # for so long: one hiccup of Redis or of our own machine opens nothing
PROBE_S = 0.1
GAP_S = 0.001  # between two batches; the least that uvloop's timers know
USERS_MAX = 20_000  # kept: some 1 kB each
WAITING_MAX = 4096  # requests that wait at once; one more is not known in time

cdef object log = logging.getLogger(__name__)


@cython.final
cdef class Users:
    """One a worker. `start` with the loop; `resume` is called with each visit that need not wait.

    Who calls the cdef methods holds `turn`, and so do the callbacks here.
    """

    def __init__(self, str url not None, keyspace not None, hasher, metrics, double deadline_ms):
        self.deadline_ns = <int64_t> (deadline_ms * 1e6)
        self.turn = threading.RLock()
        self.hash = hasher
        self.commands = UserCommands(keyspace)
        self.link = user_link(url, self._took, self._went)
        self.cache = {}
        self.flights = {}
        self.unanswered = {}
        self.outbox = []
        self.takers = []
        self.waiting = deque()
        self.slots = metrics.slots
        self.slot_of = {
            f"{name} {result}": family.slot(result)
            for name, family in (
                ("read", CAP_READS), ("check", CAP_CHECKS), ("count", CAP_COUNTS),
                ("unknown", CAP_UNKNOWN),
            )
            for result in family.labels["result"]
        }
        self.slot_of["refused"] = CAP_WINS_REFUSED.slot()
        self.slot_of["broken"] = CAP_BREAKER_OPEN.slot()
        self.slot_of["latency"] = CAP_READ_SECONDS.slot()

    def share_turn(self, turn):
        self.turn = turn

    def start(self, loop, resume):
        self.loop = loop
        self.resume = resume
        self.link.start(loop)
        self._probe()

    def close(self):
        """Let nobody wait any more."""
        with self.turn:
            if self.prober is not None:
                self.prober.cancel()
            if self.timer is not None:
                self.timer.cancel()
            self.broken = True
            self._fail(ready := [])
            self._go_on(ready)
            self.loop = None
        self.link.close()

    @property
    def waits(self):
        """How many requests are waiting."""
        return sum((<Visit> it).waits != NOTHING for it in self.waiting)

    # -- for the core, with the turn in hand

    cpdef bytes hashed(self, str key):
        return self.hash(key)

    cdef Seen known(self, bytes user, int64_t now_ns):
        return self.cache.get(user)

    cdef bint ask(self, Visit visit) except -1:
        """Have the user read; false: it can't be known in time."""
        if not self._usable():
            self.tally("read refused")
            return False
        flight = self.flights.get(visit.user)
        if flight is None:
            self.tally("read sent")
            self.flights[visit.user] = [visit]
            self._out(self.commands.read(visit.user), Sent(READ, visit.user, None))
        else:
            self.tally("read shared")
            flight.append(visit)
        self._wait(visit, READ)
        return True

    cdef bint check(self, Visit visit, list rules) except -1:
        """Have line items counted unless a cap is used up; false: it can't be known in time."""
        if not self._usable():
            self.tally("read refused")
            return False
        if visit.user not in self.flights:
            self.flights[visit.user] = []  # its answer is a read, for whoever comes meanwhile
        elif not visit.fresh:
            self.tally("read shared")
            self.flights[visit.user].append(visit)
            self._wait(visit, READ)
            return True
        if not visit.fresh:
            self.tally("read sent")
        visit.needed = rules
        self._out(self._counting(visit, rules, True), Sent(CHECK, visit.user, visit))
        self._wait(visit, CHECK)
        return True

    cdef int count(self, Visit visit, list rules) except -1:
        """Count what is shown."""
        cdef Rule rule
        cdef Seen seen = self.cache.get(visit.user)
        for rule in rules:
            if seen is not None:
                seen.add(rule, visit.visit_s)
        if self.broken or not self.link.up or self.loop is None:
            self.slots[<Py_ssize_t> self.slot_of["count lost"]] += len(rules)
            return 0
        self.slots[<Py_ssize_t> self.slot_of["count sent"]] += len(rules)
        self.unanswered.setdefault(visit.user, []).append((rules, visit.visit_s))
        return self._out(self._counting(visit, rules, False), Sent(COUNT, visit.user, None))

    cdef bytes _counting(self, Visit visit, list rules, bint checked):
        cdef int words = 0
        cdef list lines = []
        cdef Rule rule
        for rule in rules:
            lines.append(rule.checked if checked else rule.counted)
            words += rule.word_count
        return self.commands.count(visit.user, visit.visit_s, lines, words)

    cdef int take_back(self, Visit visit, list rules) except -1:
        """Uncount what was counted ahead and is not shown; where Redis is away it stays counted."""
        cdef Rule rule
        cdef list fields
        for rule in rules:
            if self._usable():
                self.tally("count taken_back")
                fields = [scope.field for scope in rule.scopes]
                self._out(
                    self.commands.take_back(visit.user, visit.visit_s, fields),
                    Sent(PING, None, None))
        self.cache.pop(visit.user, None)
        return 0

    cdef int tally(self, str what) except -1:
        self.slots[<Py_ssize_t> self.slot_of[what]] += 1
        return 0

    cdef bint _usable(self) except -1:
        return not self.broken and self.link.up and self.loop is not None \
            and len(self.waiting) < WAITING_MAX

    cdef int _wait(self, Visit visit, int waits) except -1:
        visit.waits = waits
        if visit.deadline_ns == 0:
            visit.deadline_ns = <int64_t> perf_ns() + self.deadline_ns
            self.waiting.append(visit)
        return 0

    cdef int _out(self, bytes command, taker) except -1:
        self.outbox.append(command)
        self.takers.append(taker)
        self._schedule()
        return 0

    cdef int _schedule(self) except -1:
        """Have a batch leave: at once, or when the one before it has had its time."""
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon_threadsafe(self._flush)
        return 0

    # -- on the loop's thread

    def _flush(self):
        with self.turn:
            outbox, self.outbox = self.outbox, []
            takers, self.takers = self.takers, []
            self.scheduled = len(outbox) > 0 and self.loop is not None
            if self.scheduled:
                self.loop.call_later(GAP_S, self._flush)
            if self.timer is None and self.waiting and self.loop is not None:
                self._set_timer()
        if outbox and not self.link.send(b"".join(outbox), takers):
            self._went()

    def _took(self, answers):
        """Answers have come: first know what they say, then let the requests go on."""
        cdef list ready = []
        cdef Sent sent
        cdef bint well = False, probed = False
        with self.turn:
            now_ns = perf_ns()
            for taker, answer in answers:
                sent = taker
                if <int64_t> now_ns - sent.sent_ns <= self.deadline_ns and not is_error(answer):
                    well = True
                    probed |= sent.kind == PING
                self._answered(sent, answer, now_ns, ready)
            self._note(well, probed)
            self._go_on(ready)

    cdef int _answered(self, Sent sent, answer, int64_t now_ns, list ready) except -1:
        cdef Visit visit
        cdef int denied
        cdef Seen seen = None
        cdef bint failed = is_error(answer)
        cdef int64_t took_ns = now_ns - sent.sent_ns
        if failed and lost_scripts(answer):
            self.loop.call_soon(self.link.cut)  # the next connection brings them along
        if sent.kind == READ:
            self._time(took_ns)
            if not failed:
                seen = self._keep(sent.user, answer, 0)
            else:
                self.tally("read failed")
            self._land(sent.user, seen, ready)
        elif sent.kind == COUNT:
            pending = self.unanswered.get(sent.user)
            if pending:
                pending.pop(0)
                if not pending:
                    del self.unanswered[sent.user]
        elif sent.kind == CHECK:
            self._time(took_ns)
            visit = sent.visit
            if not failed:
                seen = self._keep(sent.user, answer, 1)
            if visit.waits == CHECK:
                visit.waits = NOTHING
                visit.seen, visit.fresh, visit.unknown = seen, True, failed
                if not failed:
                    denied = visit.note(answer[0])
                    self.slots[<Py_ssize_t> self.slot_of["check denied"]] += denied
                    self.slots[<Py_ssize_t> self.slot_of["refused"]] += denied
                    self.slots[<Py_ssize_t> self.slot_of["check allowed"]] += \
                        len(visit.needed) - denied
                ready.append(visit)
            self._land(sent.user, seen, ready)
        return 0

    cdef int _land(self, bytes user, Seen seen, list ready) except -1:
        """Let go on who waited for this user to be read; None: it failed."""
        cdef Visit visit
        for visit in self.flights.pop(user, ()):
            if visit.waits == READ:
                visit.waits = NOTHING
                visit.seen, visit.fresh, visit.unknown = seen, True, seen is None
                ready.append(visit)
        return 0

    cdef Seen _keep(self, bytes user, list flat, Py_ssize_t first):
        """Know a user from now on as Redis does, and what we have counted since."""
        cdef Rule rule
        cdef Seen seen = Seen(flat, first, perf_ns())
        for rules, moment_s in self.unanswered.get(user, ()):
            for rule in rules:
                seen.add(rule, moment_s)
        self.cache.pop(user, None)
        while len(self.cache) >= USERS_MAX:
            del self.cache[next(iter(self.cache))]
        self.cache[user] = seen
        return seen

    cdef int _go_on(self, list ready) except -1:
        for visit in ready:
            self.resume(visit)
        return 0

    def _went(self):
        """The connection is gone: nothing that was sent is answered any more."""
        cdef list ready = []
        with self.turn:
            self._note(False, False)
            self._fail(ready)
            self._go_on(ready)

    cdef int _fail(self, list ready) except -1:
        cdef Visit visit
        self.flights.clear()
        self.unanswered.clear()
        while self.waiting:
            visit = self.waiting.popleft()
            visit.deadline_ns = 1  # waits no more, whatever it asks
            if visit.waits != NOTHING:
                self.tally("read failed")
                visit.waits, visit.unknown = NOTHING, True
                ready.append(visit)
        return 0

    # -- time

    def _set_timer(self):
        cdef Visit visit = self.waiting[0]
        left_ns = max(0, visit.deadline_ns - perf_ns())
        self.timer = self.loop.call_later(left_ns / 1e9, self._overdue)

    def _overdue(self):
        """Some have waited long enough."""
        cdef Visit visit
        cdef list ready = []
        cdef bint late = False
        with self.turn:
            self.timer = None
            now_ns = perf_ns()
            while self.waiting:
                visit = self.waiting[0]
                if visit.waits != NOTHING and visit.deadline_ns > now_ns:
                    break
                self.waiting.popleft()
                if visit.waits != NOTHING:
                    self.tally("read timeout")
                    late = True
                    visit.waits, visit.unknown = NOTHING, True
                    ready.append(visit)
            if late:
                self._note(False, False)
            if self.waiting and self.loop is not None:
                self._set_timer()
            self._go_on(ready)

    def _time(self, int64_t took_ns):
        place = bisect_left(LATENCY_BOUNDS_NS, took_ns)
        self.slots[<Py_ssize_t> self.slot_of["latency"] + <Py_ssize_t> place] += 1
        self.slots[<Py_ssize_t> self.slot_of["latency"] + len(LATENCY_BOUNDS_NS) + 1] += took_ns

    def _note(self, bint well, bint probed):
        """One more success or failure, for the breaker: what a probe finds closes it."""
        cdef int64_t now_ns = perf_ns()
        if well:
            self.failures = 0
            if self.broken and probed and self.loop is not None:
                self.broken = False
                log.info("caps are read again")
        else:
            if not self.failures:
                self.failing_ns = now_ns
            self.failures += 1
            if not self.broken and self.failures >= FAILURES_MAX \
                    and now_ns - self.failing_ns >= FAILING_NS:
                self.broken = True
                log.warning("caps are not known: on_unknown decides")
        self.slots[<Py_ssize_t> self.slot_of["broken"]] = self.broken or not self.link.up

    def _probe(self):
        """While the breaker is open, ask whether Redis is back."""
        with self.turn:
            self._probe_in_turn()

    cdef int _probe_in_turn(self) except -1:
        self.prober = self.loop.call_later(PROBE_S, self._probe)
        if self.broken and self.link.up:
            self._out(self.commands.ping(), Sent(PING, None, None))
        self.slots[<Py_ssize_t> self.slot_of["broken"]] = self.broken or not self.link.up
        return 0
