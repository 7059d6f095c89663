"""Rendered YAML, read as a kubelet reads it: what one pod runs, on an address of its own.

A pod has no network namespace here but one loopback address, and no mount namespace but a folder.
`_here` puts both into every string: 127.0.0.1 and 0.0.0.0 become the pod's address, so all ports
stay as the YAML has them, and a mounted path becomes one below the pod's folder.
"""

import re
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.kube import Document, containers, environment, find
from tests.podsim.scaling import patient

# A range of addresses (127.0.0.1/32, whom to believe) is no place where anybody listens.
_LOCAL = re.compile(r"(?<![\d.])(?:127\.0\.0\.1|0\.0\.0\.0)(?![\d./])")
PROGRAMS = {
    "adcore": [sys.executable, "-m", "server"],
    "envoy": [str(Path(sysconfig.get_path("scripts")) / "envoy")],
}


class Probe(NamedTuple):
    """How to ask a container how it is, and how often before its word counts."""

    kind: str  # httpGet, tcpSocket or exec
    host: str
    port: int
    path: str
    command: tuple[str, ...]
    delay_s: float
    period_s: float
    timeout_s: float
    failures: int
    successes: int


class Hook(NamedTuple):
    """What runs before SIGTERM: a command, or a pause."""

    command: tuple[str, ...]
    sleep_s: float


class Container(NamedTuple):
    name: str
    command: tuple[str, ...]
    environ: dict[str, str]
    is_sidecar: bool
    hook: Hook | None = None
    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None


class PodSpec(NamedTuple):
    """Containers in the order of their start: sidecars first."""

    address: str
    port: int  # where the load balancer sends to
    grace_s: float
    containers: tuple[Container, ...]


class Place(NamedTuple):
    """Where a pod is to be: its address, and folders for its volumes."""

    address: str
    folder: Path
    memory: Path  # for volumes in memory


class Around(NamedTuple):
    """What a pod finds in its cluster."""

    secrets: Mapping[tuple[str, str], str]
    names: Mapping[str, str]  # what the DNS knows


def pod_spec(
    docs: list[Document], owner: Document, place: Place, around: Around, labels: dict[str, str]
) -> PodSpec:
    """Make the pod of a Deployment or a StatefulSet; its volumes are made too, and are empty."""
    pod = owner["spec"]["template"]["spec"]
    folders = _volumes(docs, owner, place, around)

    def container_of(given: Document) -> Container:
        here = _here(given, place.address, folders, around.names)
        environ = environment(docs, pod, given["name"], secrets=around.secrets, labels=labels)
        return Container(
            name=given["name"],
            command=_command(given, here),
            environ={name: here(text) for name, text in environ.items()},
            is_sidecar=given.get("restartPolicy") == "Always",
            hook=_hook(given, here, place.address),
            startup=_probe(given, "startupProbe", place.address),
            readiness=_probe(given, "readinessProbe", place.address),
            liveness=_probe(given, "livenessProbe", place.address),
        )

    return PodSpec(
        address=place.address,
        port=next((_port(each, "http") for each in containers(pod) if _has(each, "http")), 0),
        grace_s=pod.get("terminationGracePeriodSeconds", 30),
        containers=tuple(map(container_of, containers(pod))),
    )


def _volumes(
    docs: list[Document], owner: Document, place: Place, around: Around
) -> dict[str, Path]:
    pod = owner["spec"]["template"]["spec"]
    folders = {}
    for volume in pod.get("volumes", []):
        in_memory = volume.get("emptyDir", {}).get("medium") == "Memory"
        folder = (place.memory if in_memory else place.folder) / volume["name"]
        folder.mkdir(parents=True)
        folders[volume["name"]] = folder
        if "configMap" in volume:
            for name, text in find(docs, "ConfigMap", volume["configMap"]["name"])["data"].items():
                text = _LOCAL.sub(place.address, text)
                (folder / name).write_text(patient(text) if name == "envoy.yaml" else text)
    for claim in owner["spec"].get("volumeClaimTemplates", []):
        folders[claim["metadata"]["name"]] = place.folder / claim["metadata"]["name"]
        folders[claim["metadata"]["name"]].mkdir(parents=True)
    return folders


def _here(
    given: Document, address: str, folders: Mapping[str, Path], names: Mapping[str, str]
) -> Callable[[str], str]:
    mounts = {
        mount["mountPath"]: str(folders[mount["name"]])
        for mount in given.get("volumeMounts", [])
        if mount["name"] in folders
    }

    def here(text: str) -> str:
        for path, folder in mounts.items():
            if text == path or text.startswith(f"{path}/"):
                return folder + text[len(path) :]
        for name, found in names.items():
            text = text.replace(name, found)
        return _LOCAL.sub(address, text)

    return here


def _command(given: Document, here: Callable[[str], str]) -> tuple[str, ...]:
    program = given["image"].rpartition("/")[2].partition(":")[0]
    return (*PROGRAMS[program], *map(here, [*given.get("command", [])[1:], *given["args"]]))


def _hook(given: Document, here: Callable[[str], str], address: str) -> Hook | None:
    hook = given.get("lifecycle", {}).get("preStop")
    if hook is None:
        return None
    if "sleep" in hook:
        return Hook((), hook["sleep"]["seconds"])
    program, *arguments = map(here, hook["exec"]["command"])
    if arguments[0] == "drain" and "--admin" not in arguments:
        arguments += ["--admin", f"http://{address}:9901"]  # its default is the pod's loopback
    return Hook((*PROGRAMS[program], *arguments), 0)


def _probe(given: Document, kind: str, address: str) -> Probe | None:
    if kind not in given:
        return None
    probe: dict[str, Any] = given[kind]
    how = next(name for name in ("httpGet", "tcpSocket", "exec") if name in probe)
    port = probe[how].get("port", 0)
    return Probe(
        kind=how,
        host=address,
        port=port if isinstance(port, int) else _port(given, port),
        path=probe[how].get("path", "/"),
        command=tuple(probe[how].get("command", ())),
        # Kubernetes' defaults.
        delay_s=probe.get("initialDelaySeconds", 0),
        period_s=probe.get("periodSeconds", 10),
        timeout_s=probe.get("timeoutSeconds", 1),
        failures=probe.get("failureThreshold", 3),
        successes=probe.get("successThreshold", 1),
    )


def _has(given: Document, name: str) -> bool:
    return any(port.get("name") == name for port in given.get("ports", []))


def _port(given: Document, name: str) -> int:
    return next(port["containerPort"] for port in given["ports"] if port.get("name") == name)
