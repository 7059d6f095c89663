"""Impression, click, event, conversion: always answered, billed only when nothing is odd.

A beacon with a token of ours is answered and leaves one frame in the spool; the frame says why it
is not billed, if it is not, so that a replay asks no list and no address again. A click goes where
the catalog says and nowhere else: the creative's destination must have the digest that the token
carries. Its query may hand on the click's token, which the advertiser sends back with a conversion.
No other parameter is looked at, but a conversion's own.
"""

import hmac
from collections.abc import Callable
from string import punctuation
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from adcore.catalog import CLICK_MACRO
from server.delivery import conversions
from server.delivery.conversions import Lookbacks, Said
from server.delivery.datacentres import Ranges
from server.delivery.http import Answer, Ask, HeaderMap, Headers
from server.delivery.robots import Robots
from server.delivery.spool import Spool
from server.delivery.tokens import Keyring, Token, destination_digest
from server.errors import SpoolError, TokenError
from server.events.privacy import cut_ip, cut_user_agent
from server.events.records import (
    CLICK_WINDOW_S,
    EVENT_WINDOW_S,
    IMPRESSION_WINDOW_S,
    PREVIEW,
    Beacon,
    Kind,
    Outcome,
)

# Servers keep time by NTP; a minute ahead is a fault or a forgery, a second is nothing.
CLOCK_SKEW_S = 60

QUERY_CHARS_MAX = 8192  # a token has 144; the rest is what pages and networks hang on
PARAMETERS_MAX = 64

GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
"""One transparent pixel, 43 bytes."""


_WINDOWS_S = {
    Kind.IMPRESSION: IMPRESSION_WINDOW_S,
    Kind.CLICK: CLICK_WINDOW_S,
    Kind.EVENT: EVENT_WINDOW_S,
}
# A conversion is of an ad that was clicked or seen, and brings that one's token.
_TOKENS = {
    **{kind: (kind,) for kind in _WINDOWS_S},
    Kind.CONVERSION: (Kind.CLICK, Kind.IMPRESSION),
}
_METHODS = {
    Kind.IMPRESSION: ("GET", "HEAD", "POST"),
    Kind.CLICK: ("GET", "HEAD"),
    Kind.EVENT: ("GET", "HEAD", "POST"),
    Kind.CONVERSION: ("GET", "HEAD", "POST"),
}

# Pages that isolate themselves may load the pixel; the advertiser learns the page's origin from the
# browser's own Referer and nothing more.
_SAFETY: Headers = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("cross-origin-resource-policy", "cross-origin"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
)
_PIXEL = Answer(200, (("content-type", "image/gif"), *_SAFETY), GIF)
_JSON: Headers = (("content-type", "application/json"), *_SAFETY)
_HTML: Headers = (("content-type", "text/html; charset=utf-8"), *_SAFETY)
_GONE = Answer(
    404,
    _HTML,
    b"<!doctype html><html lang=en><title>Gone</title><p>This ad is no longer available.</html>",
)


def _refusal(status: int, reason: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, (*_JSON, *headers), msgspec.json.encode({"error": reason}))


_BAD_QUERY = _refusal(400, "expected one parameter e, a token, and at most 63 others")
_BAD_CONVERSION = _refusal(
    400,
    "expected at most one value (decimal units of the currency), order (128 characters) and event "
    "(1 to 65535)",
)
_BAD_TOKEN = _refusal(400, "the token is not valid here")
_DESTINATION_CHANGED = _refusal(400, "the ad's destination has changed since")
_BAD_METHOD = {
    kind: _refusal(405, "method not allowed", ("allow", ", ".join(methods)))
    for kind, methods in _METHODS.items()
}


class Judged(NamedTuple):
    """An outcome and its answer; with a token it leaves a frame. A conversion has all five."""

    outcome: Outcome
    answer: Answer
    token: Token | None = None
    said: Said = Said(0, b"", 0)
    lookbacks: Lookbacks = Lookbacks(0, 0)


