"""Each alert fires on what is bad and not on what is good, as the real promtool evaluates it.

Every metric and label that a rule or a dashboard names is one that our processes really expose.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observed import RULES, expressions, groups_of, rule_files

CASES: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "alerts" / "cases.yaml").read_text()
)
ALERTS = {
    rule["alert"]: rule
    for path in rule_files()
    for group in groups_of(path)
    for rule in group["rules"]
    if "alert" in rule
}
WHERE = ("namespace", "pod", "container")  # what Prometheus adds to all that it scrapes
RUNBOOK = Path(__file__).parent.parent / "docs" / "runbook.md"


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("NOT INSTALLED: promtool (Debian's prometheus)")
    return subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> list[Path]:
    """The rules as Prometheus reads them, out of the operator's wrapping."""
    folder = tmp_path_factory.mktemp("rules")
    for path in rule_files():
        (folder / path.name).write_text(yaml.safe_dump({"groups": groups_of(path)}))
    return sorted(folder.iterdir())


# -- the alerts


def promtool_case(name: str, names: dict[str, str]) -> dict[str, Any]:
    """Write one of promtool's tests; `names` may take bad for good."""
    case, rule = CASES[name], ALERTS[name]
    bad = {"namespace": "bad", "pod": "p", "container": "c"} | case.get("more", {})
    kept = {label: bad[label] for label in case.get("keeps", WHERE)}
    return {
        "interval": case.get("step", "1m"),
        "input_series": [
            {"series": located(series, names[side]), "values": values}
            for side in ("bad", "good")
            for series, values in case[side].items()
        ],
        "alert_rule_test": [
            {
                "eval_time": case.get("at", "20m"),
                "alertname": name,
                "exp_alerts": [
                    {"exp_labels": kept | rule["labels"], "exp_annotations": rule["annotations"]}
                ],
            }
        ],
    }


def located(series: str, namespace: str) -> str:
    """Add what a scrape adds, unless the series says otherwise."""
    metric, _, labels = series.rstrip("}").partition("{")
    found = {"namespace": namespace, "pod": "p", "container": "c"}
    found |= dict(re.findall(r'(\w+)="([^"]*)"', labels))
    return metric + "{" + ",".join(f'{key}="{value}"' for key, value in found.items()) + "}"


def failing(path: Path, rules: Path, names: dict[str, str]) -> set[str]:
    """Which alerts of one file of rules did not do as their case says."""
    alerts = [
        rule["alert"]
        for group in yaml.safe_load(rules.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    document = {
        "rule_files": [str(rules)],
        # Some cases last a day, so Prometheus looks less often here than it does in life.
        "evaluation_interval": "1m" if rules.stem in ("ledger", "budgets") else "5m",
        "tests": [promtool_case(name, names) for name in alerts],
    }
    path.write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", path)
    failed = set(re.findall(r"alertname: (\w+), time:", done.stdout + done.stderr))
    assert bool(failed) == bool(done.returncode), done.stdout + done.stderr
    return failed


def test_every_alert_has_a_case_and_every_case_an_alert():
    assert CASES.keys() == ALERTS.keys()


@pytest.mark.parametrize("rules", [path.name for path in rule_files()])
def test_an_alert_fires_on_what_is_bad_alone(tmp_path, plain, rules):
    path = next(path for path in plain if path.name == rules)
    assert not failing(tmp_path / "right.yaml", path, {"bad": "bad", "good": "good"})
    # The same with the two exchanged: what passes now would pass whatever the rule says.
    turned = failing(tmp_path / "turned.yaml", path, {"bad": "good", "good": "bad"})
    assert turned == {
        rule["alert"]
        for group in groups_of(RULES / rules)
        for rule in group["rules"]
        if "alert" in rule
    }


def test_every_alert_says_how_urgent_it_is_and_what_is_wrong():
    for name, rule in ALERTS.items():
        assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"}), name
        assert rule["annotations"]["summary"].endswith("."), name


def test_the_runbook_has_a_chapter_for_each_alert_and_no_other():
    if not RUNBOOK.exists():
        pytest.skip("docs/runbook.md is not there yet")
    chapters = set(re.findall(r"^#+ .*?\b(Adcore[A-Z]\w+)", RUNBOOK.read_text(), re.MULTILINE))
    assert chapters == ALERTS.keys()


# -- the expressions


def test_prometheus_accepts_the_rules(plain):
    for path in plain:
        done = promtool("check", "rules", path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_can_read_every_panel(tmp_path):
    rules = [
        {"record": f"adcore:panel:{number}", "expr": expression}
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", "--lint=none", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_all_in_the_component():
    listed = yaml.safe_load((RULES.parent / "kustomization.yaml").read_text())["resources"]
    assert {f"rules/{path.name}" for path in rule_files()} <= set(listed)
