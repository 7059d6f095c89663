"""The whole way, with real processes: published catalog, Redis, Granian, every door, the SDK."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import adzerk_decision_sdk
import msgspec
import pytest
import redis

from adcore import Placement, Request
from adcore import compile as compile_index
from adcore.catalog import Catalog
from server.clock import now_s
from server.delivery.dice import draw_of
from server.delivery.spool import read_frames
from server.events.records import RECORD_BEACON, RECORD_DECISION, Answered, Beacon, Decision, Kind
from server.store import connect
from server.store.catalogs import CatalogStore
from server.store.keyspace import Keyspace
from tests import catalogs
from tests.redis_server import RedisServer
from tests.serving import ServerProcess, start_server, wait_until

T = TypeVar("T")

pytestmark = pytest.mark.process

JSON = {"Content-Type": "application/json"}
BROWSER = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"}
ASK = {
    "placements": [
        {"divName": "top", "siteId": 10, "adTypes": [1], "eventIds": [7]},
        {"divName": "side", "siteId": 10, "adTypes": [2]},
    ],
    "user": {"key": "reader-1"},
    "includePricingData": True,
}


def store_at(url: str) -> CatalogStore:
    return CatalogStore(connect(url), Keyspace())


def publish(url: str, catalog: Catalog | None = None) -> int:
    return store_at(url).publish(catalog or catalogs.minimal(), source="test", now_s=now_s())


@pytest.fixture(scope="module")
def shared_redis():
    with RedisServer() as running:
        publish(running.url)
        yield running


@pytest.fixture(scope="module", params=["direct", "rsgi", "asgi"])
def server(request, shared_redis):
    settings = {"door": request.param, "preview": True, "decision_log_one_in": 1}
    with start_server(shared_redis.url, **settings) as running:
        yield running


def ask(server: ServerProcess, body: object = ASK, **headers: str) -> dict:
    answer = server.post("/api/v2", json.dumps(body).encode(), JSON | headers)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3]


def records(server: ServerProcess, kind: int, type_: type[T]) -> list[T]:
    return [
        msgspec.msgpack.decode(frame.record, type=type_)
        for path in sorted(server.spool_dir.glob("*.spool"))
        for frame in read_frames(path)
        if frame.kind == kind
    ]


def beacons(server: ServerProcess) -> list[Beacon]:
    return records(server, RECORD_BEACON, Beacon)


def metric(server: ServerProcess, line: str) -> float:
    text = server.get("/metrics", port=server.ops_port).body.decode()
    return next(
        float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line)
    )


def test_an_ad_is_decided_shown_and_clicked(server):
    answer = ask(server)
    ad = answer["decisions"]["top"]
    assert ad["flightId"] == 40
    before = len(beacons(server))

    pixel = server.get(path_of(ad["impressionUrl"]), BROWSER)
    assert (pixel.status, pixel.headers["content-type"], len(pixel.body)) == (200, "image/gif", 43)
    click = server.get(path_of(ad["clickUrl"]), BROWSER)
    catalog = {creative.id: creative.click_url for creative in catalogs.minimal().creatives}
    assert (click.status, click.headers["location"]) == (302, catalog[ad["creativeId"]])
    # Without a user agent there is the same answer, and nothing to bill.
    for headers in (BROWSER, {}):
        assert server.post(path_of(ad["events"][0]["url"]), b"", headers).status == 200

    frames = beacons(server)[before:]
    assert [(frame.kind, frame.outcome) for frame in frames] == [(1, 0), (2, 0), (3, 0), (3, 6)]
    assert {frame.id.hex() for frame in frames} == {answer["decisionId"] + "0000"}
    assert {frame.price_micros for frame in frames} == {8_000_000}

    logs = records(server, RECORD_DECISION, Decision)
    (log,) = (log for log in logs if log.id.hex() == answer["decisionId"])
    assert (log.weight, log.generation) == (1, answer["generation"])
    assert log.answers == [Answered(10, 40, ad["creativeId"]), Answered(10, 0, 0)]


def test_a_conversion_is_reported_by_pixel_and_by_postback(server):
    ad = ask(server)["decisions"]["top"]
    click_id = ad["clickUrl"].partition("?e=")[2]
    before = len(beacons(server))
    pixel = server.get(f"/c.gif?e={click_id}&value=12.5&order=A%2F1")
    assert (pixel.status, pixel.headers["content-type"], len(pixel.body)) == (200, "image/gif", 43)
    # The body of a postback is nobody's to read, and is not taken for the next request.
    connection = server.connect()
    for _ in range(3):
        connection.request("POST", f"/c.gif?e={click_id}&event=2", b"GET / HTTP/1.1\r\n\r\n" * 9)
        response = connection.getresponse()
        assert (response.status, len(response.read())) == (200, 43)
    connection.close()
    assert server.get(f"/c.gif?e={click_id}&value=free").status == 400

    frames = beacons(server)[before:]
    assert [(frame.kind, frame.outcome) for frame in frames] == 4 * [(Kind.CONVERSION, 0)]
    assert [frame.value_micros for frame in frames] == [12_500_000, 0, 0, 0]
    # The line item's own lookbacks, which the worker has from the snapshot.
    lookbacks = {(frame.click_lookback_s, frame.view_lookback_s) for frame in frames}
    assert lookbacks == {(7 * 86_400, 0)}


@pytest.mark.parametrize("bit", range(0, 864, 37))
def test_one_changed_bit_gives_400_and_no_redirect(server, bit):
    url = path_of(ask(server)["decisions"]["top"]["clickUrl"])
    head, _, token = url.partition("?e=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at, shift = divmod(bit, 6)
    changed = alphabet[alphabet.index(token[at]) ^ (1 << shift)]
    answer = server.get(f"{head}?e={token[:at]}{changed}{token[at + 1 :]}")
    assert answer.status == 400
    assert "location" not in answer.headers


def test_the_decision_id_is_enough_to_replay_an_answer(server):
    """Same catalog, request, time and draw: the engine as a library names the same winners."""
    index = compile_index(catalogs.minimal())
    for _ in range(20):
        answer = ask(server)
        placements = [Placement("top", 10, ad_types=[1]), Placement("side", 10, ad_types=[2])]
        # The test's own client: no country, a user agent that is none.
        request = Request(placements, device="robot", os="other", browser="other")
        draw = draw_of(bytes.fromhex(answer["decisionId"]))
        wins = index.select(request, index.live(now_s()), draw)
        assert wins[0][0].creative_id == answer["decisions"]["top"]["creativeId"]


def test_a_preview_is_decided_at_its_time_and_never_billed(server):
    # A Monday and a Tuesday noon in Berlin: the native line runs on Mondays and Sundays only.
    monday, tuesday = 1_773_054_000, 1_773_140_400
    age = {"placements": [{**ASK["placements"][1], "properties": {"age": 30}}]}
    assert ask(server, age, **{"X-Adcore-Time": str(tuesday)})["decisions"]["side"] is None
    ad = ask(server, age, **{"X-Adcore-Time": str(monday)})["decisions"]["side"]
    assert ad["flightId"] == 41
    before = len(beacons(server))
    assert server.get(path_of(ad["impressionUrl"])).status == 200
    assert [frame.outcome for frame in beacons(server)[before:]] == [1]


@pytest.mark.parametrize("stated", ["", "-1", "1.5", "soon", "12345678901"])
def test_a_time_that_is_none_is_refused(server, stated):
    answer = server.post("/api/v2", json.dumps(ASK).encode(), JSON | {"X-Adcore-Time": stated})
    assert answer.status == 400
    assert "x-adcore-time" in json.loads(answer.body)["error"]


def test_head_and_repeated_connections(server):
    connection = server.connect()
    for _ in range(50):
        connection.request("HEAD", "/ping")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
    connection.close()


def test_only_listed_origins_may_read_answers(shared_redis):
    with start_server(shared_redis.url, cors_origins="https://paper.example") as server:
        for origin, allowed in (
            ("https://paper.example", True),
            ("https://evil.example", False),
            ("null", False),
        ):
            for method, body in (("POST", json.dumps(ASK).encode()), ("OPTIONS", None)):
                answer = server.request(method, "/api/v2", body, JSON | {"Origin": origin})
                assert answer.status == (200 if body else 204)
                assert (answer.headers["access-control-allow-origin"] == origin) is allowed
                assert answer.headers["vary"] == "origin"
                assert "access-control-allow-credentials" not in answer.headers


# -- Kevel's Python SDK
# ------------------------------------------------------------------------------


def test_kevels_sdk_works_unchanged(server):
    client = adzerk_decision_sdk.Client(1, host=f"http://127.0.0.1:{server.port}", site_id=10)
    request = {
        "placements": [
            {"adTypes": [1], "properties": {"section": "sport"}},
            {"divName": "n", "adTypes": [9]},
        ],
        "user": {"key": "abc"},
        "keywords": ["football"],
    }
    answer = client.decisions.get(request, user_agent="Mozilla/5.0 (X11; Linux x86_64)")
    (decision,) = answer.decisions["div0"]
    assert decision.flight_id == 40
    assert decision.contents[0].type == "html"
    assert answer.user.key == "abc"
    assert answer.decisions["n"] == [None]


# -- what may happen to Redis and to the snapshot
# --------------------------------------------------------


def test_redis_killed_under_load_costs_no_answer():
    with RedisServer() as own:
        publish(own.url)
        with start_server(own.url) as server, ThreadPoolExecutor(4) as pool:
            body, statuses = json.dumps(ASK).encode(), []

            def load(count: int) -> list[int]:
                connection = server.connect()
                seen = []
                for _ in range(count):
                    connection.request("POST", "/api/v2", body, JSON)
                    response = connection.getresponse()
                    response.read()
                    seen.append(response.status)
                connection.close()
                return seen

            running = [pool.submit(load, 1500) for _ in range(4)]
            own.stop()
            wait_until(lambda: "redis is away" in server.log, "the loader to notice")
            for done in running:
                statuses += done.result()
            statuses += load(200)
            assert set(statuses) == {200}
            assert metric(server, "adcore_redis_up") == 0
            own.start()
            publish(own.url)
            wait_until(lambda: metric(server, "adcore_redis_up") == 1, "Redis to be back")


def test_starting_without_redis_waits_and_says_so(tmp_path):
    with RedisServer() as own:
        own.stop()
        with start_server(own.url, ready=False) as server:
            server.wait(lambda: server.status("/ping") == 503, "an answer")
            assert json.loads(server.get("/ping").body)["status"] == "waiting for a catalog"
            answer = ask(server)
            assert answer["decisions"] == {"top": None, "side": None}
            server.wait(lambda: "redis is away" in server.log, "a log line")
            own.start()
            publish(own.url)
            server.wait(lambda: server.status("/ping") == 200, "the catalog")
            assert ask(server)["decisions"]["top"]["flightId"] == 40
            assert server.stop() == 0


def spoil_bit(client: redis.Redis, keys: Keyspace, generation: int) -> None:
    key = keys.chunk(generation, 2)
    content = bytearray(client.get(key))
    content[len(content) // 2] ^= 4
    client.set(key, bytes(content))


def spoil_cut(client: redis.Redis, keys: Keyspace, generation: int) -> None:
    key = keys.chunk(generation, 2)
    client.set(key, client.get(key)[:-1])


def spoil_gone(client: redis.Redis, keys: Keyspace, generation: int) -> None:
    client.delete(keys.chunk(generation, 2))


def spoil_future(client: redis.Redis, keys: Keyspace, generation: int) -> None:
    key = keys.meta(generation)
    meta = msgspec.msgpack.decode(client.get(key))
    client.set(key, msgspec.msgpack.encode({**meta, "schema_version": 99}))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_bit, "checksum"),
        (spoil_cut, "checksum"),
        (spoil_gone, "missing"),
        (spoil_future, "schema"),
    ],
)  # fmt: skip
def test_a_bad_snapshot_is_refused_and_the_old_one_serves(spoil, reason):
    with RedisServer() as own, redis.Redis.from_url(own.url) as client:
        keys, good, bad = Keyspace(), publish(own.url), publish(own.url)
        store_at(own.url).make_current(good)
        with start_server(own.url) as server:
            assert ask(server)["generation"] == good
            spoil(client, keys, bad)
            # Not by the store: its script would refuse some of these.
            client.set(keys.current, bad)
            client.publish(keys.published, bad)
            refused = f'adcore_snapshots_refused_total{{reason="{reason}"}}'
            server.wait(lambda: metric(server, refused) == 1, "the refusal")
            assert "snapshot refused" in server.log
            assert ask(server)["generation"] == good
            better = publish(own.url)
            server.wait(lambda: ask(server)["generation"] == better, "the next good one")


def test_a_new_generation_serves_without_a_restart():
    with RedisServer() as own:
        first = publish(own.url)
        with start_server(own.url, workers=2) as server:

            def all_serve(generation: int) -> bool:
                """Twenty new connections find both workers, all but surely."""
                return all(ask(server)["generation"] == generation for _ in range(20))

            records = catalogs.minimal_records()
            records["line_items"][0]["status"] = "paused"
            second = publish(own.url, msgspec.convert(records, Catalog))
            server.wait(lambda: all_serve(second), "both workers")
            assert ask(server)["decisions"]["top"] is None
            store_at(own.url).make_current(first)
            server.wait(lambda: all_serve(first), "the rollback")
            assert ask(server)["decisions"]["top"]["flightId"] == 40


def test_a_wiped_redis_that_counts_again_is_not_taken_for_the_old_one():
    with RedisServer() as own:
        assert publish(own.url) == 1
        with start_server(own.url) as server:
            records = catalogs.minimal_records()
            records["line_items"][0]["status"] = "paused"
            with redis.Redis.from_url(own.url) as client:
                client.flushall()
            assert publish(own.url, msgspec.convert(records, Catalog)) == 1
            server.wait(lambda: ask(server)["decisions"]["top"] is None, "the other generation 1")
