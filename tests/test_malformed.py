"""A hundred and more bad requests get the 4xx they deserve, through each door; none is billed."""

import json
import socket
from contextlib import suppress

import pytest
import redis

from server.clock import now_s
from server.delivery.spool import read_frames
from server.events.records import RECORD_BEACON
from server.families import BAD_REQUESTS
from server.store import connect
from server.store.catalogs import CatalogStore
from server.store.keyspace import Keyspace
from tests import catalogs
from tests.malformed import ALL, GOOD_BODY, HUNG_UP, Bad
from tests.redis_server import RedisServer
from tests.serving import DEADLINE_S, ServerProcess, start_server

pytestmark = pytest.mark.process
# A connection closed with bytes unread is reset, and the reset may overtake the answer.
RESETS_MAX = 5
BODY_TIMEOUT_S = 1.0  # the default is for slow phones; here it only costs time


@pytest.fixture(scope="module", params=["direct", "rsgi", "asgi"])
def server(request, redis_server: RedisServer):
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    store = CatalogStore(connect(redis_server.url), Keyspace())
    store.publish(catalogs.minimal(), source="test", now_s=now_s())
    with start_server(
        redis_server.url, door=request.param, body_timeout_s=BODY_TIMEOUT_S
    ) as running:
        yield running


def exchange(server: ServerProcess, bad: Bad) -> tuple[int, bytes, bool]:
    """Status and body of the answer, and whether the server closed the connection after it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as client:
        with suppress(OSError):  # refused before all of it was sent
            client.sendall(bad.raw)
        answer, closed = b"", False
        while not closed and (bad.closes or not is_whole(answer)):
            try:
                received = client.recv(65_536)
            except ConnectionError:
                received = b""
            closed = not received
            answer += received
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head[9:12] or HUNG_UP), body, closed


def is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return bool(end) and (len(body) >= int(line.split(b":")[1]) or b" 405 " in head[:20])
    return bool(end)


@pytest.mark.parametrize("bad", ALL, ids=[bad.name for bad in ALL])
def test_a_bad_request_gets_its_4xx(server, bad):
    for _ in range(RESETS_MAX):
        status, body, closed = exchange(server, bad)
        if status != HUNG_UP:
            break
    assert status == bad.status
    assert closed or not bad.closes
    if body and body.startswith(b"{"):
        assert json.loads(body)["error"]


def test_none_was_billed_and_the_server_is_well(server):
    """Runs last: all of the requests above have been answered."""
    for path in server.spool_dir.glob("*.spool"):
        assert [frame for frame in read_frames(path) if frame.kind == RECORD_BEACON] == []
    answer = server.post("/api/v2", GOOD_BODY, {"Content-Type": "application/json"})
    assert answer.status == 200
    metrics = server.get("/metrics", port=server.ops_port).body.decode()
    counted = [line for line in metrics.splitlines() if line.startswith("adcore_requests_total{")]
    assert not [line for line in counted if 'status="5' in line and not line.endswith(" 0.0")]
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("25 empty", "json"),
        ("count 0", "shape"),
        ("16 10 MB declared", "size"),
        ("26 content-type text/html", "media_type"),
        ("16 content-encoding gzip", "encoding"),
        ("14 GET /api/v2", "method"),
        ("8 two Hosts", "headers"),
        ("11 body never sent", "timeout"),
    ],
)
def test_what_was_wrong_is_counted(server, name, reason):
    before = server.totals().value(BAD_REQUESTS, reason)
    exchange(server, next(bad for bad in ALL if bad.name == name))
    assert server.totals().value(BAD_REQUESTS, reason) == before + 1


def test_a_hundred_at_least():
    assert len(ALL) >= 100
    assert len({bad.name for bad in ALL}) == len(ALL)
