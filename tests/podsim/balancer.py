"""A load balancer with the manners of an ALB whose targets are pods.

Requests go through a real Envoy with kept connections, that retries nothing and takes no target out
by itself: it gets its targets by a file. What is modelled here is who stands in that file:

    in    `join_lag_s` after the pod is ready
    out   `leave_lag_s` after it is not, or is ending: until then it gets requests like any other
    out   after two health checks in a row that nobody answered; in again after one answered

A 503 on /ping takes nobody out: a balancer that did would be kinder to us than the lag says. When
no target is healthy all get requests, as ALB does.
"""

import asyncio
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.podsim.controller import Deployment
from tests.podsim.kubelet import Pod
from tests.podsim.manifest import PROGRAMS
from tests.podsim.probing import status_of
from tests.podsim.processes import kill_all, start
from tests.podsim.scaling import Scale

LOOK_S = 0.05
UNHEALTHY = 2  # the fewest that an ALB lets one ask for
HEALTH_S_MAX = 5.0  # for an answer; what is gone refuses at once
PORT = 8000

_PROXY: dict[str, Any] = {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    ".HttpConnectionManager",
    "stat_prefix": "balancer",
    "use_remote_address": True,
    "skip_xff_append": True,
    "http_filters": [
        {
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
            },
        }
    ],
    "route_config": {
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                "routes": [
                    {"match": {"prefix": "/"}, "route": {"cluster": "pods", "timeout": "60s"}}
                ],
            }
        ]
    },
}
_LOG = {
    "name": "envoy.access_loggers.stdout",
    "filter": {
        "status_code_filter": {
            "comparison": {"op": "GE", "value": {"default_value": 500, "runtime_key": "x"}}
        }
    },
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        "log_format": {
            "text_format_source": {
                "inline_string": "%START_TIME% %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_HOST%"
                " %RESPONSE_CODE_DETAILS% %DURATION% %REQ(:PATH)%\n"
            }
        },
    },
}


class Balancer:
    def __init__(self, address: str, folder: Path, scale: Scale, deployment: Deployment) -> None:
        self.address = address
        self.log_path = folder / "balancer.log"
        self._folder = folder / "balancer"
        self._folder.mkdir()
        self._scale = scale
        self._deployment = deployment
        self.taken_out_s = 0.0  # when health checks last did that
        self._registered: set[str] = set()
        self._since_s: dict[str, float] = {}  # when a target began to be what it isn't yet here
        self._failed: dict[str, int] = {}
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._written: list[str] | None = None
        self._version = 0
        self._session = 0

    async def run(self) -> None:
        self._write([])
        config = self._folder / "envoy.json"
        config.write_text(json.dumps(self._config()))
        flags = ("--concurrency", "1", "--disable-hot-restart", "-l", "warning")
        process = await start((*PROGRAMS["envoy"], "-c", str(config), *flags), {}, self.log_path)
        self._session = process.pid
        try:
            while process.returncode is None:
                self._look(time.monotonic())
                await asyncio.sleep(LOOK_S)
            raise AssertionError(f"the balancer ended: {self.log_path.read_text()}")
        finally:
            for check in self._checks.values():
                check.cancel()
            self.kill()

    def kill(self) -> None:
        if self._session:
            kill_all(self._session)

    def sends_to(self, pod: Pod) -> bool:
        return pod.spec.address in (self._written or ())

    def errors(self) -> list[str]:
        """What failed, as far as Envoy has written it yet."""
        lines = self.log_path.read_text().splitlines()
        return [line[:300] for line in lines if line[4:5] == "-"]

    def _look(self, now_s: float) -> None:
        pods = {pod.spec.address: pod for pod in self._deployment.pods}
        for address in {*pods, *self._registered}:
            pod = pods.get(address)
            # What is gone without notice stays registered: nobody has said anything.
            wanted = pod is not None and (
                pod.is_ready or (pod.was_killed and address in self._registered)
            )
            if wanted == (address in self._registered):
                self._since_s.pop(address, None)
                continue
            lag_s = self._scale.join_lag_s if wanted else self._scale.leave_lag_s
            if now_s - self._since_s.setdefault(address, now_s) >= lag_s:
                del self._since_s[address]
                if wanted and pod is not None:
                    self._register(address, pod.spec.port)
                else:
                    self._forget(address)
        healthy = [one for one in self._registered if self._failed[one] < UNHEALTHY]
        self._write(sorted(healthy or self._registered))

    def _register(self, address: str, port: int) -> None:
        self._registered.add(address)
        self._failed[address] = 0
        self._checks[address] = asyncio.create_task(self._check(address, port))

    def _forget(self, address: str) -> None:
        self._registered.remove(address)
        self._checks.pop(address).cancel()

    async def _check(self, address: str, port: int) -> None:
        while True:
            await asyncio.sleep(self._scale.health_interval_s)
            try:
                async with asyncio.timeout(HEALTH_S_MAX):
                    await status_of(address, port, "/ping")
            except (OSError, EOFError, ValueError, TimeoutError):
                self._failed[address] += 1
                if self._failed[address] == UNHEALTHY:
                    self.taken_out_s = time.monotonic()
            else:
                self._failed[address] = 0

    # -- Envoy

    def _write(self, addresses: list[str]) -> None:
        if addresses == self._written:
            return
        self._written = addresses
        self._version += 1
        ports = {pod.spec.address: pod.spec.port for pod in self._deployment.pods}
        places = [
            {"endpoint": {"address": _socket(address, ports.get(address, 8080))}}
            for address in addresses
        ]
        resource = {
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": "pods",
            "endpoints": [{"lb_endpoints": places}],
        }
        fresh = self._folder / "fresh.json"
        fresh.write_text(json.dumps({"version_info": str(self._version), "resources": [resource]}))
        os.replace(fresh, self._folder / "pods.json")  # Envoy looks when the name moves

    def _config(self) -> dict[str, Any]:
        proxy = {**_PROXY, "access_log": [_LOG]}
        listener = {
            "name": "balancer",
            "address": _socket(self.address, PORT),
            "filter_chains": [
                {
                    "filters": [
                        {
                            "name": "envoy.filters.network.http_connection_manager",
                            "typed_config": proxy,
                        }
                    ]
                }
            ],
        }
        many = 100_000
        cluster = {
            "name": "pods",
            "type": "EDS",
            "connect_timeout": "10s",
            "lb_policy": "LEAST_REQUEST",
            "circuit_breakers": {
                "thresholds": [{"max_connections": many, "max_pending_requests": many,
                                "max_requests": many}]
            },
            "eds_cluster_config": {
                "eds_config": {
                    "path_config_source": {"path": str(self._folder / "pods.json")},
                    "resource_api_version": "V3",
                }
            },
        }  # fmt: skip
        return {
            "node": {"id": "balancer", "cluster": "balancer"},
            "static_resources": {"listeners": [listener], "clusters": [cluster]},
        }


def _socket(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


async def wait_answering(address: str, seconds: float) -> None:
    """Wait until the balancer passes a request to a pod."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(OSError, EOFError, ValueError):
                if await status_of(address, PORT, "/ping") == 200:
                    return
            await asyncio.sleep(LOOK_S)
