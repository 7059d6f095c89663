"""What the front pod's Envoy refuses: what is too large, too much, or for operators alone."""

import http.client
import json
import re
import socket
from contextlib import ExitStack, closing, suppress

import pytest

from server.delivery import core
from server.families import REQUESTS
from server.serve import HEAD_BYTES_MAX
from tests import malformed
from tests.envoy_proxy import (
    ASK,
    JSON,
    EnvoyProxy,
    by_name,
    filter_of,
    read_config,
    require_envoy,
    start_envoy,
)
from tests.redis_server import RedisServer
from tests.serving import DEADLINE_S, ROOT, publish, read, start_server, wait_until

pytestmark = pytest.mark.process

SENT_ALWAYS = 2  # http.client's own headers: host, accept-encoding


@pytest.fixture(scope="module")
def server():
    require_envoy()
    with RedisServer() as running:
        publish(running.url)
        with start_server(running.url, body_timeout_s=60) as serving:
            yield serving


@pytest.fixture(scope="module")
def envoy(server):
    with start_envoy(server.port) as running:
        yield running
        assert not running.warnings


def exchange(envoy: EnvoyProxy, raw: bytes) -> bytes:
    """All that comes back until the connection ends, or an answer is whole."""
    answer = b""
    with socket.create_connection(("127.0.0.1", envoy.ports["front"]), DEADLINE_S) as client:
        with suppress(OSError):  # refused before all of it was sent
            client.sendall(raw)
        while not is_whole(answer, raw.startswith(b"HEAD")):
            with suppress(ConnectionError):
                if received := client.recv(65_536):
                    answer += received
                    continue
            break
    return answer


def is_whole(answer: bytes, is_head: bool) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: ([0-9]+)", head)
    return bool(end) and (is_head or len(body) >= int(length[1] if length else 0))


# -- sizes


def test_a_body_may_have_what_the_server_takes_and_not_a_byte_more(server, envoy):
    assert filter_named(filter_of(read_config(), "front"), "buffer") == core.BODY_BYTES_MAX
    fits = ASK.ljust(core.BODY_BYTES_MAX)
    for encoded in (False, True):
        assert post(envoy, fits, encoded) == 200
        before = server.totals().value(REQUESTS, "api", "413")
        assert post(envoy, fits + b" ", encoded) == 413
        assert server.totals().value(REQUESTS, "api", "413") == before  # it never saw it


def filter_named(settings: dict, name: str) -> int:
    found = by_name(settings["http_filters"], f"envoy.filters.http.{name}")
    return found["typed_config"]["max_request_bytes"]


def post(envoy: EnvoyProxy, body: bytes, in_chunks: bool) -> int:
    with closing(envoy.connect()) as connection:
        with suppress(OSError):
            connection.request(
                "POST",
                core.API,
                iter([body]) if in_chunks else body,
                JSON,
                encode_chunked=in_chunks,
            )
        return read(connection).status


def test_as_many_headers_as_the_server_takes_with_what_envoy_adds(envoy):
    bound = filter_of(read_config(), "front")["common_http_protocol_options"]["max_headers_count"]
    statuses = {}
    for count in range(bound - 6, bound + 3):
        headers = {f"x-{number}": "1" for number in range(count - SENT_ALWAYS)}
        with closing(envoy.connect()) as connection:
            connection.request("GET", "/ping", None, headers)
            statuses[count] = read(connection)
    assert {found.status for found in statuses.values()} == {200, 431}
    # Each refusal is Envoy's: what it lets through, the server takes.
    for found in statuses.values():
        assert found.status == 200 or b"more than" not in found.body


