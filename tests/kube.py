"""k8s/ as it renders: what each test over its YAML reads, and what a kubelet would make of it.

An overlay names the components that it takes. Another choice from a family (`nodes/karpenter` for
`nodes/asg`) takes the place of the overlay's own, which is what a user does by editing that line.
"""

import copy
import functools
import hashlib
import itertools
import json
import math
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
K8S = ROOT / "k8s"
KUSTOMIZE = ROOT / "build/tools/bin/kustomize"
OVERLAYS = ("dev", "staging", "production")
# Of each family an overlay has one at most.
FAMILIES = (
    ("nodes/asg", "nodes/karpenter"),
    ("ingress-alb", "gateway"),
    ("redis-external", "redis-sentinel"),
)

# What goes with any of them; whatever folder there is, so that no component is forgotten.
OTHERS = tuple(
    sorted(
        folder.relative_to(K8S / "components").as_posix()
        for folder in (path.parent for path in K8S.glob("components/**/kustomization.yaml"))
        if not any(folder.relative_to(K8S / "components").as_posix() in each for each in FAMILIES)
    )
)
CLUSTER = tuple(sorted(path.parent for path in K8S.glob("cluster/*/kustomization.yaml")))

Document = dict[str, Any]


def rendered(overlay: str, *components: str) -> list[Document]:
    """Give the overlay's documents with these components too; a copy that tests may change."""
    return copy.deepcopy(_rendered(overlay, components))


def combinations() -> Iterator[tuple[str, ...]]:
    """Each overlay with each choice of each family, and with each other component."""
    for overlay in OVERLAYS:
        yield (overlay,)
        yield from ((overlay, *choice) for choice in itertools.product(*FAMILIES))
        yield from ((overlay, other) for other in OTHERS)
    yield from (("production", *choice, "fluent-bit") for choice in itertools.product(*FAMILIES))


def every() -> Iterator[tuple[tuple[str, ...], list[Document]]]:
    """Each combination with its documents, which are everybody's: not to be changed."""
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(lambda each: (each, _rendered(each[0], each[1:])), combinations())


def everything() -> list[Document]:
    """All documents of all combinations, each once, and those that a cluster has once."""
    sets = [docs for _, docs in every()] + [documents(folder) for folder in CLUSTER]
    distinct = {json.dumps(each, sort_keys=True): each for docs in sets for each in docs}
    return list(distinct.values())


def chosen(overlay: str, components: tuple[str, ...] = ()) -> list[str]:
    """Name the components of an overlay when these are asked for as well."""
    own = yaml.safe_load((K8S / "overlays" / overlay / "kustomization.yaml").read_text())
    names = [path.partition("components/")[2] for path in own.get("components", [])]
    for name in components:
        rivals = next((family for family in FAMILIES if name in family), (name,))
        names = [other for other in names if other not in rivals] + [name]
    # Stable, and `nodes` last: it patches what the components before it have brought.
    names.sort(key=lambda name: name.startswith("nodes/"))
    return names


@functools.cache
def _rendered(overlay: str, components: tuple[str, ...]) -> list[Document]:
    path = K8S / "overlays" / overlay
    if components:
        path = _variant(overlay, components)
    return documents(path)


def _variant(overlay: str, components: tuple[str, ...]) -> Path:
    """Write the overlay with another list of components, where its paths still lead somewhere."""
    own = yaml.safe_load((K8S / "overlays" / overlay / "kustomization.yaml").read_text())
    key = hashlib.sha256("+".join((overlay, *components)).encode()).hexdigest()[:12]
    folder = ROOT / "build/kube" / f"{overlay}-{key}-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    own["components"] = [f"../../../k8s/components/{name}" for name in chosen(overlay, components)]
    own["resources"] = [
        "../../../" + os.path.relpath(K8S / "overlays" / overlay / resource, ROOT)
        for resource in own["resources"]
    ]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return folder


