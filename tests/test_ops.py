"""The ops port: ready when every worker is, and not to be held up by whoever connects."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from server.delivery.tally import Tally
from server.families import DRAINS
from server.metrics import Metrics
from server.ops import CONNECTIONS_MAX, Ops
from tests.serving import DEADLINE_S, wait_until

WORKERS = 2


@pytest.fixture
def ops(tmp_path: Path) -> Iterator[Ops]:
    with Ops("127.0.0.1", 0, tmp_path, WORKERS) as server:
        yield server


def ask(ops: Ops, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", ops.server_port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_it_is_ready_when_the_last_worker_is_and_until_it_drains(ops, tmp_path):
    main = Metrics(tmp_path, "main")
    assert ask(ops, "/ping")[0].status == 503
    Metrics(tmp_path, "worker-1").serving(7)
    assert ask(ops, "/ping")[0].status == 503
    second = Metrics(tmp_path, "worker-2")
    assert ask(ops, "/ping")[0].status == 503
    second.serving(7)
    assert ask(ops, "/ping")[0].status == 200
    Metrics(tmp_path, "worker-2")  # it died; the one in its place has no catalog yet
    assert ask(ops, "/ping")[0].status == 503
    second.serving(8)
    main.stopping(DRAINS)
    assert ask(ops, "/ping")[0].status == 503
    assert ask(ops, "/livez")[0].status == 200


def test_metrics_are_sums_over_processes_in_openmetrics(ops, tmp_path):
    for number in (1, 2):
        Tally(Metrics(tmp_path, f"worker-{number}")).request("/r", 302)
    response, body = ask(ops, "/metrics?name[]=all", accept="*/*")
    assert response.status == 200
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    values = {
        tuple(sample.labels.values()): sample.value
        for sample in families["adcore_requests"].samples
    }
    assert values["click", "302"] == 2
    response, _ = ask(ops, "/metrics", accept="text/plain")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_head_is_get_without_the_body(ops):
    response, body = ask(ops, "/livez", "HEAD")
    assert (response.status, response.headers["content-length"], body) == (200, "3", b"")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("POST", "/livez", 405),
        ("DELETE", "/metrics", 405),
        ("OPTIONS", "/nowhere", 405),
    ],
)
def test_anything_else_is_refused(ops, method, path, status):
    assert ask(ops, path, method)[0].status == status


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /livez FTP/1.0\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"\xff\xfe\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_a_short_refusal_and_the_next_one_is_served(ops, sent):
    with socket.create_connection(("127.0.0.1", ops.server_port), timeout=DEADLINE_S) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(65536):
            answer += part
    assert b" 4" in answer[:13] or b" 505 " in answer[:13], answer
    assert answer.endswith(b"\r\n\r\nrefused\n")
    assert ask(ops, "/livez")[0].status == 200


def test_idle_connections_are_bounded_and_give_way_when_they_go(ops):
    with ExitStack() as stack:
        address = ("127.0.0.1", ops.server_port)
        for _ in range(CONNECTIONS_MAX):
            stack.enter_context(socket.create_connection(address, timeout=DEADLINE_S))
        with socket.create_connection(address, timeout=DEADLINE_S) as one_more:
            assert one_more.recv(1) == b""  # closed at once: it got no thread

    def is_served() -> bool:
        try:
            return ask(ops, "/livez")[0].status == 200
        except OSError:
            return False

    wait_until(is_served, "room for another connection")