class Tracker:
    """Answers /i.gif, /r, /e.gif and /c.gif.

    `destination` gives a creative's click URL in the catalog being served, or None; `lookbacks`
    gives a line item's. `count` is called once for every request. Whom `robots` knows, and who asks
    from one of `datacentres`, gets the same answer as a person.
    """

    def __init__(
        self,
        keyring: Keyring,
        spool: Spool,
        destination: Callable[[int], str | None],
        lookbacks: Callable[[int], Lookbacks],
        count: Callable[[Kind, Outcome], None],
        robots: Robots,
        datacentres: Ranges,
    ) -> None:
        self._keyring = keyring
        self.spool = spool
        self._destination = destination
        self._lookbacks = lookbacks
        self._count = count
        self._robots = robots
        self._datacentres = datacentres
        self._encode = msgspec.msgpack.Encoder().encode

    def impression(self, ask: Ask, client_ip: str, now_s: int) -> Answer:
        return self._answer(ask, Kind.IMPRESSION, client_ip, now_s)

    def click(self, ask: Ask, client_ip: str, now_s: int) -> Answer:
        return self._answer(ask, Kind.CLICK, client_ip, now_s)

    def event(self, ask: Ask, client_ip: str, now_s: int) -> Answer:
        """Answer something viewable, or what else the page calls an event."""
        return self._answer(ask, Kind.EVENT, client_ip, now_s)

    def conversion(self, ask: Ask, client_ip: str, now_s: int) -> Answer:
        """Answer the pixel on an advertiser's page, or a word from its server."""
        return self._answer(ask, Kind.CONVERSION, client_ip, now_s)

    def lookups(self) -> dict[str, tuple[int, int]]:
        """Hits and misses so far, by cache."""
        return {"robot": self._robots.lookups()}

    def _answer(self, ask: Ask, kind: Kind, client_ip: str, now_s: int) -> Answer:
        judged = self._judge(ask, kind, client_ip, now_s)
        outcome = judged.outcome
        if not self._record(ask, kind, client_ip, judged, now_s):
            # Not billed, and the client still gets what it came for.
            outcome = Outcome.SPOOL_FAILED
        self._count(kind, outcome)
        return judged.answer

    def _judge(self, ask: Ask, kind: Kind, client_ip: str, now_s: int) -> Judged:
        if ask.method not in _METHODS[kind]:
            return Judged(Outcome.BAD_QUERY, _BAD_METHOD[kind])
        text = _token_text(ask.query)
        if text is None:
            return Judged(Outcome.BAD_QUERY, _BAD_QUERY)
        try:
            token = self._keyring.verify(text, *_TOKENS[kind])
        except TokenError:
            return Judged(Outcome.BAD_TOKEN, _BAD_TOKEN)
        if kind is Kind.CONVERSION:
            return self._judge_conversion(ask, token, now_s)
        answer = _PIXEL
        if kind is Kind.CLICK:
            url = self._destination(token.served.creative_id)
            if url is None:
                return Judged(Outcome.UNKNOWN_CREATIVE, _GONE)
            if not hmac.compare_digest(destination_digest(url), token.destination):
                return Judged(Outcome.DESTINATION_CHANGED, _DESTINATION_CHANGED)
            answer = _redirect(_with_click_id(url, text))
        outcome = _billing(ask, token, _WINDOWS_S[kind], now_s)
        if outcome is Outcome.ACCEPTED:
            outcome = self._sender(ask, client_ip)
        return Judged(outcome, answer, token)

    def _sender(self, ask: Ask, client_ip: str) -> Outcome:
        """Tell a machine from a person; of a robot in a data centre, the robot says more."""
        outcome = self._robots.judge(ask.headers.get("user-agent"))
        if outcome is Outcome.ACCEPTED and client_ip in self._datacentres:
            return Outcome.DATACENTRE
        return outcome

    def _judge_conversion(self, ask: Ask, token: Token, now_s: int) -> Judged:
        said = conversions.said(ask.query)
        if said is None:
            return Judged(Outcome.BAD_QUERY, _BAD_CONVERSION)
        lookbacks = self._lookbacks(token.served.line_item_id)
        # Who sends it is not judged: a postback comes from a server, and as a rule from a cloud.
        outcome = _billing(ask, token, lookbacks.window_s, now_s)
        return Judged(outcome, _PIXEL, token, said, lookbacks)

    def _record(self, ask: Ask, kind: Kind, client_ip: str, judged: Judged, now_s: int) -> bool:
        """Leave a frame if there is to be one; False when the spool does not take it."""
        token, said, lookbacks = judged.token, judged.said, judged.lookbacks
        if token is None:
            return True
        served = token.served
        beacon = Beacon(
            kind=kind,
            outcome=judged.outcome,
            received_s=now_s,
            issued_s=served.issued_s,
            id=served.id,
            line_item_id=served.line_item_id,
            creative_id=served.creative_id,
            site_id=served.site_id,
            placement=served.placement,
            lease=served.lease,
            price_micros=served.price_micros,
            event=said.event if kind is Kind.CONVERSION else token.event,
            flags=served.flags,
            network=cut_ip(client_ip),
            user_agent=cut_user_agent(ask.headers.get("user-agent")),
            value_micros=said.value_micros,
            order=said.order,
            click_lookback_s=lookbacks.click_s,
            view_lookback_s=lookbacks.view_s,
        )
        try:
            billable = judged.outcome is Outcome.ACCEPTED
            self.spool.append(self._encode(beacon), billable=billable)
        except SpoolError:
            return False
        return True


def _token_text(query: str) -> str | None:
    """Find the value of `e`; None when it is missing or repeated, or the query is too large."""
    if len(query) > QUERY_CHARS_MAX or query.count("&") >= PARAMETERS_MAX:
        return None
    found = [part for part in query.split("&") if part.startswith("e=") or part == "e"]
    return found[0][2:] if len(found) == 1 else None


def _billing(ask: Ask, token: Token, window_s: int, now_s: int) -> Outcome:
    """Name the first reason not to bill: what the beacon is, and when it came."""
    if token.served.flags & PREVIEW:
        return Outcome.PREVIEW
    if ask.method == "HEAD":
        return Outcome.HEAD
    if _prefetched(ask.headers):
        return Outcome.PREFETCH
    age_s = token.age_s(now_s)
    if age_s > window_s:
        return Outcome.EXPIRED
    if age_s < -CLOCK_SKEW_S:
        return Outcome.FUTURE
    return Outcome.ACCEPTED


def _prefetched(headers: HeaderMap) -> bool:
    """Tell a browser's guess from a person's act: no one has seen or clicked anything yet."""
    for name in ("sec-purpose", "purpose", "x-moz"):
        value = headers.get(name)
        # `prefetch;prerender` is a parameter of the same purpose.
        if value is not None and value.partition(";")[0].strip().lower() == "prefetch":
            return True
    return False


def _with_click_id(url: str, token_text: str) -> str:
    """Fill the macro in the query, which needs no escaping: a token is letters, digits, - and _."""
    before, mark, query = url.partition("?")
    return before + mark + query.replace(f"${{{CLICK_MACRO}}}", token_text)


def _redirect(url: str) -> Answer:
    # A header's value is printable ASCII. The catalog's type sees to the controls; so does this.
    plain = url.isascii() and url.isprintable()
    location = url if plain else quote(url, safe=punctuation)
    return Answer(302, (("location", location), *_SAFETY), b"")
