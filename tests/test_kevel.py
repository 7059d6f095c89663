"""Kevel's API: what is asked reaches the engine, and what is answered is the JSON promised."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcore import Request
from adcore.limits import WINNERS_MAX
from server.delivery import kevel
from server.delivery.answer import DECISION_ID_BYTES, Moment, Writer
from server.delivery.asking import to_request
from server.delivery.context import Context, domain, language
from server.delivery.devices import Device
from server.delivery.geo import Place
from server.events.records import PREVIEW, Kind
from tests.delivery import BASE_URL, NOW_S, make_keyring, make_snapshot

CONTEXT = Context(
    Device("phone", "ios", "safari", False), Place(country="DE", region="DE-BE"), "de"
)


def asked(**placement):
    return {"placements": [{"divName": "a", **placement}]}


def request_of(body: dict, context: Context = CONTEXT) -> Request:
    return to_request(kevel.parse(json.dumps(body).encode()), context)


def test_everything_asked_reaches_the_engine():
    request = request_of(
        {
            "placements": [
                {
                    "divName": "top",
                    "networkId": 1,
                    "siteId": 10,
                    "adTypes": [1, 2],
                    "zoneIds": [100],
                    "count": 3,
                    "floorPrice": 1.1,
                    "properties": {"a": "x", "b": [1, "y"], "gone": None, "t": True},
                }
            ],
            "user": {"key": "u", "segments": [7, "s"]},
            "keywords": ["news"],
            "url": "https://www.news.example.com:8080/a?b#c",
            "blockedCreatives": [5],
            "unknown": {"deep": [1]},
        }
    )
    placement = request.placements[0]
    assert (placement.name, placement.site, placement.zones) == ("top", 10, [100])
    assert (placement.ad_types, placement.count) == ([1, 2], 3)
    assert placement.floor_micros == 1_100_000
    assert placement.key_values == {"a": "x", "b": [1, "y"], "t": True}
    assert request.segments == ["7", "s"]
    assert request.keywords == ["news"]
    assert request.domain == "news.example.com"
    assert request.blocked_creatives == [5]
    assert (request.country, request.region, request.device) == ("DE", "DE-BE", "phone")
    assert (request.os, request.browser, request.language) == ("ios", "safari", "de")


def test_what_the_sdks_send_for_nothing_is_null_and_means_nothing():
    nothing = dict.fromkeys(
        (
            *("siteId", "adTypes", "zoneIds", "count", "properties", "eventIds", "floorPrice"),
            *("flightId", "campaignId", "adId", "clickUrl", "overrides", "contentKeys"),
        )
    )
    request = request_of({**asked(**nothing), "user": None, "keywords": None, "ip": None})
    assert request.placements[0].count == 1
    assert request.placements[0].key_values == {}
    assert request.segments == []


@pytest.mark.parametrize("price", ["0.1", "1.1", "2.675", "0.000001", "999999.999999", "0"])
def test_a_floor_is_the_micros_it_says(price):
    micros = request_of(asked(floorPrice=float(price))).placements[0].floor_micros
    assert micros == int(Decimal(price) * 1_000_000)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body):
    try:
        kevel.parse(body)
    except kevel.Unreadable as error:
        assert error.reason in ("json", "shape")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["placements", "divName", "user", "key", "properties", "count"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_read_or_refused(value):
    try:
        kevel.parse(json.dumps(value).encode("utf-8", "surrogatepass"))
    except kevel.Unreadable as error:
        assert error.reason in ("json", "shape")


@pytest.mark.parametrize(("count", "fits"), [(1, True), (20, True), (21, False), (100, False)])
def test_a_placement_may_ask_for_as_many_as_kevel_gives(count, fits):
    """The engine gives more, to callers that rank once more."""
    assert kevel.COUNT_MAX < WINNERS_MAX
    body = json.dumps({"placements": [{"divName": "d", "siteId": 1, "count": count}]}).encode()
    if fits:
        assert kevel.parse(body)
    else:
        with pytest.raises(kevel.Unreadable):
            kevel.parse(body)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("de", "de"),
        ("de-AT,de;q=0.9", "de"),
        ("*", None),
        ("en;q=0.1", "en"),
        ("\x00", None),
        ("a" * 400, "a" * 35),
        ("-", None),
    ],
)
def test_language(header, expected):
    assert language(header) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, None),
        ("", None),
        ("https://a.example/b", "a.example"),
        ("http://www.a.example", "a.example"),
        ("//a.example", None),
        ("https://", None),
        ("https://u:p@a.example:1/", "a.example"),
        ("https://a.example?x=https://b.example/", "a.example"),
        ("https://a.example#@b.example", "a.example"),
        ("javascript:alert(1)", None),
    ],
)
def test_domain(url, expected):
    assert domain(url) == expected


# -- the answer
# --------------------------------------------------------------------------------------


def decide(body: dict, draw: int = 1, preview: bool = False) -> dict:
    snapshot = make_snapshot()
    parsed = kevel.parse(json.dumps(body).encode())
    wins = snapshot.index.select(to_request(parsed, CONTEXT), snapshot.live(NOW_S), draw)
    moment = Moment(bytes(DECISION_ID_BYTES), NOW_S, preview)
    return json.loads(Writer(make_keyring(), BASE_URL).write(parsed, wins, snapshot, moment))


def test_an_answer_has_an_entry_for_every_div():
    answer = decide(
        {
            "placements": [
                {"divName": "one", "adTypes": [1]},
                {"divName": 'quo"te', "adTypes": [99]},
                {"divName": "many", "adTypes": [1], "count": 5},
                {"divName": "none", "adTypes": [99], "count": 5},
            ],
            "user": {"key": 'k"ey'},
        }
    )
    assert answer["user"] == {"key": 'k"ey'}
    assert list(answer["decisions"]) == ["one", 'quo"te', "many", "none"]
    assert answer["decisions"]["one"]["flightId"] == 40
    assert answer["decisions"]['quo"te'] is None
    # Its advertiser's label is taken by the first placement.
    assert answer["decisions"]["many"] == []
    assert answer["decisions"]["none"] == []
    assert len(bytes.fromhex(answer["decisionId"])) == DECISION_ID_BYTES
    assert answer["generation"] == 7


def test_count_makes_an_array():
    ads = decide(asked(adTypes=[1], count=5))["decisions"]["a"]
    assert [ad["flightId"] for ad in ads] == [40]


def test_prices_are_exact_and_only_given_when_asked():
    body = asked(adTypes=[1])
    assert "pricing" not in decide(body)["decisions"]["a"]
    pricing = decide({**body, "includePricingData": True})["decisions"]["a"]["pricing"]
    assert pricing == {
        "price": 8.0,
        "clearPrice": 8.0,
        "revenue": 0.008,
        "rateType": 2,
        "eCPM": 8.0,
    }


def test_every_event_asked_for_has_its_url():
    events = decide(asked(adTypes=[1], eventIds=[12, 20]))["decisions"]["a"]["events"]
    assert [event["id"] for event in events] == [12, 20]
    assert all(event["url"].startswith("https://ads.example/e.gif?e=") for event in events)


def test_tokens_say_what_was_served():
    answer = decide(asked(adTypes=[1], siteId=10, eventIds=[3]))
    ad = answer["decisions"]["a"]
    keyring = make_keyring()
    found = {
        kind: keyring.verify(url.partition("?e=")[2], kind)
        for kind, url in (
            (Kind.IMPRESSION, ad["impressionUrl"]),
            (Kind.CLICK, ad["clickUrl"]),
            (Kind.EVENT, ad["events"][0]["url"]),
        )
    }
    served = found[Kind.CLICK].served
    assert all(token.served == served for token in found.values())
    assert (served.line_item_id, served.creative_id, served.site_id) == (40, ad["creativeId"], 10)
    assert served.price_micros == 8_000_000
    assert served.id.hex() == answer["decisionId"] + "0000"
    assert found[Kind.EVENT].event == 3
    assert ad["clickUrl"].partition("?e=")[2] in ad["contents"][0]["body"]


def test_a_previewed_ad_is_marked_as_never_billed():
    url = decide(asked(adTypes=[1]), preview=True)["decisions"]["a"]["clickUrl"]
    assert make_keyring().verify(url.partition("?e=")[2], Kind.CLICK).served.flags == PREVIEW


def test_without_a_snapshot_every_placement_gets_no_ad():
    parsed = kevel.parse(
        b'{"placements":[{"divName":"a"},{"divName":"b","count":2}],"user":{"key":"u"}}'
    )
    moment = Moment(bytes(DECISION_ID_BYTES), NOW_S, False)
    answer = json.loads(Writer(make_keyring(), BASE_URL).write(parsed, [], None, moment))
    assert answer["decisions"] == {"a": None, "b": []}
    assert answer["generation"] == 0
