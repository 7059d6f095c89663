"""`adcore demo` comes up from nothing, serves real ads, and leaves nothing running at its end."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent
READY_S_MAX = 60.0  # two shared cores, several test runs
GONE_S_MAX = 20.0


def free_port():
    # The operations port is 1010 further on, so this one stays below 60000.
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port < 60000:
            return port


class Demo:
    def __init__(self, folder, port):
        self.folder = folder
        self.origin = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server", "demo", "--port", str(port), "--folder", str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self):
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                return "".join(lines)
        raise AssertionError("".join(lines))

    def get(self, path):
        with urllib.request.urlopen(self.origin + path, timeout=10) as answer:
            return answer.headers, answer.read()

    def post(self, body, **headers):
        request = urllib.request.Request(self.origin + "/api/v2", body, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def children(self):
        """The processes below this one, at any depth."""
        parents = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended while we were looking
            parents[int(status.parent.name)] = int(fields[1])
        found, fresh = set(), {self.process.pid}
        while fresh:
            fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
            found |= fresh
        return found


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_gone(pids):
    deadline_s = time.monotonic() + GONE_S_MAX
    while left := {pid for pid in pids if alive(pid)}:
        assert time.monotonic() < deadline_s, f"still running: {left}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    demo = Demo(tmp_path_factory.mktemp("demo") / ".demo", free_port())
    try:
        demo.welcome = demo.wait()
        yield demo
    finally:
        demo.process.kill()
        demo.process.wait()
        demo.process.stdout.close()


def test_it_says_where_the_page_is_and_how_to_ask(running):
    assert f"{running.origin}/\n" in running.welcome
    assert f"curl -s {running.origin}/api/v2" in running.welcome
    assert "47 line items" in running.welcome


def test_the_page_and_everything_it_names_is_served(running):
    headers, page = running.get("/")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in headers["content-security-policy"]
    for address in re.findall(rb'(?:src|href)="(/assets[^"]+)"', page):
        assert running.get(address.decode())[1]


def test_the_example_request_gets_ads_whose_pictures_and_links_work(running):
    body = (ROOT / "examples" / "request.json").read_bytes()
    decisions = running.post(body, **{"X-Country": "DE"})["decisions"]
    header = decisions["header"]
    assert header["flightId"] == 4001
    picture = header["contents"][0]["data"]["imageUrl"]
    assert picture.startswith(running.origin + "/assets/creatives/")
    headers, _ = running.get(picture.removeprefix(running.origin))
    assert headers["content-type"] == "image/svg+xml"
    assert running.get(header["impressionUrl"].removeprefix(running.origin))[1][:3] == b"GIF"

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    opener = urllib.request.build_opener(Stay)
    with pytest.raises(urllib.error.HTTPError) as redirect:
        opener.open(header["clickUrl"], timeout=10)
    with redirect.value as answer:
        assert answer.code == 302
        assert answer.headers["location"] == "https://skerry-air.example/fly/islands"


def test_what_a_browser_saw_is_in_the_report(running):
    body = (ROOT / "examples" / "request.json").read_bytes()
    shown = running.post(body, **{"X-Country": "DE"})["decisions"]["header"]
    browser = {
        "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"
    }
    for _ in range(2):  # the second time, the browser repeats itself
        with urllib.request.urlopen(
            urllib.request.Request(shown["impressionUrl"], headers=browser), timeout=10
        ):
            pass
    redis_url = re.search(r"ADCORE_REDIS_URL=(\S+)", running.welcome)[1]
    command = [sys.executable, "-m", "server", "report", "--invalid", "--format", "json"]
    deadline_s = time.monotonic() + READY_S_MAX
    found = {}
    while not (found.get("impressions") == found.get("invalid.impression.duplicate") == 1):
        assert time.monotonic() < deadline_s, found
        done = subprocess.run(
            [*command, "--creative", str(shown["creativeId"])],
            env=os.environ | {"ADCORE_REDIS_URL": redis_url},
            capture_output=True,
            check=True,
        )
        found = (json.loads(done.stdout)["rows"] or [{}])[0] if done.stdout else {}


def test_the_strip_and_the_chips_get_what_they_show(running):
    counters = json.loads(running.get("/demo/counters")[1])
    assert set(counters) >= {
        "generation", "decisions", "filled", "no_fill", "impressions", "clicks", "requests",
        "decision_us_p50", "decision_us_p99",
    }  # fmt: skip
    names = json.loads(running.get("/demo/catalog.json")[1])
    assert names["line_items"]["4001"]["advertiser"] == "Skerry Air"
    assert names["priorities"]["16"] == "House"
    assert names["currency"] == "EUR"


def test_what_has_a_budget_serves_and_is_paced(running):
    """Control opens the accounts, servers get leases, and what is billed shows in the table."""
    body = (ROOT / "examples" / "request.json").read_bytes()
    redis_url = re.search(r"ADCORE_REDIS_URL=(\S+)", running.welcome)[1]
    limited = {each["id"] for each in pace(redis_url)["line_items"]}
    deadline_s = time.monotonic() + READY_S_MAX
    won = set()
    while not won & limited:
        assert time.monotonic() < deadline_s, won
        decisions = running.post(body, **{"X-Country": "DE"})["decisions"].values()
        won |= {each["flightId"] for each in decisions if isinstance(each, dict)}
        time.sleep(0.05)
    while not (document := pace(redis_url))["plan"]:  # leases may be there before it
        assert time.monotonic() < deadline_s
    assert document["leader"]
    assert document["plan"]["used"]
    assert "not_opened" not in {each["reason"] for each in document["line_items"]}
    assert any(limit["leased"] for each in document["line_items"] for limit in each["limits"])


def pace(redis_url):
    done = subprocess.run(
        [sys.executable, "-m", "server", "pace", "--json"],
        env=os.environ | {"ADCORE_REDIS_URL": redis_url},
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_its_secret_is_its_own(running):
    mode = (running.folder / "token_key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(running.folder.stat().st_mode) == 0o700


def test_a_taken_port_is_told(running, tmp_path):
    second = Demo(tmp_path / ".demo", int(running.origin.rpartition(":")[2]))
    output, _ = second.process.communicate(timeout=READY_S_MAX)
    assert second.process.returncode == 1
    assert "--port" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_leaves_nothing_running(tmp_path, number):
    demo = Demo(tmp_path / ".demo", free_port())
    try:
        demo.wait()
        children = demo.children()
        assert len(children) >= 3  # Redis, the server, a worker
        os.kill(demo.process.pid, number)
        code = demo.process.wait(GONE_S_MAX)
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        wait_gone(children)
    finally:
        demo.process.kill()
        demo.process.wait()
        demo.process.stdout.close()
