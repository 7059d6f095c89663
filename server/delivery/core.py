"""The synchronous core: an `Ask` and its body in, an `Answer` out, with nothing awaited.

A door first calls `admit`, which answers at once whatever needs no body, good or bad; None
means that the body is wanted, and `decide` answers with it. Nothing a client sends ends in a
5xx: what is wrong is a 4xx with a short JSON reason.
"""

import re
from collections.abc import Callable, Mapping
from os import urandom
from typing import Final

import msgspec

from adcore import Win
from server.clock import now_s, perf_ns
from server.config import Config
from server.delivery import kevel
from server.delivery.answer import DECISION_ID_BYTES, Moment, Writer
from server.delivery.context import ContextReader
from server.delivery.http import Answer, Ask, Headers
from server.delivery.snapshot import Holder
from server.delivery.tokens import Keyring
from server.delivery.tracking import Tracker
from server.metrics import Metrics

API: Final = "/api/v2"
PING: Final = "/ping"

BODY_BYTES_MAX: Final = 65_536  # 30 x a large request; decoding it stays below a millisecond
URL_CHARS_MAX: Final = 8_192  # what proxies pass on
HEADERS_MAX: Final = 64  # browsers send about 20

# What a caller may call JSON: browsers send the second without a preflight, `curl -d` the third.
_MEDIA_TYPES: Final = frozenset(
    {"application/json", "text/plain", "application/x-www-form-urlencoded"}
)

# Until the year 2286; digits in ASCII, as others are digits to Python too.
_SECONDS: Final = re.compile(r"[0-9]{1,10}").fullmatch

