"""Every metric and label that rules and dashboards name is one that our processes really expose.

They are all started: server, forwarder, aggregator, control, and Envoy if it is there.
"""

import json
import re
from collections import defaultdict

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from tests.envoy_proxy import ENVOY, start_envoy
from tests.observed import (
    dashboards,
    expressions,
    names_recorded,
    panels,
    recorded,
    rule_expressions,
    selectors,
)
from tests.serving import free_ports, wait_until
from tests.test_ledger_processes import ledger

__all__ = ["ledger"]  # a fixture

Samples = dict[str, list[dict[str, str]]]
"""The labels of each sample, by its name."""


def scraped(text: str, parse) -> Samples:
    found: Samples = defaultdict(list)
    for family in parse.text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append(sample.labels)
    return found


def choices(matchers: list[tuple[str, str, str]]) -> list[dict[str, str]]:
    """Which labels must exist: "200|503" stands for two, and so do those that are left out."""
    found: list[dict[str, str]] = [{}]
    for label, operator, value in matchers:
        if label in ("namespace", "pod", "container", "job"):  # of the scrape
            continue
        whole = "~" in operator and re.fullmatch(r"[\w|]+", value)
        patterns = value.split("|") if whole else [value if "~" in operator else re.escape(value)]
        found = [{**other, label: pattern} for other in found for pattern in patterns]
    return found


def missing(expression: str, known: Samples) -> list[str]:
    """What it names that no process has."""
    return [
        f"{name} {choice}"
        for name, matchers in selectors(expression)
        for choice in choices(matchers)
        if not any(
            all(re.fullmatch(pattern, labels.get(label, "")) for label, pattern in choice.items())
            for labels in known[name]
        )
    ]


@pytest.fixture
def exposed(ledger) -> Samples:
    """What all of ours expose, once each has started."""
    ports = [ledger.server.ops_port]
    for name in ("aggregate", "forward", "control"):
        port, _ = free_ports()
        ledger.start(name, ops_port=port, **({"spool_dir": ""} if name == "aggregate" else {}))
        ports.append(port)
    found: Samples = defaultdict(list)
    for port in ports:
        wait_until(lambda port=port: ledger.server.status("/livez", port) == 200, f"port {port}")
    ledger.browse(3)
    ledger.wait_exact()  # so the counter has spoken too
    for port in ports:
        text = ledger.server.get("/metrics", port=port).body.decode()
        for name, labels in scraped(text, openmetrics).items():
            found[name] += labels
    return found


@pytest.mark.process
def test_what_is_named_is_exposed(exposed, ledger):
    named = [*rule_expressions(), *expressions()]
    if ENVOY.exists():
        with start_envoy(ledger.server.port) as envoy:
            text = envoy.get("/stats/prometheus", listener="metrics").body.decode()
            for name, labels in scraped(text, parser).items():
                # The parser gives counters the ending that Envoy's do not have.
                exposed[name.removesuffix("_total")] += labels
    else:
        named = [re.sub(r"\benvoy_\w+", "x", expression) for expression in named]
    assert [fault for expression in named for fault in missing(expression, exposed)] == []
    assert missing('adcore_requests_total{route="api",status=~"200|299"}', exposed)
    assert missing("adcore_requests", exposed)


@pytest.mark.process
def test_a_process_says_nothing_of_what_it_does_not_know(exposed):
    """Else a forwarder's "Redis is down" would wake somebody."""
    for name in ("adcore_redis_up", "adcore_control_leads", "adcore_ledger_durable_lsn"):
        assert len(exposed[name]) == 1, name


# -- recorded series, and dashboards


def test_what_is_read_back_is_recorded():
    named = {
        name for text in (*rule_expressions(), *expressions()) for name in names_recorded(text)
    }
    assert named <= recorded()
    assert named == recorded()  # and nothing is recorded for nobody


@pytest.mark.parametrize("path", dashboards(), ids=lambda path: path.stem)
def test_a_dashboard_is_one_that_grafana_can_read(path):
    board = json.loads(path.read_text())
    assert board["uid"] == f"adcore-{path.stem}"
    assert board["schemaVersion"] >= 36
    found = panels(path)
    assert 6 <= len(found) <= 12  # a screen, not a wall
    numbers = [panel["id"] for panel in found]
    assert len(numbers) == len({*numbers})
    taken = set()
    for panel in found:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, "two panels in one place"
        taken |= cells
        letters = [target["refId"] for target in panel["targets"]]
        assert letters
        assert len(letters) == len({*letters})
        for target in panel["targets"]:
            assert "$namespace" in target["expr"]
