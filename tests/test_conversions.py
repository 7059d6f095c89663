"""A conversion is read strictly, carries what its attribution needs, and is never told apart.

The click's token reaches the advertiser by a macro in the click URL, and nothing else of it moves.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.delivery import conversions
from server.delivery.conversions import ORDER_CHARS_MAX, VALUE_MICROS_MAX, Lookbacks, Said, said
from server.delivery.tokens import TOKEN_CHARS, destination_digest
from server.events.records import CLICK_WINDOW_S, IMPRESSION_WINDOW_S, Kind, Outcome
from server.ledger import memory
from tests.test_tracking import (
    CREATIVE,
    KEYRING,
    NOW_S,
    SERVED,
    Desk,
    assert_answered,
    assert_refused,
    header,
    query_of,
)

DAY_S = 86_400
CLICK, IMPRESSION = query_of(Kind.CLICK), query_of(Kind.IMPRESSION)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "spool")
    yield desk
    desk.spool.close()


def digest(reference: str) -> bytes:
    return hashlib.sha256(reference.encode()).digest()[:8]


# -- what a frame carries --------------------------------------------------------------------------


@pytest.mark.parametrize("query", [CLICK, IMPRESSION])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_conversion_of_a_click_or_a_view_is_recorded_whole(desk, query, method):
    more = "&value=49.9&order=A-1001&event=3"
    result = desk.ask(Kind.CONVERSION, query + more, method=method, now_s=NOW_S + 3600)
    assert_answered(result.answer, Kind.CONVERSION)
    assert result.outcome is Outcome.ACCEPTED
    (beacon,) = result.beacons
    assert (beacon.kind, beacon.event) == (Kind.CONVERSION, 3)
    assert (beacon.received_s, beacon.issued_s) == (NOW_S + 3600, NOW_S)
    assert (beacon.id, beacon.line_item_id, beacon.price_micros) == (SERVED.id, 7, 2_500_000)
    assert (beacon.value_micros, beacon.order) == (49_900_000, digest("A-1001"))
    assert (beacon.click_lookback_s, beacon.view_lookback_s) == (5000, 60)


def test_what_is_not_said_is_nothing(desk):
    (bare,) = desk.ask(Kind.CONVERSION, CLICK).beacons
    (empty,) = desk.ask(Kind.CONVERSION, CLICK + "&value=&order=&event&value2=x").beacons
    assert bare == empty
    assert (bare.value_micros, bare.order, bare.event) == (0, b"", 0)


def test_an_order_never_reaches_the_disk_in_clear(desk):
    desk.ask(Kind.CONVERSION, f"order=canary-77@example.com&{CLICK}&order2=canary-77")
    written = b"".join(path.read_bytes() for path in desk.folder.glob("*.spool"))
    assert written
    assert b"canary" not in written


def test_a_line_item_that_is_gone_has_the_usual_lookbacks(desk):
    desk.lookbacks.clear()
    (beacon,) = desk.ask(Kind.CONVERSION, CLICK).beacons
    assert (beacon.click_lookback_s, beacon.view_lookback_s) == (30 * DAY_S, DAY_S)


@pytest.mark.parametrize(
    ("lookbacks", "window_s"),
    [
        (Lookbacks(), 30 * DAY_S + CLICK_WINDOW_S),
        (Lookbacks(click_s=0, view_s=60), CLICK_WINDOW_S),
        (Lookbacks(click_s=0, view_s=DAY_S), DAY_S + IMPRESSION_WINDOW_S),
    ],
)
def test_a_token_expires_when_no_click_or_view_of_it_can_count(desk, lookbacks, window_s):
    desk.lookbacks[SERVED.line_item_id] = lookbacks
    for age_s, outcome in ((window_s, Outcome.ACCEPTED), (window_s + 1, Outcome.EXPIRED)):
        result = desk.ask(Kind.CONVERSION, CLICK, now_s=NOW_S + age_s)
        assert_answered(result.answer, Kind.CONVERSION)
        assert [beacon.outcome for beacon in result.beacons] == [outcome]


@pytest.mark.parametrize("user_agent", ["curl/8.5", "python-requests/2.32", "Go-http-client/2.0"])
def test_a_postback_comes_from_a_server_and_counts(desk, user_agent):
    """What would be a robot's click is how an advertiser's server reports an order."""
    for method in ("GET", "POST"):
        result = desk.ask(Kind.CONVERSION, CLICK, ("user-agent", user_agent), method=method)
        assert result.outcome is Outcome.ACCEPTED


def test_no_line_item_looks_back_on_what_the_ledger_has_forgotten():
    assert Lookbacks().click_s + CLICK_WINDOW_S <= memory.CLICK_KEPT_S
    assert Lookbacks().view_s + IMPRESSION_WINDOW_S <= memory.KEPT_S
    assert Lookbacks().window_s <= memory.CLICK_KEPT_S


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        *(f"&value={text}" for text in ("-1", "+1", "1,5", "1e3", ".5", "5.", "x", "0x1", "%31")),
        *(f"&value={text}" for text in ("NaN", "inf", " 1", "1_0", "\u0661", "1000000000.000001")),
        *(f"&value={text}" for text in ("9" * 11, "9" * 4000, "1." + "0" * 19, "1.2.3", "\ud800")),
        *(f"&event={text}" for text in ("0", "65536", "-1", "1.0", "01", "x", "9" * 400, "\u0661")),
        "&order=" + "x" * (ORDER_CHARS_MAX + 1),
        "&order=" + "%F0%9F%9B%92" * (ORDER_CHARS_MAX + 1),
        "&value=1&value=1",
        "&value=1&value=",
        "&order=a&order=a",
        "&event=1&event",
    ],
)
def test_a_parameter_that_is_wrong_or_repeated_is_refused(desk, more):
    for query in (CLICK + more, f"{more[1:]}&{CLICK}"):
        assert_refused(desk.ask(Kind.CONVERSION, query), 400, Outcome.BAD_QUERY)


def test_an_event_s_token_converts_nothing(desk):
    assert_refused(desk.ask(Kind.CONVERSION, query_of(Kind.EVENT)), 400, Outcome.BAD_TOKEN)


def test_a_conversion_s_parameters_mean_nothing_elsewhere(desk):
    for kind in (Kind.IMPRESSION, Kind.CLICK, Kind.EVENT):
        result = desk.ask(kind, query_of(kind) + "&value=x&order=1&event=0&event=9")
        assert result.outcome is Outcome.ACCEPTED
        (beacon,) = result.beacons
        assert (beacon.value_micros, beacon.order) == (0, b"")
        assert beacon.event == (70 if kind is Kind.EVENT else 0)


# -- how parameters are read -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0", 0),
        ("00012", 12_000_000),
        ("0.000001", 1),
        ("0.0000019", 1),
        ("19.990000000000002", 19_990_000),
        ("999999999.999999", 10**15 - 1),
        ("1000000000", VALUE_MICROS_MAX),
    ],
)
def test_a_value_is_whole_micros_rounded_down(text, micros):
    assert said(f"value={text}") == Said(micros, b"", 0)


@given(st.integers(0, VALUE_MICROS_MAX))
def test_every_value_comes_back_as_it_was_meant(micros):
    units, rest = divmod(micros, 1_000_000)
    assert said(f"value={units}.{rest:06}") == Said(micros, b"", 0)


@given(st.text(max_size=ORDER_CHARS_MAX))
def test_an_order_has_one_digest_however_it_is_encoded(reference):
    plain, every = quote(reference, safe=""), "".join(f"%{byte:02x}" for byte in reference.encode())
    expected = digest(reference) if reference else b""
    for text in (plain, every, plain.replace("%20", "+")):
        assert said(f"order={text}") == Said(0, expected, 0)


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=300))
def test_no_query_is_too_odd_to_be_read(query):
    for text in (query, f"order={query}", f"value={query}", f"event={query}"):
        found = said(text)
        assert found is None or len(found.order) in (0, conversions.ORDER_BYTES)


def test_bytes_that_are_no_text_are_told_apart():
    heads = {said(f"order={text}").order for text in ("%ff", "%fe", "%ff%fe", "\ud800", "%", "%zz")}
    assert len(heads) == 6


# -- the click's token on its way to the advertiser ------------------------------------------------

ID = "${CLICK_ID}"


def clicked(desk: Desk, url: str, *, method: str = "GET") -> tuple[str | None, str]:
    """Where a click on a creative of this URL leads, and the click's token."""
    desk.destinations[CREATIVE] = url
    query = query_of(Kind.CLICK, destination=url)
    result = desk.ask(Kind.CLICK, query, method=method)
    assert result.answer.status == 302
    return header(result.answer, "location"), query.removeprefix("e=")