JSON_HEADERS: Final[Headers] = (
    ("content-type", "application/json"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
)
# The unread rest of a refused request must not be taken for the next one.
_CLOSE: Final = ("connection", "close")


def refusal(status: int, error: str, *headers: tuple[str, str]) -> Answer:
    """A 4xx that says why, as JSON."""
    return Answer(status, JSON_HEADERS + headers, msgspec.json.encode({"error": error}))


_NOT_FOUND: Final = refusal(404, "no such path")
_TOO_LONG: Final = refusal(414, f"the URL is longer than {URL_CHARS_MAX} characters", _CLOSE)
_TOO_MANY: Final = refusal(431, f"more than {HEADERS_MAX} headers", _CLOSE)
_ONE_HOST: Final = refusal(400, "exactly one Host header is needed", _CLOSE)
_MEDIA_TYPE: Final = refusal(415, "the body must be application/json", _CLOSE)
_ENCODED: Final = refusal(415, "no content-encoding is understood", _CLOSE)
_LENGTH: Final = refusal(400, "content-length is not a number", _CLOSE)
_TIME: Final = refusal(400, "x-adcore-time must be UTC seconds")
_USE_POST: Final = refusal(405, "use POST", ("allow", "POST, OPTIONS"), _CLOSE)
_USE_GET: Final = refusal(405, "use GET", ("allow", "GET, HEAD"), _CLOSE)
_USE_BEACON: Final = refusal(405, "use GET or POST", ("allow", "GET, HEAD, POST"), _CLOSE)
_PREFLIGHT: Final = Answer(204, (("allow", "POST, OPTIONS"),), b"")

# What a door answers when the body itself fails.
TOO_LARGE: Final = refusal(413, f"the body is larger than {BODY_BYTES_MAX} bytes", _CLOSE)
LATE: Final = refusal(408, "the body did not arrive in time", _CLOSE)
BROKEN: Final = refusal(400, "the body can't be read", _CLOSE)

# What was wrong with an API request, for the metric; a refusal of its body counts itself.
_REASONS: Final = {
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


class Core:
    """One a worker. `pages` are prepared answers by path, empty outside the demo."""

    def __init__(
        self,
        config: Config,
        holder: Holder,
        keyring: Keyring,
        tracker: Tracker,
        metrics: Metrics,
        pages: Mapping[str, Callable[[], Answer]],
    ) -> None:
        self._config = config
        self._holder = holder
        self._writer = Writer(keyring, config.base_url)
        self._metrics = metrics
        self._pages = pages
        self._contexts = ContextReader(config)
        self._origins = frozenset(config.cors_origins)
        self._dice = Dice()
        self._beacons = {
            "/i.gif": tracker.impression,
            "/r": tracker.click,
            "/e.gif": tracker.event,
        }

    # -- the calls of a door: each request ends in exactly one of them with an answer

    def admit(self, ask: Ask) -> Answer | None:
        """The answer to whatever needs no body, and to what is wrong; None: the body is wanted."""
        answer = self._admit(ask)
        return answer and self.done(ask, answer)

    def decide(self, ask: Ask, body: bytes) -> Answer:
        """The answer to an API request whose body has arrived."""
        if len(body) > BODY_BYTES_MAX:
            return self.done(ask, TOO_LARGE)
        return self.done(ask, self._decide(ask, body))

    def done(self, ask: Ask, answer: Answer) -> Answer:
        """Counts the answer, and adds what every answer carries."""
        self._metrics.request(ask.path, answer.status)
        if answer.status >= 400 and ask.path == API and answer in _REASONS:
            self._metrics.bad_request(_REASONS[answer])
        headers = answer.headers
        if self._origins:
            headers += self._cors(ask)
        if self._metrics.draining():
            headers += (_CLOSE,)
        return answer if headers is answer.headers else answer._replace(headers=headers)

    def lookups(self) -> dict[str, tuple[int, int]]:
        """Hits and misses so far, by cache."""
        return self._contexts.lookups()

    # -- before the body -------------------------------------------------------------------------

    def _admit(self, ask: Ask) -> Answer | None:
        path, headers = ask.path, ask.headers
        if len(path) + len(ask.query) > URL_CHARS_MAX:
            return _TOO_LONG
        if len(headers) > HEADERS_MAX:
            return _TOO_MANY
        hosts = headers.get_all("host")
        # Granian's ASGI gives an empty one for none.
        if len(hosts) != 1 or not hosts[0]:
            return _ONE_HOST
        if path == API:
            return self._admit_api(ask)
        beacon = self._beacons.get(path)
        if beacon is not None:
            if ask.method not in ("GET", "HEAD", "POST"):
                return _USE_BEACON
            return beacon(ask, self._contexts.client_ip(ask), now_s())
        return self._page(ask)

    def _admit_api(self, ask: Ask) -> Answer | None:
        if ask.method != "POST":
            return _PREFLIGHT if ask.method == "OPTIONS" else _USE_POST
        get = ask.headers.get
        media_type = get("content-type")
        if media_type is not None and not _is_json(media_type):
            return _MEDIA_TYPE
        encoding = get("content-encoding")
        if encoding is not None and encoding.lower() != "identity":
            return _ENCODED
        length = get("content-length")
        if length is None:
            return None  # chunked, or empty: the door counts as it reads
        if not (length.isascii() and length.isdigit()):
            return _LENGTH
        return TOO_LARGE if int(length) > BODY_BYTES_MAX else None

    def _page(self, ask: Ask) -> Answer:
        page = self._ping if ask.path == PING else self._pages.get(ask.path)
        if page is None:
            return _NOT_FOUND
        return page() if ask.method in ("GET", "HEAD") else _USE_GET

    def _ping(self) -> Answer:
        """Ready: an index is loaded and we are not going away."""
        snapshot = self._holder.snapshot
        if self._metrics.draining():
            return Answer(503, JSON_HEADERS, b'{"status":"draining"}')
        if snapshot is None:
            return Answer(503, JSON_HEADERS, b'{"status":"waiting for a catalog"}')
        return Answer(200, JSON_HEADERS, b'{"status":"ok","generation":%d}' % snapshot.generation)

    def _cors(self, ask: Ask) -> Headers:
        """Only origins that the settings list may read our answers; no other is ever echoed."""
        origin = ask.headers.get("origin")
        if origin not in self._origins:
            return (("vary", "origin"),)
        return (
            ("vary", "origin"),
            ("access-control-allow-origin", origin),
            ("access-control-allow-methods", "POST"),
            ("access-control-allow-headers", "content-type"),
            ("access-control-max-age", "86400"),
        )

    # -- the decision ----------------------------------------------------------------------------

    def _decide(self, ask: Ask, body: bytes) -> Answer:
        started_ns = perf_ns()
        try:
            asked = kevel.parse(body)
        except kevel.Unreadable as error:
            return self._unreadable(error.reason, str(error))
        at_s, preview = now_s(), False
        if self._config.preview:
            stated = ask.headers.get("x-adcore-time")
            if stated is not None:
                if not _SECONDS(stated):
                    return _TIME
                at_s, preview = int(stated), True
        # Read once: a swap between two reads would mix two generations.
        snapshot = self._holder.snapshot
        decision_id = self._dice.take()
        wins: list[list[Win]] = []
        if snapshot is not None:
            request = kevel.to_request(asked, self._contexts.read(ask, asked.ip))
            try:
                wins = snapshot.index.select(request, snapshot.live(at_s), draw_of(decision_id))
            except ValueError as error:
                # The engine's bounds on a request as a whole, which no single field breaks.
                return self._unreadable("shape", str(error))
        moment = Moment(decision_id, now_s(), preview)
        answer = Answer(200, JSON_HEADERS, self._writer.write(asked, wins, snapshot, moment))
        self._metrics.decided(asked.placements, wins, perf_ns() - started_ns)
        return answer

    def _unreadable(self, reason: str, error: str) -> Answer:
        self._metrics.bad_request(reason)
        return refusal(400, error)


def _is_json(media_type: str) -> bool:
    return media_type.partition(";")[0].strip().lower() in _MEDIA_TYPES


class Dice:
    """Random decision ids, bought from the kernel by the page: one system call in 292 requests."""

    _PAGE_BYTES = 4096

    def __init__(self) -> None:
        self._page = b""
        self._at = self._PAGE_BYTES

    def take(self) -> bytes:
        end = self._at + DECISION_ID_BYTES
        if end > self._PAGE_BYTES:
            self._page, end = urandom(self._PAGE_BYTES), DECISION_ID_BYTES
        self._at = end
        return self._page[end - DECISION_ID_BYTES : end]


def draw_of(decision_id: bytes) -> int:
    """The engine's draw: the id's first 64 bits, so that a decisionId is enough to replay it."""
    return int.from_bytes(decision_id[:8], "big")
