"""The runbook can be typed: its commands parse, what they name is there, no alert lacks a page."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
import yaml

from server import cli
from tests.kube import find, rendered

ROOT = Path(__file__).parent.parent
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
RULES = ROOT / "k8s" / "components" / "observability" / "rules"
SHORT = {"deploy": "deployment", "pvc": "persistentvolumeclaim"}
# What is there only with a component, or while somebody works by this page.
ELSEWHERE = {"job/adcore-restore-1", "nodepool/adcore-front"}

LINES = [
    line
    for block in re.findall(r"```\n(.*?)```", RUNBOOK, re.DOTALL)
    for line in block.splitlines()
    if line
]
ADCORE = [
    found.strip()
    for line in [*LINES, *re.findall(r"`(adcore [^`]+)`", RUNBOOK)]
    for found in re.findall(r"(?:^|-- )(adcore .*?)(?:\||$)", line)
]


@pytest.fixture
def headings() -> dict[str, str]:
    """Each heading's text below it, by its anchor."""
    parts = re.split(r"(?m)^#{1,4} (.+)$", RUNBOOK)[1:]
    return {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-"): body
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.mark.parametrize("line", sorted({*ADCORE}))
def test_commands_of_ours_parse(line):
    _, *words = shlex.split(line)
    parser = cli._parser(words[0])
    assert words[0] in cli.COMMANDS
    args = parser.parse_args(words)
    assert isinstance(args, argparse.Namespace)


def test_there_are_commands_and_a_wrong_one_is_noticed():
    assert len(ADCORE) > 15
    with pytest.raises(SystemExit):
        test_commands_of_ours_parse("adcore archive --restor3")


def test_links_within_the_page_lead_to_a_heading(headings):
    targets = re.findall(r"\]\(#([^)]+)\)", RUNBOOK)
    assert targets
    assert {*targets} <= headings.keys()


@pytest.mark.skipif(not RULES.exists(), reason="no alerts to compare with")
def test_each_alert_has_a_section_and_no_section_lacks_an_alert(headings):
    alerts = {
        rule["alert"]
        for path in RULES.glob("*.yaml")
        for group in yaml.safe_load(path.read_text())["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    sections = {*re.findall(r"(?m)^### (Adcore\w+)$", RUNBOOK)}
    assert sections == alerts


def test_each_alert_s_section_says_what_it_means_and_what_to_type(headings):
    sections = re.findall(r"(?m)^### (Adcore\w+)$", RUNBOOK)
    assert len(sections) > 30
    for name in sections:
        body = headings[name.lower()]
        assert len(body.split("```")) == 3, name
        assert len(body.split("\n\n")) >= 2, name


@pytest.mark.process
def test_what_kubectl_is_told_to_look_at_is_there():
    documents = rendered("production")
    named = {
        (SHORT.get(kind, kind), name)
        for line in LINES
        for kind, name in re.findall(r"\b(deploy(?:ment)?|statefulset|job)/([\w-]+)", line)
        if f"{kind}/{name}" not in ELSEWHERE
    }
    assert len(named) >= 3
    kinds = {"deployment": "Deployment", "statefulset": "StatefulSet"}
    for kind, name in named:
        assert find(documents, kinds[kind], name)
    components = {
        document["metadata"]["labels"].get("app.kubernetes.io/component")
        for document in documents
        if "labels" in document["metadata"]
    } | {"redis"}
    asked = re.findall(r"app\.kubernetes\.io/component=(\w+)", RUNBOOK)
    assert {*asked} <= components
    front = find(documents, "Deployment", "adcore-front")["spec"]["template"]["spec"]
    containers = {each["name"] for each in front["initContainers"] + front["containers"]}
    assert {*re.findall(r"component=front -c (\w+)", RUNBOOK)} <= containers


@pytest.mark.process
def test_namespaces_are_the_overlays():
    for overlay, namespace in (("production", "adcore"), ("staging", "adcore-staging")):
        spaces = {doc["metadata"].get("namespace") for doc in rendered(overlay)}
        assert namespace in spaces
    assert {*re.findall(r"kubectl -n (\S+)", RUNBOOK)} == {"adcore"}


def test_files_that_are_named_are_there():
    for path in re.findall(r"(?<![\w/])(?:k8s|docs|benchmarks|\.github)/[\w./-]*\w", RUNBOOK):
        assert (ROOT / path).exists(), path


@pytest.mark.process
def test_the_restore_job_fits_the_stateful_set_whose_disk_it_fills():
    """Put in as the runbook says; what it has to agree with is the StatefulSet's own."""
    text = (ROOT / "k8s" / "jobs" / "restore.yaml").read_text()
    command = next(line for line in LINES if "k8s/jobs/restore.yaml" in line)
    replaced = dict(re.findall(r"s[/|](@\w+@)[/|]([^/|]+(?:/[^|]+)?)[/|]['\"]", command))
    assert replaced.keys() == {*re.findall(r"@\w+@", text)} == {"@SHARD@", "@IMAGE@", "@ARCHIVE@"}
    for name, value in replaced.items():
        text = text.replace(name, value)
    claim, job = yaml.safe_load_all(text)
    shards = find(rendered("production"), "StatefulSet", "adcore-aggregator")
    (template,) = shards["spec"]["volumeClaimTemplates"]
    shard = replaced["@SHARD@"]
    assert claim["metadata"]["name"] == (
        f"{template['metadata']['name']}-{shards['metadata']['name']}-{shard}"
    )
    assert claim["spec"]["accessModes"] == template["spec"]["accessModes"]
    wanted = template["spec"]["resources"]["requests"]["storage"]
    assert claim["spec"]["resources"]["requests"]["storage"] == wanted

    pod, theirs = job["spec"]["template"]["spec"], shards["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    for field in ("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks"):
        assert pod[field] == theirs[field]
    for field in ("runAsUser", "runAsGroup", "fsGroup", "runAsNonRoot", "seccompProfile"):
        assert pod["securityContext"][field] == theirs["securityContext"][field]
    (ours,), (aggregator,) = pod["containers"], theirs["containers"]
    assert ours["securityContext"] == aggregator["securityContext"]
    given = {each["name"]: each for each in ours["env"]}
    wanted_of = {each["name"]: each for each in aggregator["env"]}
    for name in ("ADCORE_LEDGER_DIR", "ADCORE_REDIS_URL"):
        assert given[name] == wanted_of[name]
    assert given["ADCORE_SHARD"]["value"] == shard
    assert cli._parser("archive").parse_args(ours["args"]).restore
