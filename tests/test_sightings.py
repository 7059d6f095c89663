"""Windows slide exactly: what a worker knows, what Redis counts and a list of moments agree."""

from importlib import resources
from random import Random

import hiredis
import pytest
import redis as redis_py
from hypothesis import given
from hypothesis import strategies as st

from server.delivery import cap_records
from server.delivery.cap_records import LineCaps, Scope
from server.delivery.sightings import Rule, Seen
from server.errors import StoreError
from server.store.keyspace import Keyspace
from server.store.users import FIELDS_MAX, UserCommands, user_link
from tests.capped import cap, capped_catalog

NOW_S = 1_700_000_000
KEYS = Keyspace()
USER = b"abcdefghijklmnopqrstuv"


def rule(*caps: tuple[int, int], field: bytes = b"l1", strict: bool = False) -> Rule:
    keep, keep_s = max(n for n, _ in caps), max(window_s for _, window_s in caps)
    return Rule(1, LineCaps(strict, True, (Scope(field, keep, keep_s, caps),)))


def has_room(moments: list[int], caps: tuple[tuple[int, int], ...], now_s: int) -> bool:
    """The specification."""
    return all(
        sum(now_s - window_s < moment <= now_s for moment in moments) < impressions
        for impressions, window_s in caps
    )


some_caps = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from((60, 61, 90, 200))), min_size=1, max_size=3
)


@given(some_caps, st.lists(st.integers(0, 70), max_size=40))
def test_a_cap_is_used_up_when_the_window_has_as_many(caps, steps_s):
    held, seen, moments, now_s = rule(*caps), Seen([], 0, 0), [], NOW_S
    for step_s in steps_s:
        now_s += step_s
        room = has_room(moments, tuple(caps), now_s)
        assert seen.room(held, now_s) == room
        if room:
            seen.seen(held, now_s)
            moments.append(now_s)


@given(st.integers(1, 5), st.integers(0, 6), st.integers(0, 5))
def test_room_to_spare(impressions, shown, spare):
    held, seen = rule((impressions, 60)), Seen([], 0, 0)
    for _ in range(shown):
        seen.seen(held, NOW_S)
    assert seen.room(held, NOW_S, spare) == (min(shown, impressions) + spare < impressions)


@pytest.fixture
def client(redis_url):
    scripts = resources.files("server.store") / "scripts"
    with redis_py.Redis.from_url(redis_url) as client:
        for script in ("count_seen", "take_back"):
            client.script_load((scripts / f"{script}.lua").read_text())
        yield client


def count(client, now_s, *lines):
    words = _words(
        UserCommands(KEYS).count(USER, now_s, lines, sum(it.count(b"$") for it in lines))
    )
    verdicts, *flat = client.execute_command(*words)
    return [it == 49 for it in verdicts], flat


def _words(packed: bytes) -> list[bytes]:
    reader = hiredis.Reader()
    reader.feed(packed)
    words: list[bytes] = reader.gets()
    return words


@pytest.mark.parametrize("seed", range(6))
def test_redis_counts_as_a_worker_does(client, seed):
    rng = Random(seed)
    caps = [(rng.randint(1, 4), rng.choice((60, 90, 200))) for _ in range(rng.randint(1, 3))]
    held, moments, now_s = rule(*caps, strict=True), [], NOW_S
    for _ in range(60):
        now_s += rng.choice((0, 0, 1, 20, 70))
        [allowed], flat = count(client, now_s, held.checked)
        assert allowed == has_room(moments, tuple(caps), now_s)
        if allowed:
            moments.append(now_s)
        # And the answer is all that is known of the user.
        known = Seen(flat, 0, 0)
        assert known.room(held, now_s) == has_room(moments, tuple(caps), now_s)
    assert len(client.hget(KEYS.user(USER.decode()), "l1")) <= 4 * max(n for n, _ in caps)


def test_all_caps_of_a_line_item_or_nothing_of_it(client):
    both = Rule(1, LineCaps(True, True, (
        Scope(b"l1", 5, 60, ((5, 60),)), Scope(b"c7", 1, 60, ((1, 60),)),
    )))  # fmt: skip
    assert count(client, NOW_S, both.checked, both.checked)[0] == [True, False]
    assert {len(moments) for moments in client.hvals(KEYS.user(USER.decode()))} == {4}


def test_what_is_not_checked_is_counted_all_the_same(client):
    held = rule((1, 60))
    assert count(client, NOW_S, held.counted, held.counted)[0] == [True, True]
    assert count(client, NOW_S, held.checked)[0] == [False]
    assert count(client, NOW_S + 60, held.checked)[0] == [True]


def test_a_user_expires_with_the_longest_window_and_stays_small(client):
    key = KEYS.user(USER.decode())
    count(client, NOW_S, rule((1, 100), field=b"l0").counted)
    assert 90 < client.ttl(key) <= 100
    count(client, NOW_S, rule((1, 60)).counted)
    assert 90 < client.ttl(key) <= 100
    for number in range(FIELDS_MAX + 20):
        count(client, NOW_S + number, rule((1, 3600), field=b"l%d" % number).counted)
    assert client.hlen(key) == FIELDS_MAX
    assert not client.hexists(key, "l19")
    assert client.hexists(key, f"l{FIELDS_MAX + 19}")


def test_a_clock_behind_the_others_keeps_lists_rising(client):
    held = rule((3, 60))
    count(client, NOW_S, held.counted)
    count(client, NOW_S - 5, held.counted)
    times = client.hget(KEYS.user(USER.decode()), "l1")
    assert times == NOW_S.to_bytes(4, "big") * 2


def test_one_is_taken_back(client):
    held, key = rule((2, 60)), KEYS.user(USER.decode())
    count(client, NOW_S, held.counted, held.counted)
    for left in (1, 0, 0):
        client.execute_command(*_words(UserCommands(KEYS).take_back(USER, NOW_S, [b"l1"])))
        assert len(client.hget(key, "l1") or b"") == 4 * left


def test_what_the_bundle_says():
    shared = {"campaign_id": 32}
    catalog = capped_catalog(
        {**shared, "frequency_caps": [cap(2, 60, scope="campaign"), cap(9, 7200)]},
        {**shared, "frequency_caps": [cap(5, 3600, scope="campaign", strict=True)]},
        shared,
        {"on_unknown": "deny"},
    )
    found = cap_records.line_caps(catalog)
    assert found == {
        1: LineCaps(False, True, (
            Scope(b"l1", 9, 7200, ((9, 7200),)), Scope(b"c32", 5, 3600, ((2, 60),)),
        )),
        2: LineCaps(True, True, (Scope(b"c32", 5, 3600, ((5, 3600),)),)),
        3: LineCaps(False, True, (Scope(b"c32", 5, 3600, ()),)),
    }  # fmt: skip
    assert cap_records.members(found) == {
        cap_records.cap_id(b"c32", 2, 60): [1], cap_records.cap_id(b"c32", 5, 3600): [2]
    }  # fmt: skip
    assert [Rule(it, found[it]).checks for it in (1, 2, 3)] == [True, True, False]
    assert cap_records.line_caps(capped_catalog({}, {})) == {}


def test_a_link_needs_a_url_of_a_redis():
    with pytest.raises(StoreError):
        user_link("http://x", lambda _: None, lambda: None)