@pytest.mark.parametrize(
    ("url", "location"),
    [
        (f"https://a.example/?c={ID}", "https://a.example/?c={token}"),
        (f"https://a.example?{ID}#{ID}", "https://a.example?{token}#{token}"),
        (f"https://a.example/?c={ID}&d={ID}", "https://a.example/?c={token}&d={token}"),
        # As it is written and only there: no second pass, no other macro, no host, no path.
        ("https://a.example/?c=$${CLICK_ID}}", "https://a.example/?c=${token}}"),
        ("https://a.example/?c=${${CLICK_ID}CLICK_ID}", "https://a.example/?c=${{token}CLICK_ID}"),
        (f"https://{ID}.a.example/{ID}?x", f"https://{ID}.a.example/{ID}?x"),
        (f"https://a.example/#{ID}", f"https://a.example/#{ID}"),
        *(
            (f"https://a.example/?c={text}", f"https://a.example/?c={text}")
            for text in ("${click_id}", "${CLICK_ID", "$CLICK_ID", "{CLICK_ID}", "$%7BCLICK_ID}")
        ),
        ("https://a.example/?c=${CLICK_URL}${X}", "https://a.example/?c=${CLICK_URL}${X}"),
        (f"https://a.example/ö?c={ID}", "https://a.example/%C3%B6?c={token}"),
    ],
)
def test_the_macro_in_a_query_becomes_the_click_s_token(desk, url, location):
    for method in ("GET", "HEAD"):
        found, token = clicked(desk, url, method=method)
        assert found == location.replace("{token}", token)


