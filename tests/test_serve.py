"""The server's processes: they drain, stop, respawn and die together, and refuse to start badly."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from server import families as table
from server.serve import MAIN
from tests.serving import (
    DEADLINE_S,
    ROOT,
    ServerProcess,
    environ_of,
    free_ports,
    publish,
    read,
    start_server,
    wait_until,
)

pytestmark = pytest.mark.process

BODY = b'{"placements":[{"divName":"top","siteId":10,"adTypes":[1]}]}'
KEY = "0123456789abcdef" * 4
NEVER_S = 300  # a drain that only a second signal ends


def half_sent(server: ServerProcess) -> socket.socket:
    """A request that a worker has begun to read, and whose last byte is still missing."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S)
    head = b"POST /api/v2 HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    connection.sendall(head + BODY[:-1])
    return connection


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S).close()
    except ConnectionRefusedError:
        return True
    return False


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("door", ["direct", "rsgi", "asgi"])
def test_a_signal_drains_and_what_is_in_flight_is_answered(redis_url, door):
    publish(redis_url)
    settings = {"door": door, "drain_s": NEVER_S, "body_timeout_s": 60}
    with start_server(redis_url, **settings) as server:
        with closing(server.connect()) as kept, half_sent(server) as late:
            kept.request("GET", "/ping")
            assert read(kept).status == 200
            server.signal()
            # On the same connection, which goes on for as long as answers are 200.
            answers = []

            def ping_turns() -> bool:
                kept.request("GET", "/ping")
                answers.append(read(kept))
                return answers[-1].status != 200

            server.wait(ping_turns, "another answer to /ping")
            assert answers[-1].status == 503
            assert answers[-1].headers["connection"] == "close"

            # Draining is not stopping: who has not heard of it yet is served, and told.
            answer = server.post("/api/v2", BODY)
            assert answer.status == 200
            assert answer.headers["connection"] == "close"
            assert server.status("/ping", server.ops_port) == 503
            assert server.status("/livez", server.ops_port) == 200

            server.signal()  # in a hurry: no more waiting for load balancers
            server.wait(lambda: refuses(server.port), "the worker to stop listening")
            late.sendall(BODY[-1:])
            answer = late.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer.lower()
            assert b'"decisions"' in answer
        assert server.process.wait(DEADLINE_S) == 0, server.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_drain_takes_its_time_and_no_more(redis_url, number):
    publish(redis_url)
    with start_server(redis_url, drain_s=0.5) as server:
        begun_s = time.monotonic()
        server.signal(number)
        assert server.process.wait(DEADLINE_S) == 0
        assert time.monotonic() - begun_s >= 0.5


def test_a_signal_while_it_starts_is_a_clean_end_too(redis_url):
    with start_server(redis_url, ready=False) as server:
        server.wait((server.run_dir / "metrics-main.bin").exists, "the first sign of life")
        children = server.workers() | server.loaders() | server.agents()
        assert server.stop() == 0, server.log
        wait_until(lambda: not any(map(is_alive, children)), "the children's end")


def test_ctrl_c_reaches_the_parent_alone(redis_url):
    publish(redis_url)
    with start_server(redis_url, drain_s=NEVER_S, workers=2) as server:
        workers = server.workers()
        # What a terminal does: the signal goes to the whole process group.
        os.killpg(server.process.pid, signal.SIGINT)
        server.wait(lambda: server.status("/ping", server.ops_port) == 503, "the drain")
        assert server.post("/api/v2", BODY).status == 200
        assert server.workers() == workers
        server.signal(signal.SIGINT)
        assert server.process.wait(DEADLINE_S) == 0, server.log
        assert server.totals().value(table.RESTARTS, "worker") == 0


def test_a_killed_worker_is_replaced_and_nothing_is_counted_twice_or_lost(redis_url):
    publish(redis_url)
    with start_server(redis_url, workers=2) as server:
        for _ in range(20):
            assert server.post("/api/v2", BODY).status == 200
        before = server.workers()
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        server.wait(lambda: len(server.workers() - {victim}) == 2, "another worker")
        server.wait(lambda: server.totals().value(table.RESTARTS, "worker") == 1, "the count")
        server.wait_ready()
        names = {"main", "loader", "agent", "worker-1", "worker-2"}
        assert server.totals().slots_of.keys() == names  # the new one has the dead one's name
        for _ in range(20):
            assert server.post("/api/v2", BODY).status == 200
        assert server.totals().value(table.REQUESTS, "api", "200") == 40
        assert server.stop() == 0


def test_a_killed_loader_is_replaced_while_workers_serve(redis_url):
    publish(redis_url)
    with start_server(redis_url) as server:
        (victim,) = server.loaders()
        os.kill(victim, signal.SIGKILL)
        server.wait(lambda: server.totals().value(table.RESTARTS, "loader") == 1, "the count")
        assert server.post("/api/v2", BODY).status == 200
        server.wait(lambda: server.loaders() - {victim}, "another loader")
        generation = publish(redis_url)
        serving = table.SERVING_GENERATION
        server.wait(lambda: server.totals().value(serving) == generation, "the new generation")
        assert server.stop() == 0


def test_a_worker_hears_a_signal_that_comes_before_its_loop_runs(redis_url):
    publish(redis_url)
    # Ready is said just before; with three workers one of them is nearly always in between.
    with start_server(redis_url, workers=3, kill_timeout_s=NEVER_S) as server:
        # A worker that did not hear it would be waited for until long after the test's deadline.
        # Granian's own word for that is no evidence: it also says so of one whose exit takes 1 ms.
        assert server.stop() == 0, server.log


