"""What the front pod's Envoy refuses, alone or with the server: sizes, floods, doors for operators."""

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
    EnvoyProxy,
    by_name,
    filter_of,
    read_config,
    require_envoy,
    start_envoy,
)
from tests.redis_server import RedisServer
from tests.serving import DEADLINE_S, publish, read, start_server

pytestmark = pytest.mark.process

JSON = {"content-type": "application/json"}
ASK = b'{"placements":[{"divName":"top","siteId":10,"adTypes":[1]}]}'
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
        while not is_whole(answer):
            with suppress(ConnectionError):
                if received := client.recv(65_536):
                    answer += received
                    continue
            break
    return answer


def is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: ([0-9]+)", head)
    return bool(end) and len(body) >= int(length[1] if length else 0)


# -- sizes


def test_a_body_may_have_what_the_server_takes_and_not_a_byte_more(server, envoy):
    assert filter_named(filter_of(read_config(), "front"), "buffer") == core.BODY_BYTES_MAX
    fits = ASK.ljust(core.BODY_BYTES_MAX)
    for encoded in (False, True):
        assert post(envoy, fits, encoded) == 200
        before = server.totals().value(REQUESTS, "decision", "200")
        assert post(envoy, fits + b" ", encoded) == 413
        assert server.totals().value(REQUESTS, "decision", "200") == before


def filter_named(settings: dict, name: str) -> int:
    found = by_name(settings["http_filters"], f"envoy.filters.http.{name}")
    return found["typed_config"]["max_request_bytes"]


def post(envoy: EnvoyProxy, body: bytes, in_chunks: bool) -> int:
    with closing(envoy.connect()) as connection:
        with suppress(OSError):
            connection.request(
                "POST", core.API, iter([body]) if in_chunks else body, JSON, encode_chunked=in_chunks
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
    print({count: (found.status, found.body) for count, found in statuses.items()})
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
    assert envoy.stats()["cluster.probe.upstream_rq_4xx"] == 0


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


@pytest.mark.parametrize("bad", malformed.ALL, ids=[bad.name for bad in malformed.ALL])
def test_no_bad_request_is_a_fault_of_ours(envoy, bad):
    answer = exchange(envoy, bad.raw)
    status = int(answer[9:12] or 0)
    assert status == bad.status or 400 <= status < 500 or status == 0, answer[:200]