def test_the_digest_is_of_the_url_as_the_catalog_has_it(desk):
    url = f"https://a.example/?c={ID}"
    location, token = clicked(desk, url)
    assert KEYRING.verify(token, Kind.CLICK).destination == destination_digest(url)
    assert location is not None
    # Who signs the filled URL instead signs another destination.
    other = query_of(Kind.CLICK, destination=location)
    assert_refused(desk.ask(Kind.CLICK, other), 400, Outcome.DESTINATION_CHANGED)


def test_the_token_comes_back_with_the_conversion(desk):
    location, _ = clicked(desk, f"https://a.example/?c={ID}&x=1")
    assert location is not None
    click_id = location.partition("?c=")[2].partition("&")[0]
    assert len(click_id) == TOKEN_CHARS
    assert click_id == quote(click_id, safe="")
    result = desk.ask(Kind.CONVERSION, f"e={click_id}&value=5")
    assert [beacon.value_micros for beacon in result.beacons] == [5_000_000]


def test_what_the_query_says_of_a_click_id_is_not_handed_on(desk):
    url = f"https://a.example/?c={ID}"
    desk.destinations[CREATIVE] = url
    query = query_of(Kind.CLICK, destination=url)
    answer = desk.ask(Kind.CLICK, f"CLICK_ID=evil&{query}&c=evil").answer
    assert header(answer, "location") == url.replace(ID, query.removeprefix("e="))
