"""Frequency caps hold through real servers and a real Redis, at every door."""

from contextlib import ExitStack, contextmanager

import pytest
import redis as redis_py

from server.families import CAP_BREAKER_OPEN, CAP_COUNTS, CAP_READS, CAP_UNKNOWN
from tests.capped import ask, body, cap, capped_catalog
from tests.serving import publish, start_server, wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def closing():
    """Close what is passed through it when the test ends."""
    with ExitStack() as stack:

        def later(opened):
            stack.callback(opened.close)
            return opened

        yield later


@contextmanager
def capping_server(redis_url, **settings):
    """A server whose workers have found Redis."""
    with start_server(redis_url, cap_deadline_ms=50, **settings) as server:
        server.wait(lambda: not server.totals().value(CAP_BREAKER_OPEN), "caps to be read")
        yield server


doors = pytest.mark.parametrize("door", ["direct", "rsgi", "asgi"])


@doors
def test_a_user_sees_an_ad_as_often_as_its_cap_allows(redis_url, door, closing):
    publish(redis_url, capped_catalog({"frequency_caps": [cap(3)]}, {}))
    with capping_server(redis_url, door=door) as server:
        connection = closing(server.connect())
        assert [ask(connection, body("u"))[0] for _ in range(6)] == [1, 1, 1, 2, 2, 2]
        assert ask(connection, body("another")) == [1]
        assert ask(connection, body(None)) == [1], "nobody in particular is capped"
        assert server.log.count("Traceback") == 0
        assert server.stop() == 0


@doors
def test_strict_caps_and_several_slots(redis_url, door, closing):
    lines = {"frequency_caps": [cap(2, strict=True)]}, {"frequency_caps": [cap(1)]}, {}
    publish(redis_url, capped_catalog(*lines))
    with capping_server(redis_url, door=door) as server:
        connection = closing(server.connect())
        assert ask(connection, body("u", slots=4)) == [1, 1, 2, 3]
        assert ask(connection, body("u", slots=2)) == [3, 3]
        assert ask(connection, body("v", slots=1)) == [1]
        assert ask(connection, body("v", slots=3)) == [1, 2, 3]
        assert server.log.count("Traceback") == 0


def test_a_campaigns_cap_counts_all_of_its_line_items(redis_url, closing):
    shared = {"campaign_id": 32}
    lines = (
        {**shared, "frequency_caps": [cap(2, scope="campaign")]},
        {"frequency_caps": [cap(1, scope="advertiser")]},
        shared,
    )
    publish(redis_url, capped_catalog(*lines))
    with capping_server(redis_url) as server:
        connection = closing(server.connect())
        # Line item 1 is the advertiser's too: with it, line item 2 has been seen enough.
        assert ask(connection, body("v", slots=4)) == [1, 1, 3, 3]
        assert ask(connection, body("w")) == [1]
        # Line item 3 has no cap, and counts for its campaign's: it takes the second place.
        client = closing(redis_py.Redis.from_url(redis_url))
        [key] = [key for key in client.keys("*user*") if b"c32" in client.hgetall(key)][:1]
        assert set(client.hgetall(key)) <= {b"c32", b"a20"}


def test_without_consent_nothing_is_kept_and_nothing_is_capped(redis_url, closing):
    publish(redis_url, capped_catalog({"frequency_caps": [cap(1)]}, {}))
    client = closing(redis_py.Redis.from_url(redis_url))
    with capping_server(redis_url) as server:
        connection = closing(server.connect())
        refusals = (
            {"consent": {"gdpr": False}}, {"consent": {"gdpr": "CPxyz"}}, {"notrack": True},
            {"consent": {"gpc": True}}, {"consent": {"coppa": True}},
        )  # fmt: skip
        for refusal in refusals:
            for _ in range(2):
                assert ask(connection, body("u", **refusal)) == [1]
        for _ in range(2):
            assert ask(connection, body("u"), {"Sec-GPC": "1"}) == [1]
        assert client.keys("*user*") == []
        assert [ask(connection, body("u", consent={"gdpr": True}))[0] for _ in range(2)] == [1, 2]
        wait_until(lambda: len(client.keys("*user*")) == 1, "the user to be counted")
        [key] = client.keys("*user*")
        assert b"u}" not in key.replace(b"user", b"")
        assert 0 < client.ttl(key) <= 86_400


def test_previews_leave_nothing_behind(redis_url, closing):
    publish(redis_url, capped_catalog({"frequency_caps": [cap(1)]}, {}))
    with capping_server(redis_url, ops_key="k" * 8 + "0123456789abcdefghijklmnopq") as server:
        connection = closing(server.connect())
        headers = {
            "X-Adcore-Explain": "1", "Authorization": f"Bearer {server.settings['ops_key']}",
        }  # fmt: skip
        assert ask(connection, body("u"), headers) == [1]
        assert ask(connection, body("u")) == [1]
        connection.request("POST", "/api/v2", body("u"), headers)
        while (response := connection.getresponse()).status == 429:
            response.read()
            connection.request("POST", "/api/v2", body("u"), headers)
        assert b'"capped":1' in response.read()


@doors
def test_redis_gone_and_back(redis_url, door, redis_server, closing):
    lines = (
        {"frequency_caps": [cap(1)], "on_unknown": "deny"}, {"frequency_caps": [cap(1)]}, {},
    )  # fmt: skip
    publish(redis_url, capped_catalog(*lines))
    with capping_server(redis_url, door=door) as server:
        connection = closing(server.connect())
        assert ask(connection, body("u")) == [1]
        redis_server.stop()
        try:
            answers = [ask(connection, body("new"))[0] for _ in range(50)]
            assert set(answers) == {2}, "denied and allowed as booked"
        finally:
            redis_server.start()
        publish(redis_url, capped_catalog(*lines))

        def is_read() -> bool:
            return ask(connection, body(f"w{server.totals().value(CAP_READS, 'sent')}")) == [1]

        wait_until(is_read, "caps to be read again")
        assert server.totals().value(CAP_UNKNOWN, "denied") >= 50
        assert server.totals().value(CAP_COUNTS, "lost") >= 50
        assert server.log.count("Traceback") == 0
        assert server.stop() == 0
