"""The front pod's Envoy, as k8s/base/front/envoy.yaml has it, in front of the real server."""

import json
import os
import signal
import socket
import subprocess
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
import yaml

from server.families import BEACONS
from tests import envoy_proxy
from tests.envoy_proxy import (
    API,
    ASK,
    CONFIG,
    ENVOY,
    JSON,
    EnvoyProxy,
    bucket_of,
    route_of,
    start_envoy,
)
from tests.redis_server import RedisServer
from tests.serving import (
    DEADLINE_S,
    Response,
    ServerProcess,
    free_ports,
    publish,
    read,
    start_server,
    wait_until,
)

pytestmark = pytest.mark.process

BROWSER = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"}
# Not 127.0.0.1: Envoy writes the machine's own address for that one.
BALANCER, STRANGER = "127.0.0.8", "127.0.0.9"
DATACENTRE = "203.0.113.0/24"
NEVER_S = 300  # longer than any test waits


@pytest.fixture(scope="module")
def redis_here():
    envoy_proxy.require_envoy()
    with RedisServer() as running:
        publish(running.url)
        yield running.url


@pytest.fixture(scope="module")
def server(redis_here, tmp_path_factory):
    ranges = tmp_path_factory.mktemp("ranges") / "ranges.txt"
    ranges.write_text(f"{DATACENTRE}\n")
    with start_server(
        redis_here,
        trusted_proxies=("127.0.0.1", BALANCER),
        datacentre_ranges=ranges,
        body_timeout_s=60,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def envoy(server):
    with start_envoy(server.port) as running:
        yield running
        assert not running.warnings


@contextmanager
def stopped(server: ServerProcess):
    """A server that takes connections, and answers none."""
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        yield worker
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)


def hurried(config: dict[str, Any]) -> None:
    """Edit: a decision's deadline as in the file, and none for the rest."""
    timeout = route_of(envoy_proxy.read_config(), API)["route"]["timeout"]
    assert timeout == "0.045s"
    route_of(config, API)["route"]["timeout"] = timeout


def beacon(server: ServerProcess) -> str:
    """The path of a fresh impression's pixel."""
    answer = json.loads(server.post(API, ASK, JSON).body)
    return "/" + answer["decisions"]["top"]["impressionUrl"].split("/", 3)[3]


def counted(server: ServerProcess, outcome: str = "accepted") -> int:
    return server.totals().value(BEACONS, "impression", outcome)


def error(response: Response) -> str:
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    return json.loads(response.body)["error"]


def send(envoy: EnvoyProxy, path: str) -> socket.socket:
    """A request whose answer nobody waits for yet."""
    connection = socket.create_connection(("127.0.0.1", envoy.ports["front"]), timeout=DEADLINE_S)
    lines = [
        f"GET {path} HTTP/1.1",
        "host: test",
        *(f"{name}: {BROWSER[name]}" for name in BROWSER),
    ]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    return connection


# -- the file itself


