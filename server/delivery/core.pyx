"""The synchronous core: an `Ask` and its body in, an `Answer` out, with nothing awaited.

A door first calls `admit`, which answers at once whatever needs no body, good or bad; None
means that the body is wanted, and `decide` answers with it. Nothing a client sends ends in a
5xx: what is wrong is a 4xx with a short JSON reason.
"""

cimport cython
from libc.stdint cimport int64_t, uint64_t

from adcore.live cimport Live
from adcore.request cimport Request

from server.delivery.answer cimport Moment, Writer
from server.delivery.capping cimport Capper
from server.delivery.decision_log cimport DecisionLog
from server.delivery.dice cimport Dice, draw_of
from server.delivery.filling cimport Filler
from server.delivery.http cimport Answer, Ask
from server.delivery.snapshot cimport Holder, Snapshot
from server.delivery.tally cimport Tally
from server.delivery.users cimport Users
from server.delivery.visits cimport Visit

import logging
import re
from hmac import compare_digest

import msgspec

from server.clock import now_s, perf_ns
from server.delivery.asking import is_personal, to_request
from server.delivery.context import ContextReader
from server.delivery.kevel import Unreadable, parse
from server.delivery.waterfall import explained

cdef object log = logging.getLogger(__name__)

API = "/api/v2"
PING = "/ping"

BODY_BYTES_MAX = 65_536  # 30 x a large request; decoding it stays below a millisecond
URL_CHARS_MAX = 8_192  # what proxies pass on
HEADERS_MAX = 64  # browsers send about 20
cdef Py_ssize_t LENGTH_DIGITS_MAX = 19  # as 64 bits have
SHADOW_ONE_IN = 10_000  # requests: a fault of the index shows within seconds, and costs nothing
SHADOW_WORDS = 64  # of 64 rows each: 80 us, however large the catalog

# What a caller may call JSON: browsers send the second without a preflight, `curl -d` the third.
cdef frozenset _MEDIA_TYPES = frozenset(
    {"application/json", "text/plain", "application/x-www-form-urlencoded"}
)

# Until the year 2286; digits in ASCII, as others are digits to Python too.
cdef object _SECONDS = re.compile(r"[0-9]{1,10}").fullmatch

