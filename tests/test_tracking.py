"""A beacon is answered whatever is odd about it, and billed only when nothing is.

The redirect goes to the catalog's destination or nowhere. Rows in comments are those of the attack
table in the project's research on delivery.
"""

from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from server.delivery.conversions import Lookbacks
from server.delivery.datacentres import Ranges
from server.delivery.http import Answer, Ask, GivenHeaders
from server.delivery.robots import Robots
from server.delivery.spool import Spool, read_frames
from server.delivery.tokens import Keyring, Served, destination_digest, placement_digest
from server.delivery.tracking import CLOCK_SKEW_S, GIF, PARAMETERS_MAX, QUERY_CHARS_MAX, Tracker
from server.events.records import (
    CLICK_WINDOW_S,
    EVENT_WINDOW_S,
    IMPRESSION_WINDOW_S,
    PREVIEW,
    Beacon,
    Kind,
    Outcome,
)

NOW_S = 1_793_500_000
SHOES = "https://example.com/shoes?from=ad"
CREATIVE = 8
KEYRING = Keyring(bytes(range(32)))
SERVED = Served(NOW_S, b"0123456789abcdef", 7, CREATIVE, 9, 2_500_000, placement_digest("top"))
PATHS = dict(zip(Kind, ("/i.gif", "/r", "/e.gif", "/c.gif"), strict=True))
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
FROM_BROWSER = GivenHeaders([("user-agent", BROWSER)])
HEADLESS = BROWSER + " HeadlessChrome/150.0.0.0"
ROBOTS = Robots()
DATACENTRES = Ranges(
    (network[0].packed, network[-1].packed)
    for network in (ip_network("203.0.113.0/24"), ip_network("2001:db8:ff::/48"))
)


class Result(NamedTuple):
    answer: Answer
    outcome: Outcome
    beacons: list[Beacon]


def noting(counted: list[Outcome]) -> Callable[[Kind, Outcome], None]:
    return lambda kind, outcome: counted.append(outcome)


def make_tracker(
    spool: Spool,
    destinations: Mapping[int, str],
    counted: list[Outcome],
    lookbacks: Mapping[int, Lookbacks] = {},
) -> Tracker:
    def own(line_item_id: int) -> Lookbacks:
        return lookbacks.get(line_item_id, Lookbacks())

    return Tracker(KEYRING, spool, destinations.get, own, noting(counted), ROBOTS, DATACENTRES)


def answering(tracker: Tracker, kind: Kind) -> Callable[[Ask, str, int], Answer]:
    return getattr(tracker, kind.name.lower())