def test_envoy_takes_the_file_as_it_is_and_has_nothing_to_warn_of():
    envoy_proxy.require_envoy()
    command = [ENVOY, "--mode", "validate", "-c", CONFIG, "-l", "warning"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == f"configuration '{CONFIG}' OK"


def test_only_the_front_and_the_metrics_listen_beyond_the_pod():
    config = yaml.safe_load(CONFIG.read_text())
    resources = config["static_resources"]
    places = [part["address"]["socket_address"] for part in resources["listeners"]]
    assert [tuple(place.values()) for place in places] == [("0.0.0.0", 8080), ("0.0.0.0", 9902)]
    inside = [config["admin"]["address"]["socket_address"]]
    inside += [
        found["endpoint"]["address"]["socket_address"]
        for cluster in resources["clusters"]
        for found in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    ]
    assert {place["address"] for place in inside} == {"127.0.0.1"}
    assert [place["port_value"] for place in inside] == [9901, 8081, 8081, 9901]


# -- passing on


def test_a_ping_is_the_server_s_own_word(redis_url):
    with start_server(redis_url, ready=False) as server, start_envoy(server.port) as envoy:
        server.wait(lambda: server.status("/ping") == 503, "a worker")
        waiting = envoy.get("/ping")
        assert (waiting.status, waiting.body) == (503, b'{"status":"waiting for a catalog"}')
        publish(redis_url)
        server.wait_ready()
        ping = envoy.get("/ping")
        assert (ping.status, ping.body) == (200, server.get("/ping").body)
        assert not envoy.access_log  # what probes are told is no news


def test_an_ad_is_decided_shown_and_clicked(server, envoy):
    before = counted(server)
    answer = envoy.post(API, ASK, JSON)
    assert answer.status == 200
    ad = json.loads(answer.body)["decisions"]["top"]
    assert envoy.get("/" + ad["impressionUrl"].split("/", 3)[3], BROWSER).status == 200
    click = envoy.get("/" + ad["clickUrl"].split("/", 3)[3], BROWSER)
    assert (click.status, "location" in click.headers) == (302, True)
    assert counted(server) == before + 1
    assert not {"server", "x-envoy-upstream-service-time"} & {*answer.headers, *click.headers}


def test_a_connection_serves_many_requests_at_both_ends(server, envoy):
    before = envoy.stats()
    with closing(envoy.connect()) as kept:
        for _ in range(50):
            kept.request("POST", API, ASK, JSON)
            answer = read(kept)
            assert (answer.status, answer.headers["connection"]) == (200, None)
    after = envoy.stats()
    assert after["cluster.api.upstream_rq_total"] == before["cluster.api.upstream_rq_total"] + 50
    assert after["cluster.api.upstream_cx_total"] <= before["cluster.api.upstream_cx_total"] + 1


@pytest.mark.parametrize(
    ("source", "claimed", "outcome"),
    [
        # The balancer, which the server trusts, says whom it saw: that is believed.
        (BALANCER, "203.0.113.7", "datacentre"),
        (BALANCER, "198.51.100.7", "accepted"),
        # What the client claimed stands left of what the balancer saw.
        (BALANCER, "203.0.113.7, 198.51.100.7", "accepted"),
        (BALANCER, "198.51.100.7, 203.0.113.7", "datacentre"),
        # Who comes past the balancer may claim anything.
        (STRANGER, "203.0.113.7", "accepted"),
    ],
)
def test_a_forwarded_address_is_believed_of_a_trusted_proxy_alone(
    server, envoy, source, claimed, outcome
):
    before = counted(server, outcome)
    headers = BROWSER | {"x-forwarded-for": claimed}
    assert envoy.get(beacon(server), headers, source=source).status == 200
    assert counted(server, outcome) == before + 1


def test_no_other_name_of_a_path_gets_by_its_route(server, envoy):
    def edit(config):
        nowhere = {"name": "nowhere", "type": "STATIC", "connect_timeout": "1s"}
        config["static_resources"]["clusters"].append(nowhere)
        route_of(config, API)["route"]["cluster"] = "nowhere"

    names = ["//api//v2", "/a/../api/v2", "/./api/v2", "/api/%76%32", "/%61pi/v2", "/api/v2/"]
    names += ["/api%2Fv2", "/api/v2%20", "/API/v2", "/api/v2?a=/i.gif", "/api/v2#x", "/api/v2;x"]
    with start_envoy(server.port, edit=edit) as blocked:
        for name in names:
            assert blocked.post(name, ASK, JSON).status in (400, 404, 503), name
    assert [envoy.post(name, ASK, JSON).status for name in names[:3]] == [200, 200, 200]
    assert envoy.post("/api%2Fv2", ASK, JSON).status == 400


# -- late, away, too much


@pytest.fixture
def strict(server):
    """An Envoy that waits 45 ms for a decision."""
    with start_envoy(server.port, edit=hurried) as running:
        yield running


def test_a_decision_that_is_late_is_a_504_that_says_so(server, strict):
    envoy = strict
    # And a client does not say otherwise, nor ask for a second try, even if it is of our network:
    # one that comes by no balancer is what Envoy may take for such.
    headers = {"x-envoy-upstream-rq-timeout-ms": f"{NEVER_S}000", "x-envoy-retry-on": "5xx"}
    with stopped(server):
        late = envoy.post(API + "?who=me", ASK, JSON | headers)
    assert (late.status, error(late)) == (504, "no answer in time")
    stats = envoy.stats()
    assert stats["cluster.api.upstream_rq_timeout"] == 1
    assert stats["cluster.api.upstream_rq_retry"] == 0
    wait_until(lambda: envoy.access_log, "a line in the log")
    line = envoy.access_log[-1]
    assert (line["status"], line["flags"], line["path"]) == (504, "UT", API)
    assert 45 <= line["ms"] < NEVER_S * 1000
    assert "who=me" not in json.dumps(envoy.access_log)
    # A pause is no end.
    wait_until(lambda: envoy.post(API, ASK, JSON).status == 200, "the server to go on")


def test_a_beacon_is_given_more_time_than_a_decision(server):
    assert route_of(envoy_proxy.read_config(), "/")["route"]["timeout"] == "1s"
    before = counted(server)
    path = beacon(server)
    with start_envoy(server.port, edit=hurried) as envoy:
        with stopped(server):
            waiting = send(envoy, path)
            envoy.wait_open(1)
            assert envoy.post(API, ASK, JSON).status == 504
            assert envoy.stats()["cluster.api.upstream_rq_active"] == 1
        with closing(waiting):
            assert b" 200 " in waiting.recv(65_536)
    assert counted(server) == before + 1


def test_what_a_server_may_have_seen_is_not_sent_twice(redis_here):
    with start_server(redis_here) as server, start_envoy(server.port) as envoy:
        path = beacon(server)
        with stopped(server) as worker, closing(send(envoy, path)) as waiting:
            envoy.wait_open(1)
            os.kill(worker, signal.SIGKILL)
            assert b" 503 " in waiting.recv(65_536)
        assert envoy.stats()["cluster.api.upstream_rq_retry"] == 0
        server.wait_ready()
        assert counted(server) == 0
        assert envoy.get(path, BROWSER).status == 200
        assert counted(server) == 1


def test_who_can_t_be_reached_was_not_asked_and_others_are(server):
    """Half of all tries go to a port where nobody listens: no request fails, none counts twice."""
    dead, _ = free_ports()
    before = counted(server)
    with start_envoy(dead, server.port) as envoy:
        for _ in range(20):
            assert envoy.get(beacon(server), BROWSER).status == 200
        stats = envoy.stats()
    assert counted(server) == before + 20
    assert stats["cluster.api.upstream_rq_retry"] >= 5
    assert stats["cluster.api.upstream_rq_retry_success"] == stats["cluster.api.upstream_rq_retry"]


def test_a_server_that_is_away_is_a_503_until_it_is_back(redis_here):
    port, ops_port = free_ports()
    with start_envoy(port) as envoy:
        away = envoy.post(API, ASK, JSON)
        assert (away.status, error(away)) == (503, "the server is away")
        assert envoy.stats()["cluster.api.upstream_rq_retry"] == 2
        assert envoy.get("/ping").status == 503
        with start_server(redis_here, ready=False, port=port, ops_port=ops_port):
            wait_until(lambda: envoy.get("/ping").status == 200, "the server through envoy")
            assert envoy.post(API, ASK, JSON).status == 200


def test_more_than_the_server_can_answer_in_time_is_refused_at_once(server):
    with start_envoy(server.port) as envoy:
        clusters = envoy.ask_admin("/clusters").body.decode()
        for bound in ("max_connections", "max_pending_requests", "max_requests"):
            assert f"api::default_priority::{bound}::1024\n" in clusters
        envoy.set_runtime(circuit_breakers__api__default__max_requests=1)
        with stopped(server), closing(send(envoy, "/nothing")):
            envoy.wait_open(1)
            refused = envoy.post(API, ASK, JSON)
        assert (refused.status, error(refused)) == (
            503,
            "more requests at once than can be answered in time",
        )
        assert envoy.stats()["cluster.api.upstream_rq_active_overflow"] == 1
        envoy.set_runtime(circuit_breakers__api__default__max_requests=0)
        assert envoy.post(API, ASK, JSON).status == 503
        assert envoy.get("/ping").status == 200  # a pod that sheds load is not ill


def test_more_decisions_than_the_bucket_has_are_refused_and_beacons_are_not(server):
    def edit(config):
        bucket = {"max_tokens": 3, "tokens_per_fill": 1, "fill_interval": "86400s"}
        bucket_of(config, API)["token_bucket"] = bucket

    with start_envoy(server.port, edit=edit) as envoy:
        answers = [envoy.post(API, ASK, JSON) for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert error(answers[-1])
        assert envoy.get(beacon(server), BROWSER).status == 200
        assert envoy.get("/ping").status == 200
        assert envoy.stats()["decisions.http_local_rate_limit.rate_limited"] == 2
        # In an incident a person lifts it.
        envoy.set_runtime(rate_limit__decisions=0)
        assert envoy.post(API, ASK, JSON).status == 200


def test_one_address_can_t_take_what_is_for_all(server):
    def edit(config):
        (descriptor,) = bucket_of(config, "/")["descriptors"]
        descriptor["token_bucket"] |= {"max_tokens": 2, "fill_interval": "86400s"}

    with start_envoy(server.port, edit=edit) as envoy:
        for last, statuses in ((1, [404, 404, 429]), (2, [404, 404, 429])):
            headers = {"x-forwarded-for": f"192.0.2.{9 - last}, 198.51.100.{last}"}
            assert [envoy.get("/none", headers).status for _ in range(3)] == statuses
        assert envoy.post(API, ASK, JSON | headers).status == 200
