"""`adcore drain`: a real Envoy leaves service when told, and the pod waits until it is at rest."""

import socket
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager

import pytest

from server.cli import main
from server.drain import MAX_S, MIN_S, EnvoyAdmin, drain
from tests import malformed
from tests.envoy_proxy import API, ASK, JSON, EnvoyProxy, filter_of, require_envoy, start_envoy
from tests.redis_server import RedisServer
from tests.serving import (
    DEADLINE_S,
    ROOT,
    ServerProcess,
    free_ports,
    publish,
    read,
    start_server,
    wait_until,
)

pytestmark = pytest.mark.process

NEVER_S = 300


@pytest.fixture(scope="module")
def server():
    require_envoy()
    with RedisServer() as running:
        publish(running.url)
        with start_server(running.url, body_timeout_s=60) as serving:
            yield serving


@pytest.fixture
def envoy(server: ServerProcess):
    with start_envoy(server.port, edit=patient) as running:
        yield running


def patient(config):
    """Edit: a body may take as long as the test."""
    filter_of(config, "front")["request_timeout"] = f"{NEVER_S}s"
    filter_of(config, "front")["stream_idle_timeout"] = f"{NEVER_S}s"


class Time:
    """A clock that only waiting moves. Between two looks at Envoy, `meanwhile` happens."""

    def __init__(self, meanwhile=lambda turn: None):
        self.now_s = 1000.0
        self.waits: list[float] = []
        self._meanwhile = meanwhile

    def clock(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.waits.append(seconds)
        self._meanwhile(len(self.waits))

    def drain(self, envoy_url: str, min_s: float = MIN_S, max_s: float = MAX_S) -> bool:
        return drain(EnvoyAdmin(envoy_url), min_s, max_s, self.clock, self.wait)


@contextmanager
def half_sent(envoy: EnvoyProxy):
    """A request whose last byte is still missing."""
    place = ("127.0.0.1", envoy.ports["front"])
    with socket.create_connection(place, timeout=DEADLINE_S) as connection:
        connection.sendall(malformed.http(body=ASK)[:-1])
        wait_until(lambda: envoy.stats()["http.front.downstream_rq_active"] == 1, "a request")
        yield connection


def test_the_command_takes_envoy_out_of_service_and_ends_with_0(envoy):
    options = ["--min-s", "0.2", "--max-s", "60", "--admin", envoy.admin_url]
    done = subprocess.run(
        [sys.executable, "-m", "server", "drain", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert '"drained"' in done.stdout
    assert envoy.get("/ping").status == 503
    assert not envoy.access_log


def test_who_still_comes_is_served_and_told_to_go_elsewhere(server, envoy):
    with closing(envoy.connect()) as kept:
        kept.request("POST", API, ASK, JSON)
        assert read(kept).headers["connection"] is None
        EnvoyAdmin(envoy.admin_url).fail_health_check()
        ping = envoy.get("/ping")
        assert (ping.status, server.status("/ping")) == (503, 200)  # Envoy's own word
        kept.request("POST", API, ASK, JSON)
        answer = read(kept)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    late = envoy.post(API, ASK, JSON)
    assert (late.status, late.headers["connection"]) == (200, "close")


def test_a_pod_at_rest_waits_its_time_and_one_look_more(envoy):
    time = Time()
    assert time.drain(envoy.admin_url)
    assert time.waits == [MIN_S, 0.25]


def test_an_open_request_is_waited_for(envoy):
    with half_sent(envoy) as connection:

        def end_it(turn: int) -> None:
            if turn == 5:
                connection.sendall(ASK[-1:])
                assert b" 200 " in connection.recv(65_536)

        time = Time(end_it)
        assert time.drain(envoy.admin_url)
    # The look after the fifth wait sees it taken, the one after the sixth that none came since.
    assert len(time.waits) == 6


def test_requests_that_still_come_are_waited_for_and_probes_are_not(envoy):
    def keep_on(turn: int) -> None:
        assert envoy.get("/ping").status in (200, 503)
        if turn <= 5:
            assert envoy.post(API, ASK, JSON).status == 200

    time = Time(keep_on)
    assert time.drain(envoy.admin_url)
    assert len(time.waits) == 6


def test_it_is_not_waited_for_longer_than_the_grace_period_leaves(envoy):
    with half_sent(envoy):
        time = Time()
        assert not time.drain(envoy.admin_url)
    assert 1000 + MAX_S <= time.now_s < 1000 + MAX_S + 0.25


def test_a_smaller_maximum_does_not_cut_what_the_balancer_needs(envoy):
    with half_sent(envoy):
        time = Time()
        assert not time.drain(envoy.admin_url, min_s=25, max_s=10)
    assert time.waits == [25]


def test_without_envoy_the_time_is_waited_all_the_same(caplog):
    port, _ = free_ports()
    time = Time()
    assert time.drain(f"http://127.0.0.1:{port}")  # without Envoy no request can come
    assert sum(time.waits) == MIN_S
    assert "envoy is not told to drain" in caplog.text


def test_an_envoy_that_comes_late_is_told(server):
    """A pod may be ended while its Envoy starts."""
    port, _ = free_ports()
    with ExitStack() as stack:
        started = []

        def start(turn: int) -> None:
            if turn == 2:
                started.append(stack.enter_context(start_envoy(server.port, admin_port=port)))

        time = Time(start)
        assert time.drain(f"http://127.0.0.1:{port}")
        assert time.waits == [1.0, 1.0, MIN_S - 2, 0.25]
        assert started[0].get("/ping").status == 503


def test_an_admin_that_says_nothing_of_use_is_waited_for_to_the_end(server, caplog):
    """The server's own port: it speaks HTTP, and knows no statistics."""
    time = Time()
    assert not time.drain(f"http://127.0.0.1:{server.port}", 1, 3)
    assert 1003 <= time.now_s < 1003.25
    assert "envoy does not say what is open" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        ["--min-s", "-1"],
        ["--min-s", "nan"],
        ["--max-s", "inf"],
        ["--max-s", "soon"],
        ["--admin", "https://127.0.0.1:9901"],
        ["--admin", "127.0.0.1:9901"],
        ["--admin", "http://127.0.0.1:99999"],
        ["--admin", "http://127.0.0.1:9901/stats"],
    ],
)
def test_wrong_usage_is_2(options, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["drain", *options])
    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err