class Desk:
    """A tracker over a real spool: asks one thing and reads back what was written for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.destinations = {CREATIVE: SHOES}
        self.counted: list[Outcome] = []
        self.spool = Spool(folder, "w1", now_s=NOW_S, bytes_max=1 << 20)
        self.lookbacks = {SERVED.line_item_id: Lookbacks(click_s=5000, view_s=60)}
        self.tracker = make_tracker(self.spool, self.destinations, self.counted, self.lookbacks)

    def beacons(self) -> list[Beacon]:
        return [
            msgspec.msgpack.decode(frame.record, type=Beacon)
            for path in sorted(self.folder.glob("*.spool"))
            for frame in read_frames(path)
        ]

    def ask(
        self,
        kind: Kind,
        query: str,
        *headers: tuple[str, str],
        method: str = "GET",
        now_s: int = NOW_S,
        client_ip: str = "198.51.100.77",
    ) -> Result:
        before, counted = len(self.beacons()), len(self.counted)
        ask = Ask(
            method, PATHS[kind], query, GivenHeaders((*headers, ("user-agent", BROWSER))), client_ip
        )
        answer = answering(self.tracker, kind)(ask, client_ip, now_s)
        (outcome,) = self.counted[counted:]
        return Result(answer, outcome, self.beacons()[before:])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "spool")
    yield desk
    desk.spool.close()


def query_of(kind: Kind, served: Served = SERVED, destination: str = SHOES) -> str:
    click, impression = KEYRING.sign_shown(served, destination_digest(destination))
    of_kind = {Kind.CLICK: click, Kind.CONVERSION: click, Kind.IMPRESSION: impression}
    return "e=" + (of_kind.get(kind) or KEYRING.sign_event(served, 70)).decode()


def header(answer: Answer, name: str) -> str | None:
    values = [value for key, value in answer.headers if key == name]
    assert len(values) <= 1
    return values[0] if values else None


def sent(answer: Answer) -> tuple[object, ...]:
    return answer.status, answer.headers, answer.body


def assert_answered(answer: Answer, kind: Kind) -> None:
    """The full answer: nobody is told whether it is billed."""
    if kind is Kind.CLICK:
        assert (answer.status, header(answer, "location")) == (302, SHOES)
    else:
        assert (answer.status, answer.body) == (200, GIF)
        assert header(answer, "content-type") == "image/gif"
    assert_safe(answer)


def assert_refused(result: Result, status: int, outcome: Outcome) -> None:
    assert result.answer.status == status
    assert header(result.answer, "location") is None
    assert result.outcome is outcome
    assert result.beacons == []
    assert result.answer.body != GIF
    assert_safe(result.answer)


def assert_safe(answer: Answer) -> None:
    assert header(answer, "cache-control") == "no-store"
    assert header(answer, "x-content-type-options") == "nosniff"
    assert header(answer, "referrer-policy")
    for name, value in answer.headers:
        assert name == name.lower()
        assert value.isascii()
        assert value.isprintable()


# -- what is billed --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_an_honest_beacon_is_answered_and_recorded_whole(desk, kind):
    served = SERVED._replace(lease=5)
    result = desk.ask(kind, query_of(kind, served), ("user-agent", BROWSER), now_s=NOW_S + 3)
    assert_answered(result.answer, kind)
    assert result.outcome is Outcome.ACCEPTED
    assert result.beacons == [
        Beacon(
            kind=kind,
            outcome=0,
            received_s=NOW_S + 3,
            issued_s=NOW_S,
            id=b"0123456789abcdef",
            line_item_id=7,
            creative_id=CREATIVE,
            site_id=9,
            placement=placement_digest("top"),
            lease=5,
            price_micros=2_500_000,
            event=70 if kind is Kind.EVENT else 0,
            flags=0,
            network="198.51.100.0",
            user_agent=BROWSER,
            click_lookback_s=5000 if kind is Kind.CONVERSION else 0,
            view_lookback_s=60 if kind is Kind.CONVERSION else 0,
        )
    ]


def test_the_pixel_is_a_gif_of_43_bytes():
    assert len(GIF) == 43
    assert GIF.startswith(b"GIF89a\x01\x00\x01\x00")
    assert GIF.endswith(b";")


def test_a_beacon_may_be_posted_and_its_token_still_is_in_the_query(desk):
    for kind in (Kind.IMPRESSION, Kind.EVENT, Kind.CONVERSION):
        result = desk.ask(kind, query_of(kind), method="POST")
        assert_answered(result.answer, kind)
        assert result.outcome is Outcome.ACCEPTED
    for kind, method in ((Kind.CLICK, "POST"), (Kind.EVENT, "PUT"), (Kind.IMPRESSION, "get")):
        result = desk.ask(kind, query_of(kind), method=method)
        assert_refused(result, 405, Outcome.BAD_QUERY)
        assert "GET" in (header(result.answer, "allow") or "")


# -- what is answered and not billed: rows 35, 44 --------------------------------------------------


def assert_unbilled(result: Result, kind: Kind, outcome: Outcome) -> None:
    assert_answered(result.answer, kind)
    assert result.outcome is outcome
    assert [beacon.outcome for beacon in result.beacons] == [outcome]


@pytest.mark.parametrize("kind", Kind)
def test_a_preview_is_never_billed(desk, kind):
    query = query_of(kind, SERVED._replace(flags=PREVIEW))
    assert_unbilled(desk.ask(kind, query), kind, Outcome.PREVIEW)


@pytest.mark.parametrize("kind", Kind)
def test_head_is_not_billed(desk, kind):
    assert_unbilled(desk.ask(kind, query_of(kind), method="HEAD"), kind, Outcome.HEAD)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    "pair",
    [
        ("sec-purpose", "prefetch"),
        ("sec-purpose", "prefetch;prerender"),
        ("sec-purpose", "Prefetch; anonymous-client-ip"),
        ("purpose", "prefetch"),
        ("x-moz", "prefetch"),
    ],
)
def test_prefetching_is_not_billed(desk, kind, pair):
    assert_unbilled(desk.ask(kind, query_of(kind), pair), kind, Outcome.PREFETCH)


def test_another_purpose_is_billed(desk):
    result = desk.ask(Kind.CLICK, query_of(Kind.CLICK), ("purpose", "navigate"))
    assert result.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("kind", "window_s"),
    [
        (Kind.IMPRESSION, IMPRESSION_WINDOW_S),
        (Kind.CLICK, CLICK_WINDOW_S),
        (Kind.EVENT, EVENT_WINDOW_S),
        (Kind.CONVERSION, 5000 + CLICK_WINDOW_S),
    ],
)
def test_each_kind_is_billed_in_its_window_to_the_second(desk, kind, window_s):
    query = query_of(kind)
    for age_s, outcome in (
        (-3600, Outcome.FUTURE),
        (-CLOCK_SKEW_S - 1, Outcome.FUTURE),
        (-CLOCK_SKEW_S, Outcome.ACCEPTED),
        (0, Outcome.ACCEPTED),
        (window_s, Outcome.ACCEPTED),
        (window_s + 1, Outcome.EXPIRED),
        (10 * 366 * 86_400, Outcome.EXPIRED),
    ):
        result = desk.ask(kind, query, now_s=NOW_S + age_s)
        assert_unbilled(result, kind, outcome)


# -- who is not billed: rows 69, 70 ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.IMPRESSION, Kind.CLICK, Kind.EVENT])
@pytest.mark.parametrize(
    ("user_agent", "client_ip", "outcome"),
    [
        (BROWSER, "203.0.112.255", Outcome.ACCEPTED),
        (GOOGLEBOT, "", Outcome.ROBOT),
        (HEADLESS, "", Outcome.HEADLESS),
        ("Mozilla/5.0", "", Outcome.NO_USER_AGENT),
        ("", "", Outcome.NO_USER_AGENT),
        (BROWSER, "203.0.113.0", Outcome.DATACENTRE),
        (BROWSER, "203.0.113.255", Outcome.DATACENTRE),
        (BROWSER, "2001:db8:ff:1::2", Outcome.DATACENTRE),
    ],
)
def test_a_machine_gets_a_person_s_answer(desk, kind, user_agent, client_ip, outcome):
    agent = ("user-agent", user_agent)
    result = desk.ask(kind, query_of(kind), agent, client_ip=client_ip)
    assert_unbilled(result, kind, outcome)
    assert sent(result.answer) == sent(desk.ask(kind, query_of(kind)).answer)


def test_the_first_reason_is_the_one_that_is_told(desk):
    """What the beacon is, when it came, who sent it; each line takes away the reason above."""
    kind = Kind.IMPRESSION
    robot, prefetching = ("user-agent", GOOGLEBOT), ("purpose", "prefetch")
    shown = SERVED._replace(flags=PREVIEW)
    late_s, early_s = NOW_S + IMPRESSION_WINDOW_S + 1, NOW_S - CLOCK_SKEW_S - 1
    for outcome, served, method, headers, now_s in (
        (Outcome.PREVIEW, shown, "HEAD", (prefetching, robot), late_s),
        (Outcome.HEAD, SERVED, "HEAD", (prefetching, robot), late_s),
        (Outcome.PREFETCH, SERVED, "GET", (prefetching, robot), late_s),
        (Outcome.EXPIRED, SERVED, "GET", (robot,), late_s),
        (Outcome.FUTURE, SERVED, "GET", (robot,), early_s),
        (Outcome.NO_USER_AGENT, SERVED, "GET", (("user-agent", "-"),), NOW_S),
        (Outcome.ROBOT, SERVED, "GET", (robot,), NOW_S),
        (Outcome.HEADLESS, SERVED, "GET", (("user-agent", HEADLESS),), NOW_S),
        (Outcome.DATACENTRE, SERVED, "GET", (), NOW_S),
    ):
        query, ip = query_of(kind, served), "203.0.113.9"
        result = desk.ask(kind, query, *headers, method=method, now_s=now_s, client_ip=ip)
        assert_unbilled(result, kind, outcome)


# -- what is refused: rows 27, 31 to 37, 43 --------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_every_changed_bit_of_a_token_is_refused(desk, kind):
    query = query_of(kind)
    for at in range(2, len(query)):
        other = "A" if query[at] != "A" else "B"
        result = desk.ask(kind, query[:at] + other + query[at + 1 :])
        assert_refused(result, 400, Outcome.BAD_TOKEN)


@pytest.mark.parametrize("kind", [Kind.IMPRESSION, Kind.CLICK, Kind.EVENT])
@pytest.mark.parametrize("path", [Kind.IMPRESSION, Kind.CLICK, Kind.EVENT])
def test_a_token_counts_at_its_own_endpoint_only(desk, kind, path):
    if kind is not path:
        assert_refused(desk.ask(path, query_of(kind)), 400, Outcome.BAD_TOKEN)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "e",
        "x=1",
        "E={token}",
        "{token}",
        "e={token}&e={token}",
        "e={token}&e=",
        "e={token}&e",
        "e=&e={token}",
        "e={token}" + "&x=1" * PARAMETERS_MAX,
        "e={token}" + "&" * PARAMETERS_MAX,
        "e={token}&x=" + "x" * QUERY_CHARS_MAX,
        "a[]={token}",
        "%65={token}",
    ],
)
def test_a_query_without_exactly_one_token_is_refused(desk, query):
    for kind in Kind:
        token = query_of(kind).removeprefix("e=")
        result = desk.ask(kind, query.format(token=token))
        outcome = Outcome.BAD_TOKEN if query == "e" else Outcome.BAD_QUERY
        assert_refused(result, 400, outcome)
        assert "error" in msgspec.json.decode(result.answer.body)


@pytest.mark.parametrize(
    "token", ["{token}=", "{token}%3D", "%20{token}", "{token}+", "\r\n{token}", "é", "\ud800", "0"]
)
def test_another_spelling_of_a_token_is_refused(desk, token):
    for kind in Kind:
        query = "e=" + token.format(token=query_of(kind).removeprefix("e="))
        assert_refused(desk.ask(kind, query), 400, Outcome.BAD_TOKEN)


@pytest.mark.parametrize(
    "more",
    [
        "&dest=https://evil.example",
        "&url=//evil.example&to=/\\evil.example",
        "&location=https:evil.example",
        "&ct0=https://good@evil.example&%zz&a[]=&=&&",
        "&E=x&ee=y",
        "&x=%0d%0aset-cookie:a=b",
        "&x" * (PARAMETERS_MAX - 1),
    ],
)
def test_other_parameters_say_nothing(desk, more):
    for query in (query_of(Kind.CLICK) + more, f"{more[1:]}&{query_of(Kind.CLICK)}"):
        result = desk.ask(Kind.CLICK, query)
        assert_answered(result.answer, Kind.CLICK)
        assert result.outcome is Outcome.ACCEPTED


def test_a_click_goes_nowhere_when_its_creative_is_gone(desk):
    del desk.destinations[CREATIVE]
    result = desk.ask(Kind.CLICK, query_of(Kind.CLICK))
    assert_refused(result, 404, Outcome.UNKNOWN_CREATIVE)
    assert header(result.answer, "content-type") == "text/html; charset=utf-8"
    # What was shown was shown: an impression does not ask for the destination.
    assert desk.ask(Kind.IMPRESSION, query_of(Kind.IMPRESSION)).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("destination", ["https://example.com/shoes", "https://evil.example/", ""])
def test_a_click_goes_nowhere_when_its_destination_is_another(desk, destination):
    desk.destinations[CREATIVE] = destination
    assert_refused(desk.ask(Kind.CLICK, query_of(Kind.CLICK)), 400, Outcome.DESTINATION_CHANGED)


def test_a_click_signed_without_a_destination_goes_nowhere(desk):
    query = "e=" + KEYRING.sign_shown(SERVED, bytes(16))[0].decode()
    assert_refused(desk.ask(Kind.CLICK, query), 400, Outcome.DESTINATION_CHANGED)


@pytest.mark.parametrize(
    ("url", "location"),
    [
        (
            "https://a.example/schöne?q=%20&x=ñ#[1]",
            "https://a.example/sch%C3%B6ne?q=%20&x=%C3%B1#[1]",
        ),
        ("https://a.example/\r\nset-cookie: a=b", "https://a.example/%0D%0Aset-cookie:%20a=b"),
    ],
)
def test_a_destination_that_no_header_can_hold_is_percent_encoded(desk, url, location):
    desk.destinations[CREATIVE] = url
    result = desk.ask(Kind.CLICK, query_of(Kind.CLICK, destination=url))
    assert header(result.answer, "location") == location
    assert_safe(result.answer)


# -- what is kept: rows 59, 75 ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("", ""),
        (BROWSER, BROWSER),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x1b[31mred\x00\x7f\u202e", "\\x1b[31mred\\x00\\x7f\\u202e"),
        ('quote" and back\\slash', 'quote" and back\\\\slash'),
        ("é\ud800", "\\xe9\\ud800"),
        ("x" * 100_000, "x" * 512),
        ("é" * 100_000, "\\xe9" * 128),
    ],
)
def test_a_user_agent_is_one_bounded_line(desk, sent, kept):
    result = desk.ask(Kind.IMPRESSION, query_of(Kind.IMPRESSION), ("user-agent", sent))
    assert result.beacons[0].user_agent == kept


@pytest.mark.parametrize(
    ("client_ip", "network"),
    [("198.51.100.77", "198.51.100.0"), ("2001:db8:1:2::3", "2001:db8:1::"), ("", "")],
)
def test_no_whole_address_reaches_the_disk(desk, client_ip, network):
    result = desk.ask(
        Kind.IMPRESSION,
        query_of(Kind.IMPRESSION),
        ("x-forwarded-for", "203.0.113.99"),
        ("cookie", "canary"),
        ("referer", "https://canary.example/"),
        client_ip=client_ip,
    )
    assert result.beacons[0].network == network
    written = b"".join(path.read_bytes() for path in desk.folder.glob("*.spool"))
    for canary in (b"198.51.100.77", b"2001:db8:1:2::3", b"203.0.113.99", b"canary"):
        assert canary not in written


# -- when the disk fails ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_a_spool_that_fails_is_counted_and_the_client_does_not_notice(tmp_path, kind):
    counted: list[Outcome] = []
    with_no_room = Spool(tmp_path / "spool", "w1", now_s=NOW_S, bytes_max=10)
    tracker = make_tracker(with_no_room, {CREATIVE: SHOES}, counted)
    ask = Ask("GET", PATHS[kind], query_of(kind), FROM_BROWSER, "")
    assert_answered(answering(tracker, kind)(ask, "", NOW_S), kind)
    assert counted == [Outcome.SPOOL_FAILED]
    with_no_room.close()


def test_what_is_not_billed_gives_way_first(tmp_path):
    counted: list[Outcome] = []
    spool = Spool(tmp_path / "spool", "w1", now_s=NOW_S, bytes_max=1_000)
    tracker = make_tracker(spool, {}, counted)
    billed, not_billed = (
        Ask(method, "/i.gif", query_of(Kind.IMPRESSION), FROM_BROWSER, "")
        for method in ("GET", "HEAD")
    )
    while Outcome.SPOOL_FAILED not in counted:
        tracker.impression(not_billed, "", NOW_S)
    tracker.impression(billed, "", NOW_S)
    assert counted[-1] is Outcome.ACCEPTED
    spool.close()