JSON_HEADERS = (
    ("content-type", "application/json"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
)
# The unread rest of a refused request must not be taken for the next one.
cdef tuple _CLOSE = ("connection", "close")


def refusal(int status, str error not None, *headers):
    """A 4xx that says why, as JSON."""
    return Answer(status, JSON_HEADERS + headers, msgspec.json.encode({"error": error}))


cdef Answer _NOT_FOUND = refusal(404, "no such path")
cdef Answer _TOO_LONG = refusal(414, f"the URL is longer than {URL_CHARS_MAX} characters", _CLOSE)
cdef Answer _TOO_MANY = refusal(431, f"more than {HEADERS_MAX} headers", _CLOSE)
cdef Answer _ONE_HOST = refusal(400, "exactly one Host header is needed", _CLOSE)
cdef Answer _MEDIA_TYPE = refusal(415, "the body must be application/json", _CLOSE)
cdef Answer _ENCODED = refusal(415, "no content-encoding is understood", _CLOSE)
cdef Answer _LENGTH = refusal(400, "content-length is not a number", _CLOSE)
cdef Answer _TIME = refusal(400, "x-adcore-time must be UTC seconds")
cdef Answer _USE_POST = refusal(405, "use POST", ("allow", "POST, OPTIONS"), _CLOSE)
cdef Answer _USE_GET = refusal(405, "use GET", ("allow", "GET, HEAD"), _CLOSE)
cdef Answer _USE_BEACON = refusal(405, "use GET or POST", ("allow", "GET, HEAD, POST"), _CLOSE)
cdef Answer _NO_KEY = refusal(
    401, "x-adcore-explain needs the ops key: authorization: Bearer KEY",
    ("www-authenticate", "Bearer"))
cdef Answer _TOO_SOON = refusal(
    429, "a worker explains one request a second", ("retry-after", "1"))
cdef Answer _PREFLIGHT = Answer(204, (("allow", "POST, OPTIONS"),), b"")

# What a door answers when the body itself fails.
TOO_LARGE = refusal(413, f"the body is larger than {BODY_BYTES_MAX} bytes", _CLOSE)
LATE = refusal(408, "the body did not arrive in time", _CLOSE)
BROKEN = refusal(400, "the body can't be read", _CLOSE)
FAILED = Answer(500, (*JSON_HEADERS, _CLOSE), b'{"error":"our own fault, and logged"}')

# What was wrong with an API request, for the metric; a refusal of its body counts itself.
cdef dict _REASONS = {
    _TOO_LONG: "headers",
    _TOO_MANY: "headers",
    _ONE_HOST: "headers",
    _LENGTH: "headers",
    _MEDIA_TYPE: "media_type",
    _ENCODED: "encoding",
    _USE_POST: "method",
    TOO_LARGE: "size",
    LATE: "timeout",
    BROKEN: "other",
}


@cython.final
@cython.freelist(64)
cdef class Pending(Visit):
    """A request that is being decided: whatever it takes to go on after it has waited."""

    cdef Ask ask
    cdef object asked
    cdef Request request
    cdef Snapshot snapshot
    cdef Live live
    cdef bytes decision_id
    cdef uint64_t draw
    cdef int64_t started_ns, received_s
    cdef bint previewed, explain


@cython.final
cdef class Core:
    """One a worker. `pages` are prepared answers by path, empty outside the demo."""

    cdef Holder holder
    cdef Capper capper
    cdef Filler filler
    cdef Writer writer
    cdef Tally tally
    cdef Dice dice
    cdef DecisionLog decision_log
    cdef object contexts, tracker
    cdef dict beacons, pages
    cdef frozenset origins
    cdef bint preview
    cdef bytes ops_key      # None: nobody may ask for an explanation
    cdef int64_t explained_s

    def __init__(
        self, config not None, Holder holder not None, keyring not None, tracker not None,
        Tally tally not None, pages not None, Users users not None,
    ):
        self.holder = holder
        self.capper = Capper(users)
        self.filler = Filler(self.capper)
        self.writer = Writer(keyring, config.base_url)
        self.tally = tally
        self.dice = Dice()
        self.decision_log = DecisionLog(tracker.spool, config.decision_log_one_in, tally)
        self.contexts = ContextReader(config)
        self.tracker = tracker
        self.beacons = {
            "/i.gif": tracker.impression,
            "/r": tracker.click,
            "/e.gif": tracker.event,
            "/c.gif": tracker.conversion,
        }
        self.pages = {PING: self._ping, **pages}
        self.origins = frozenset(config.cors_origins)
        self.preview = config.preview
        self.ops_key = config.ops_key.encode() if config.ops_key else None

    # -- the calls of a door: each request ends in exactly one of them with an answer

    def admit(self, Ask ask not None):
        """The answer to whatever needs no body, and to what is wrong; None: the body is wanted."""
        answer = self._admit(ask)
        return None if answer is None else self.done(ask, answer)

    def decide(self, Ask ask not None, bytes body not None):
        """The answer to an API request whose body has arrived; or a Pending, which the caller gives
        a `deliver` before it lets go of its turn: that is called with the answer, once."""
        if len(body) > BODY_BYTES_MAX:
            return self.done(ask, TOO_LARGE)
        decided = self._decide(ask, body)
        return decided if isinstance(decided, Pending) else self.done(ask, decided)

    def resume(self, Pending pending not None):
        """Go on with a visit that need not wait any more."""
        try:
            answer = self._fill(pending)
            if answer is pending:
                return
        except Exception:
            log.exception("a request failed", extra={"path": pending.ask.path})
            answer = FAILED
        deliver, pending.deliver = pending.deliver, None
        deliver(self.done(pending.ask, answer))

    cpdef Answer done(self, Ask ask, Answer answer):
        """Counts the answer, and adds what every answer carries."""
        self.tally.request(ask.path, answer.status)
        if answer.status >= 400 and ask.path == API and answer in _REASONS:
            self.tally.bad_request(_REASONS[answer])
        cdef tuple headers = answer.headers
        if self.origins:
            headers += self._cors(ask)
        if self.tally.draining():
            headers += (_CLOSE,)
        if headers is answer.headers:
            return answer
        return Answer(answer.status, headers, answer.body)

    def lookups(self):
        """Hits and misses so far, by cache."""
        return {**self.contexts.lookups(), **self.tracker.lookups()}

    def leases_refused(self):
        """Winners without a lease so far."""
        return self.filler.refused

    # -- before the body -------------------------------------------------------------------------

    cdef Answer _admit(self, Ask ask):
        if len(ask.path) + len(ask.query) > URL_CHARS_MAX:
            return _TOO_LONG
        if len(ask.headers) > HEADERS_MAX:
            return _TOO_MANY
        cdef list hosts = ask.headers.get_all("host")
        # Granian's ASGI gives an empty one for none.
        if len(hosts) != 1 or not hosts[0]:
            return _ONE_HOST
        if ask.path == API:
            return self._admit_api(ask)
        beacon = self.beacons.get(ask.path)
        if beacon is not None:
            if ask.method not in ("GET", "HEAD", "POST"):
                return _USE_BEACON
            return beacon(ask, self.contexts.client_ip(ask), now_s())
        page = self.pages.get(ask.path)
        if page is None:
            return _NOT_FOUND
        return page() if ask.method in ("GET", "HEAD") else _USE_GET

    cdef Answer _admit_api(self, Ask ask):
        if ask.method != "POST":
            return _PREFLIGHT if ask.method == "OPTIONS" else _USE_POST
        headers = ask.headers
        media_type = headers.get("content-type")
        if media_type is not None and not _is_json(media_type):
            return _MEDIA_TYPE
        encoding = headers.get("content-encoding")
        if encoding is not None and encoding.lower() != "identity":
            return _ENCODED
        cdef str length = headers.get("content-length")
        if length is None:
            return None  # chunked, or empty: the door counts as it reads
        if not (length.isascii() and length.isdigit()):
            return _LENGTH
        # Longer ones are no number to `int`, which refuses what is slow to read.
        if len(length) > LENGTH_DIGITS_MAX or int(length) > BODY_BYTES_MAX:
            return TOO_LARGE
        return None

    def _ping(self):
        """Ready: an index is loaded and we are not going away."""
        cdef Snapshot snapshot = self.holder.snapshot
        if self.tally.draining():
            return Answer(503, JSON_HEADERS, b'{"status":"draining"}')
        if snapshot is None:
            return Answer(503, JSON_HEADERS, b'{"status":"waiting for a catalog"}')
        return Answer(200, JSON_HEADERS, b'{"status":"ok","generation":%d}' % snapshot.generation)

    cdef tuple _cors(self, Ask ask):
        """Only origins that the settings list may read our answers; no other is ever echoed."""
        origin = ask.headers.get("origin")
        if origin not in self.origins:
            return (("vary", "origin"),)
        return (
            ("vary", "origin"),
            ("access-control-allow-origin", origin),
            ("access-control-allow-methods", "POST"),
            ("access-control-allow-headers", "content-type"),
            ("access-control-max-age", "86400"),
        )

    # -- the decision ----------------------------------------------------------------------------

    cdef _decide(self, Ask ask, bytes body):
        """The answer, or the Pending that waits for it."""
        cdef Pending pending = Pending.__new__(Pending)
        cdef int64_t at_s
        cdef bint personal, elsewhen = False
        pending.started_ns = perf_ns()
        pending.received_s = at_s = now_s()
        try:
            pending.asked = asked = parse(body)
        except Unreadable as error:
            return self._unreadable(error.reason, str(error))
        if self.ops_key is not None and ask.headers.get("x-adcore-explain") == "1":
            refused = self._refuse_explaining(ask, pending.received_s)
            if refused is not None:
                return refused
            pending.explain = pending.previewed = True
        if self.preview or pending.explain:
            stated = ask.headers.get("x-adcore-time")
            if stated is not None:
                if not _SECONDS(stated):
                    return _TIME
                at_s, pending.previewed, elsewhen = int(stated), True, True
        # Read once: a swap between two reads would mix two generations.
        cdef Snapshot snapshot = self.holder.snapshot
        pending.ask = ask
        pending.decision_id = self.dice.take()
        pending.draw = draw_of(pending.decision_id)
        if snapshot is None:
            return self._write(pending, [])
        personal = is_personal(asked, ask.headers)
        pending.snapshot = snapshot
        pending.live = snapshot.booked(at_s) if elsewhen else snapshot.live(at_s)
        pending.request = to_request(asked, self.contexts.read(ask, asked.ip), personal)
        pending.visit_s = at_s
        pending.counts = not pending.previewed
        if personal and snapshot.has_caps and asked.user is not None and asked.user.key is not None:
            pending.user = self.capper.users.hashed(asked.user.key)
        return self._fill(pending)

    cdef _fill(self, Pending pending):
        """Fill and answer, or come back when the visit may go on."""
        cdef Snapshot snapshot = pending.snapshot
        cdef list wins
        try:
            wins = self.filler.fill(
                pending.request, snapshot, pending.live, pending.draw, not pending.previewed,
                pending)
        except ValueError as error:
            # The engine's bounds on a request as a whole, which no single field breaks.
            return self._unreadable("shape", str(error))
        if self.filler.selected:
            self.tally.looked(snapshot.index)
            self.filler.selected = False
        if wins is None:
            return pending
        self.capper.shown(pending, snapshot, wins)
        if pending.draw % <uint64_t> SHADOW_ONE_IN == 0:
            self._shadow(pending.request, snapshot, pending.live, pending.draw)
        return self._write(pending, wins)

    cdef Answer _write(self, Pending pending, list wins):
        cdef Snapshot snapshot = pending.snapshot
        asked = pending.asked
        moment = Moment(pending.decision_id, pending.received_s, pending.previewed)
        written = self.writer.write(asked, wins, snapshot, moment)
        if pending.explain and snapshot is not None:
            explanations = snapshot.index.explain(pending.request, pending.live, pending.draw)
            written = explained(written, asked, explanations, snapshot)
        if not pending.previewed:
            self.tally.sold(wins)
        if not pending.previewed and self.decision_log.keeps(pending.decision_id):
            self.decision_log.write(asked.placements, wins, snapshot, moment)
        self.tally.decided(asked.placements, wins, <int64_t> perf_ns() - pending.started_ns)
        return Answer(200, JSON_HEADERS, written)

    cdef _shadow(self, request, Snapshot snapshot, live, uint64_t draw):
        """Hold the index against a scan of some rows, which ones the draw says."""
        cdef uint64_t words = snapshot.index.row_count // 64 + 1
        differences = snapshot.index.differences(request, live, (draw >> 20) % words, SHADOW_WORDS)
        self.tally.shadowed(differences == 0)
        if differences:
            log.error("the index and a scan of its rows disagree", extra={
                "generation": snapshot.generation, "rows": differences})

    cdef Answer _refuse_explaining(self, Ask ask, int64_t received_s):
        """What keeps a caller from an explanation: no key, or one given this second."""
        cdef str key = ask.headers.get("authorization") or ""
        if not compare_digest(key.encode("utf-8", "replace"), b"Bearer " + self.ops_key):
            return _NO_KEY
        # Explaining takes as long as the catalog is large, and others wait meanwhile.
        if received_s == self.explained_s:
            return _TOO_SOON
        self.explained_s = received_s
        return None

    cdef Answer _unreadable(self, str reason, str error):
        self.tally.bad_request(reason)
        return refusal(400, error)


cdef bint _is_json(str media_type):
    if media_type == "application/json":
        return True
    return media_type.partition(";")[0].strip().lower() in _MEDIA_TYPES