def test_a_long_head_is_refused_before_it_is_too_long_for_the_server(envoy):
    assert filter_of(read_config(), "front")["max_request_headers_kb"] * 1024 < HEAD_BYTES_MAX
    statuses = set()
    for size in range(29 * 1024, 34 * 1024, 256):
        # Spread over headers: a single one could have bounds of its own.
        headers = {f"x-{number}": "v" * (size // 8) for number in range(8)}
        found = envoy.get("/ping", headers)
        statuses.add(found.status)
        assert found.status == 200 or b"buffer" not in found.body.lower()
    assert statuses == {200, 431}
    assert "cluster.probe.upstream_rq_4xx" not in envoy.stats()


def test_a_url_may_have_what_the_server_takes(envoy):
    path = "/nothing?a=".ljust(core.URL_CHARS_MAX, "a")
    assert [envoy.get(path).status, envoy.get(path + "aa").status] == [404, 414]


def test_a_body_that_does_not_come_in_time_is_a_408_and_never_the_server_s(server):
    def edit(config):
        filter_of(config, "front")["request_timeout"] = "0.05s"

    raw = malformed.http(body=ASK)[:-1]
    with start_envoy(server.port, edit=edit) as envoy:
        assert b" 408 " in exchange(envoy, raw)
        assert envoy.stats()["cluster.api.upstream_rq_total"] == 0


def test_what_can_be_read_two_ways_is_dropped(envoy):
    before = envoy.stats().get("http1.dropped_headers_with_underscores", 0)
    assert envoy.get("/ping", {"x_forwarded_for": "1.2.3.4"}).status == 200
    assert envoy.stats()["http1.dropped_headers_with_underscores"] == before + 1


@pytest.fixture(scope="module")
def hasty(server):
    """An Envoy that waits for no body for long: some bad requests never send theirs."""

    def edit(config):
        filter_of(config, "front")["request_timeout"] = "1s"

    with start_envoy(server.port, edit=edit) as running:
        yield running


# Where Envoy's answer is another than the server's would be, and as good.
ANOTHER = {
    "8 two Hosts": 200,  # it makes one of them, and nothing here depends on it
    "bad version": 426,
    "no version": 426,
    "13 h2c prior knowledge": 400,
    "14 get /api/v2": 400,  # no method that Envoy knows
    "14 post /api/v2": 400,
    "14 BREW /api/v2": 400,
    "15 /%00": 400,
    "15 //api/v2": 405,  # it is /api/v2, and this was a GET
    "16 10 MB declared": 408,  # and never sent
}


@pytest.mark.parametrize("bad", malformed.ALL, ids=[bad.name for bad in malformed.ALL])
def test_a_bad_request_gets_its_4xx(hasty, bad):
    answer = exchange(hasty, bad.raw)
    assert int(answer[9:12] or malformed.HUNG_UP) == ANOTHER.get(bad.name, bad.status)
    head, _, body = answer.partition(b"\r\n\r\n")
    if body.startswith(b"{") and b" 200 " not in head[:20]:
        assert json.loads(body)["error"]


# -- floods


def test_connections_have_a_bound_and_operators_see_it(server):
    def edit(config):
        monitors = config["overload_manager"]["resource_monitors"]
        settings = by_name(monitors, "envoy.resource_monitors.global_downstream_max_connections")
        assert settings["typed_config"]["max_active_downstream_connections"] == 4096
        settings["typed_config"]["max_active_downstream_connections"] = 2

    with start_envoy(server.port, edit=edit) as envoy, ExitStack() as kept:
        for _ in range(2):
            connection = kept.enter_context(closing(envoy.connect()))
            connection.request("GET", "/ping")
            assert read(connection).status == 200
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            envoy.get("/ping")
        text = envoy.get("/stats/prometheus", listener="metrics").body.decode()
        (refused,) = re.findall(
            r"^envoy_listener_downstream_global_cx_overflow.* ([0-9]+)$", text, re.M
        )
        assert int(refused) == 1


def test_without_memory_requests_are_refused_and_operators_see_it(server):
    def edit(config):
        monitors = config["overload_manager"]["resource_monitors"]
        heap = by_name(monitors, "envoy.resource_monitors.fixed_heap")
        heap["typed_config"]["max_heap_size_bytes"] = 1
        actions = config["overload_manager"]["actions"]
        # The connection itself would be refused: this is about the step before.
        actions.remove(by_name(actions, "envoy.overload_actions.stop_accepting_connections"))

    with start_envoy(server.port, edit=edit) as envoy:
        name = "overload.envoy.overload_actions.stop_accepting_requests.active"
        wait_until(lambda: envoy.stats().get(name) == 1, "the overload manager to act")
        refused = envoy.post(core.API, ASK, JSON)
        assert (refused.status, refused.headers["connection"]) == (503, "close")
        assert envoy.get("/ping").status == 503
        assert envoy.get("/ready", listener="metrics").status == 200
        assert name.encode().replace(b".", b"_") in envoy.get(
            "/stats/prometheus", listener="metrics"
        ).body.replace(b".", b"_")


# -- doors for operators


def test_metrics_are_all_that_the_metrics_port_gives(envoy):
    def exposes(pattern):
        text = envoy.get("/stats/prometheus?usedonly", listener="metrics").body.decode()
        return re.search(pattern, text)

    assert envoy.get("/ping").status == 200
    assert exposes(r'downstream_rq_total\{.*prefix="front"\}')
    # The promise of 50 ms is an edge of the buckets, which Envoy fills every five seconds.
    edge = r'downstream_rq_time_bucket\{.*prefix="front".*le="50"\}'
    wait_until(lambda: exposes(edge), "the histograms to be merged")
    assert envoy.get("/ready", listener="metrics").body == b"LIVE\n"
    for method, path in (
        ("POST", "/quitquitquit"),
        ("POST", "/healthcheck/fail"),
        ("POST", "/stats/prometheus"),
        ("POST", "/ready"),
        ("GET", "/config_dump"),
        ("GET", "/stats"),
        ("GET", "/"),
        ("POST", "/stats/prometheus/../../quitquitquit"),
        ("GET", "/stats/prometheus/../../config_dump"),
        ("POST", "//quitquitquit"),
        ("POST", "/ready%2F..%2Fquitquitquit"),
    ):
        assert envoy.request(method, path, listener="metrics").status in (400, 404), path
    assert envoy.process.poll() is None
    assert envoy.get("/ping").status == 200


def test_every_metric_that_the_page_names_is_there(envoy):
    envoy.get("/ping")
    text = envoy.get("/stats/prometheus", listener="metrics").body.decode()
    named = re.findall(r"`(envoy_[a-z_]+)`", (ROOT / "docs" / "proxy.md").read_text())
    found = set(re.findall(r"^(envoy_\w+)", text, re.M)) | {"envoy_local_http_ratelimit_prefix"}
    assert len(named) > 5
    assert set(named) <= found


def test_the_administration_does_not_end_it_nor_tell_its_configuration(envoy):
    for method, path in (
        ("POST", "/quitquitquit"),
        ("GET", "/config_dump"),
        ("POST", "/cpuprofiler?enable=y"),
        ("GET", "/certs"),
        ("POST", "/reset_counters"),
    ):
        assert envoy.ask_admin(path, method).status == 403, path
    assert envoy.get("/ping").status == 200
