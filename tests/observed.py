"""What k8s/components/observability asks Prometheus for: rules, dashboards, and what they name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

COMPONENT = Path(__file__).parent.parent / "k8s" / "components" / "observability"
RULES = COMPONENT / "rules"
DASHBOARDS = COMPONENT / "dashboards"
_STRING = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(r"\b([a-z_:][a-z0-9_:]*)\s*(\{[^}]*\})?", re.IGNORECASE)
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def rule_files() -> list[Path]:
    return sorted(RULES.glob("*.yaml"))


def groups_of(path: Path) -> list[dict[str, Any]]:
    return yaml.safe_load(path.read_text())["spec"]["groups"]


def dashboards() -> list[Path]:
    return sorted(DASHBOARDS.glob("*.json"))


def panels(path: Path) -> list[dict[str, Any]]:
    """All of a dashboard's panels, those inside of rows too."""
    found = json.loads(path.read_text())["panels"]
    return [*found, *(inner for panel in found for inner in panel.get("panels", []))]


def expressions() -> Iterator[str]:
    """Each dashboard's, with Grafana's variables filled in."""
    for path in dashboards():
        for panel in panels(path):
            for target in panel.get("targets", []):
                yield target["expr"].replace("$__rate_interval", "5m").replace("$namespace", "a")


def rule_expressions() -> Iterator[str]:
    for path in rule_files():
        for group in groups_of(path):
            for rule in group["rules"]:
                yield rule["expr"]


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Each metric of ours or of Envoy's that it names, and its (label, operator, value)s."""
    for name, labels in _SELECTOR.findall(expression):
        if name.startswith(("adcore_", "envoy_")):
            yield name, _MATCHER.findall(labels)


def recorded() -> set[str]:
    return {
        rule["record"]
        for path in rule_files()
        for group in groups_of(path)
        for rule in group["rules"]
        if "record" in rule
    }


def names_recorded(expression: str) -> set[str]:
    return set(re.findall(r"\badcore:[a-z0-9_:]+", _STRING.sub("", expression)))
