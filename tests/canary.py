"""A roll-out as Argo runs it, over our own Rollout and AnalysisTemplates and a real Prometheus.

Looks are taken by requests, not by the clock: the next one is due when the new pods have answered
so many more. So a slow machine takes longer, and decides the same.
"""

import json
import math
import re
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.kube import Document
from tests.serving import free_ports, wait_until

PROMETHEUS = shutil.which("prometheus")
NAMESPACE, STABLE, CANARY = "adcore", "5d4c9fb7d", "6b8f7c6d5"
ARGUMENT = re.compile(r"\{\{args\.([\w-]+)\}\}")
SUCCESSFUL, FAILED, INCONCLUSIVE = "Successful", "Failed", "Inconclusive"


class Metric(NamedTuple):
    name: str
    query: str
    spec: Document

    def judge(self, result: list[float]) -> str:
        """What Argo makes of a result, by the two conditions."""
        if condition(self.spec["successCondition"], result):
            return SUCCESSFUL
        return FAILED if condition(self.spec["failureCondition"], result) else INCONCLUSIVE


def metrics_of(templates: list[Document], **args: str) -> Iterator[Metric]:
    """Each metric with its query as it is asked: arguments put in."""
    for template in templates:
        known = {each["name"]: each.get("value") for each in template["spec"]["args"]}
        known |= {"namespace": NAMESPACE, "stable": STABLE, "canary": CANARY}
        known |= {name.replace("_", "-"): text for name, text in args.items()}
        for spec in template["spec"]["metrics"]:
            query = spec["provider"]["prometheus"]["query"]
            yield Metric(
                spec["name"],
                re.sub(ARGUMENT, lambda match, known=known: known[match[1]], query),
                spec,
            )


def condition(text: str, result: list[float]) -> bool:
    """Ours are words of Go's expr that Python has too, but for two."""
    names = {"result": result, "len": len, "isNaN": math.isnan}
    return bool(eval(text.replace("&&", "and").replace("||", "or"), {"__builtins__": {}}, names))


def roll_out(
    rollout: Document,
    metrics: list[Metric],
    set_weight: Callable[[int], None],
    await_look: Callable[[], None],
    ask: Callable[[str], list[float]],
) -> tuple[str, Counter[str]]:
    """Give the weight at which it ended, "promoted" or "aborted by ...", and what failed."""
    failed: Counter[str] = Counter()
    for step in rollout["spec"]["strategy"]["canary"]["steps"]:
        if "setWeight" in step:
            set_weight(step["setWeight"])
            continue
        for _ in range(LOOKS_A_PAUSE):
            await_look()
            for metric in metrics:
                verdict = metric.judge(ask(metric.query))
                assert verdict != INCONCLUSIVE, f"{metric.name}: {ask(metric.query)}"
                failed[metric.name] += verdict == FAILED
                if failed[metric.name] > metric.spec["failureLimit"]:
                    set_weight(0)
                    return f"aborted by {metric.name}", failed
    return "promoted", failed


LOOKS_A_PAUSE = 2  # as many as it takes to abort: within the first pause


# -- a real Prometheus


def require_prometheus() -> None:
    if not PROMETHEUS:
        pytest.skip("NOT INSTALLED: prometheus")


class Prometheus:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, query: str) -> list[float]:
        url = f"{self._url}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: Any = json.load(answer)
        return [float(each["value"][1]) for each in found["data"]["result"]]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def start_prometheus(pods: dict[str, list[tuple[int, str]]]) -> Iterator[Prometheus]:
    """One that scrapes ports and paths by hash, with the labels that the PodMonitor gives them."""
    require_prometheus()
    folder = Path(tempfile.mkdtemp(prefix="adcore-prometheus-"))
    port, _ = free_ports()
    jobs = [
        {
            "job_name": f"{name}-{place}",
            "metrics_path": path,
            "static_configs": [
                {
                    "targets": [f"127.0.0.1:{of}"],
                    "labels": {"namespace": NAMESPACE, "rollouts_pod_template_hash": name},
                }
            ],
        }
        for name, ports in pods.items()
        for place, (of, path) in enumerate(ports)
    ]
    config = {"global": {"scrape_interval": "500ms"}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    process = subprocess.Popen(
        [
            PROMETHEUS,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = Prometheus(port)
        wait_until(found.ready, "prometheus to be ready")
        yield found
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