def test_workers_that_can_not_start_end_the_server(redis_url, tmp_path):
    (tmp_path / "file").touch()
    with start_server(redis_url, ready=False, spool_dir=tmp_path / "file") as server:
        assert server.process.wait(DEADLINE_S) == 1
        assert "worker can't start" in server.log


def test_nobody_survives_a_killed_parent(redis_url):
    publish(redis_url)
    with start_server(redis_url, workers=2) as server:
        children = server.workers() | server.loaders() | server.agents()
        assert len(children) == 4
        server.signal(signal.SIGKILL)
        server.process.wait()
        wait_until(lambda: not any(map(is_alive, children)), "the children's end")
        # A process is dead before its last thread is, and that one still holds the socket.
        wait_until(lambda: refuses(server.port), "the port's end")


def test_without_redis_it_waits_and_says_so():
    nowhere = "unix:///nowhere/redis.sock"
    with start_server(nowhere, ready=False) as server:
        server.wait(lambda: server.status("/ping") == 503, "an answer")
        server.wait(lambda: "redis is away" in server.log, "the log line")
        assert server.status("/ping", server.ops_port) == 503
        answer = server.post("/api/v2", BODY)
        assert answer.status == 200
        assert json.loads(answer.body)["decisions"] == {"top": None}
        server.wait(lambda: server.totals().value(table.REDIS_FAILURES), "the count")
        assert server.stop() == 0


def test_every_log_line_is_an_object_and_none_has_a_secret(redis_url):
    publish(redis_url)
    with start_server(redis_url, log_level="debug", ops_key=KEY) as server:
        server.get("/%0a%1b[31m")
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.log.splitlines()]
        assert {"time", "level", "process", "logger", "message"} <= set.intersection(
            *(set(line) for line in lines)
        )
        assert {line["process"] for line in lines} - {"agent"} == {MAIN, "loader", "worker-1"}
        assert all(line["time"].endswith("+00:00") for line in lines)
        for secret in (KEY, server.settings["token_key"]):
            assert str(secret) not in server.log


# -- where it lives


def run_dir_of(server: ServerProcess) -> Path:
    (loader,) = server.loaders()
    command = Path(f"/proc/{loader}/cmdline").read_bytes().split(b"\0")
    return Path(os.fsdecode(command[command.index(b"--run-dir") + 1]))


def test_a_folder_of_our_own_is_private_and_goes_with_us(redis_url):
    publish(redis_url)
    with start_server(redis_url, run_dir="", ready=False) as killed:
        killed.wait_ready()
        left_behind = run_dir_of(killed)
        assert left_behind.stat().st_mode & 0o777 == 0o700
        killed.signal(signal.SIGKILL)
        killed.process.wait()
        assert left_behind.exists()
        with start_server(redis_url, run_dir="") as server:
            run_dir = run_dir_of(server)
            assert not left_behind.exists()
            with start_server(redis_url, run_dir="") as neighbour:
                assert run_dir_of(neighbour) != run_dir
                assert run_dir.exists()  # only what nobody uses is swept away
            assert server.stop() == 0
            assert not run_dir.exists()


def start_and_fail(**settings: object) -> subprocess.CompletedProcess[str]:
    inherited = {name: text for name, text in os.environ.items() if name[:7] != "ADCORE_"}
    return subprocess.run(
        [sys.executable, "-m", "server", "serve"],
        cwd=ROOT,
        env=inherited | environ_of(settings),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def test_two_servers_do_not_share_a_folder_or_a_port(redis_url):
    publish(redis_url)
    with start_server(redis_url) as server:
        port, ops_port = free_ports()
        refused = start_and_fail(
            token_key=KEY, port=port, ops_port=ops_port, run_dir=server.run_dir
        )
        assert refused.returncode == 2
        assert "in use by another server" in refused.stderr
        refused = start_and_fail(token_key=KEY, port=server.port, ops_port=server.ops_port)
        assert refused.returncode == 2
        assert [line.split(":")[0] for line in refused.stderr.splitlines()] == [
            "ADCORE_PORT",
            "ADCORE_OPS_PORT",
        ]
        assert server.post("/api/v2", BODY).status == 200


def test_a_folder_open_to_others_is_refused(tmp_path):
    tmp_path.chmod(0o755)
    port, ops_port = free_ports()
    refused = start_and_fail(token_key=KEY, port=port, ops_port=ops_port, run_dir=tmp_path)
    assert refused.returncode == 2
    assert "ADCORE_RUN_DIR" in refused.stderr


def test_a_bad_line_of_the_data_centres_is_named_and_nothing_is_begun(tmp_path):
    path = tmp_path / "ranges"
    path.write_text("192.0.2.0/24\n192.0.2.1/24\n")
    port, ops_port = free_ports()
    refused = start_and_fail(
        token_key=KEY, port=port, ops_port=ops_port, datacentre_ranges=path, run_dir=tmp_path
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("ADCORE_DATACENTRE_RANGES: line 2: ")


@pytest.mark.parametrize("token_key", [None, KEY[:31], "changeme" * 8])
def test_bad_settings_are_all_named_and_nothing_is_begun(tmp_path, token_key):
    # Taken, and no fault of the settings': had we got as far as binding, it would be named.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {
            "port": taken.getsockname()[1],
            "ops_port": 0,
            "workers": "two",
            "run_dir": tmp_path / "run",
        } | ({} if token_key is None else {"token_key": token_key})
        refused = start_and_fail(**settings)
    assert refused.returncode == 2
    assert {line.split(":")[0] for line in refused.stderr.splitlines()} == {
        "ADCORE_OPS_PORT",
        "ADCORE_WORKERS",
        "ADCORE_TOKEN_KEY",
    }
    assert refused.stdout == ""
    assert not (tmp_path / "run").exists()
    assert token_key is None or token_key not in refused.stderr