def documents(folder: Path) -> list[Document]:
    """Render one folder by the real kustomize; the test is skipped where it is not installed."""
    if not KUSTOMIZE.exists():
        pytest.skip("NOT INSTALLED: kustomize (`make kube-tools`)")
    done = subprocess.run(
        [KUSTOMIZE, "build", folder], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise AssertionError(f"{folder.relative_to(ROOT)} does not render: {done.stderr}")
    return [document for document in yaml.load_all(done.stdout, _Loader) if document]


class _Loader(yaml.CSafeLoader):
    """Reads an Alertmanager's `matchType: =`, for which YAML 1.1 had a meaning of its own."""


_Loader.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_yaml_str)


# -- reading


def find(docs: list[Document], kind: str, name: str) -> Document:
    """Give the one document of this kind and name; a generated name's hash may be left out."""
    hashed = re.compile(rf"{re.escape(name)}(-[0-9a-z]{{10}})?\Z")
    found = [
        document
        for document in docs
        if document["kind"] == kind and hashed.match(document["metadata"]["name"])
    ]
    assert len(found) == 1, f"{len(found)} x {kind} {name}"
    return found[0]


def pod_specs(docs: list[Document]) -> Iterator[tuple[str, Document, Document]]:
    """Each pod template: whose it is, its labels and its spec."""
    for document in docs:
        spec = document.get("spec") or {}
        if document["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        template = spec.get("template") or {}
        # A Rollout may name its Deployment's template instead of having one.
        if "spec" in template and "containers" in template["spec"]:
            name = f"{document['kind']}/{document['metadata']['name']}"
            yield name, template["metadata"].get("labels", {}), template["spec"]


def containers(pod: Document) -> list[Document]:
    """All of them, in the order of their start: sidecars first."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def container(pod: Document, name: str) -> Document:
    return next(each for each in containers(pod) if each["name"] == name)


# -- what the kubelet does


def quantity(text: str | int | float) -> float:
    """Read Kubernetes' numbers: "250m", "1Gi", "2"."""
    units = {"m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    units |= {f"{unit}i": 1024.0**power for power, unit in enumerate("KMGT", 1)}
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
    return float(number) * units[unit]


def environment(
    docs: list[Document],
    pod: Document,
    name: str,
    *,
    secrets: Mapping[tuple[str, str], str],
    labels: Mapping[str, str] | None = None,
    fields: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give the environment that a container is started with.

    `secrets` by (Secret, key), for those that are not in the documents; an optional one may be
    missing. `fields` by path, such as status.podIP. As in a pod, `env` wins over `envFrom`.
    """
    found: dict[str, str] = {}
    for source in container(pod, name).get("envFrom", []):
        found |= find(docs, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container(pod, name).get("env", []):
        value = _value(docs, pod, name, variable, secrets, labels or {}, fields or {})
        if value is not None:
            found[variable["name"]] = value
    return found


def _value(
    docs: list[Document],
    pod: Document,
    name: str,
    variable: Document,
    secrets: Mapping[tuple[str, str], str],
    labels: Mapping[str, str],
    fields: Mapping[str, str],
) -> str | None:
    if "valueFrom" not in variable:
        return str(variable.get("value", ""))
    (kind, source), *rest = variable["valueFrom"].items()
    assert not rest
    if kind == "configMapKeyRef":
        return str(find(docs, "ConfigMap", source["name"])["data"][source["key"]])
    if kind == "secretKeyRef":
        key = (source["name"], source["key"])
        return secrets.get(key) if source.get("optional") else secrets[key]
    if kind == "resourceFieldRef":
        side, resource = source["resource"].split(".")
        of = container(pod, source.get("containerName", name))["resources"][side][resource]
        # Rounded up, so half a core is one worker.
        return str(math.ceil(quantity(of) / quantity(source.get("divisor", "1"))))
    assert kind == "fieldRef", kind
    label = re.fullmatch(r"metadata\.labels\['(.+)'\]", source["fieldPath"])
    return labels[label[1]] if label else fields[source["fieldPath"]]
