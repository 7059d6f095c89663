"""What must hold in any rendered set of documents; each rule gives its faults, in words.

`restricted` is Pod Security's level of that name, read anew from its standard and held stricter: we
ask for a read-only root, an id that is ours, and no token too.
"""

from collections.abc import Iterator

from tests.kube import Document, containers, pod_specs

UID = 65532
# Made by the deployer or by external-secrets, never by us: name and keys.
SECRETS = {
    "adcore-redis": {"url", "password"},
    "adcore-keys": {
        *("token-key", "token-key-previous", "token-key-next", "user-key", "ops-key", "ledger-key"),
    },
}
CONFIG_MAPS = {"adcore-catalog"}
VOLUMES = {"configMap", "emptyDir", "secret", "persistentVolumeClaim", "projected", "downwardAPI"}


def restricted(docs: list[Document]) -> Iterator[str]:
    for name, _, pod in pod_specs(docs):
        security = pod.get("securityContext", {})
        if security.get("runAsNonRoot") is not True or security.get("runAsUser") != UID:
            yield f"{name}: may run as root, or as somebody else's id"
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name}: no seccomp profile"
        for word in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(word):
                yield f"{name}: {word}"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name}: has a token"
        if pod.get("enableServiceLinks") is not False:
            yield f"{name}: other Services' addresses would be settings that the server refuses"
        for volume in pod.get("volumes", []):
            if not set(volume) - {"name"} <= VOLUMES:
                yield f"{name}: volume {volume['name']} is of a kind that is not allowed"
        for each in containers(pod):
            yield from _locked(f"{name}/{each['name']}", each)


def _locked(name: str, container: Document) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield f"{name}: may gain privileges"
    if security.get("readOnlyRootFilesystem") is not True:
        yield f"{name}: may write to its image"
    capabilities = security.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield f"{name}: has capabilities"
    if security.get("runAsUser", UID) != UID or security.get("runAsNonRoot", True) is not True:
        yield f"{name}: runs as somebody else"
    if security.get("seccompProfile", {}).get("type", "RuntimeDefault") != "RuntimeDefault":
        yield f"{name}: its own seccomp profile"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield f"{name}: takes a port of the host"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("requests", {})):
        yield f"{name}: asks for nothing"
    # Whoever may use more memory than he asked for is the first to be killed when it is short.
    if resources.get("limits", {}).get("memory") != resources.get("requests", {}).get("memory"):
        yield f"{name}: memory asked for is not what it may use"


def selectors(docs: list[Document]) -> Iterator[str]:
    """What selects pods selects some; a workload's selector, its own pods and no other's."""
    pods = list(pod_specs(docs))
    for document in docs:
        kind, spec = document["kind"], document.get("spec") or {}
        name = f"{kind}/{document['metadata']['name']}"
        if kind in ("Deployment", "StatefulSet"):
            matched = [owner for owner, labels, _ in pods if matches(spec["selector"], labels)]
            if matched != [name]:
                yield f"{name}: its selector finds {matched}"
        elif kind == "PodDisruptionBudget":
            if len([0 for _, labels, _ in pods if matches(spec["selector"], labels)]) != 1:
                yield f"{name}: not exactly one workload"
        elif kind == "Service" and not any(
            spec["selector"].items() <= labels.items() for _, labels, _ in pods
        ):
            yield f"{name}: nobody behind it"
    for name, labels, pod in pods:
        for constraint in pod.get("topologySpreadConstraints", []):
            if not matches(constraint["labelSelector"], labels):
                yield f"{name}: spreads others than itself"


def matches(selector: Document, labels: Document) -> bool:
    for expression in selector.get("matchExpressions", []):
        value, among = labels.get(expression["key"]), expression.get("values", [])
        held = {
            "In": value in among,
            "NotIn": value not in among,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not held[expression["operator"]]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def references(docs: list[Document]) -> Iterator[str]:
    """Each name that a pod, a Service, a route or a scaler uses is there, or a named external."""
    there = {(document["kind"], document["metadata"]["name"]) for document in docs}

    def missing(kind: str, name: str) -> bool:
        return (kind, name) not in there

    for name, _, pod in pod_specs(docs):
        account = pod.get("serviceAccountName")
        if account and missing("ServiceAccount", account):
            yield f"{name}: no ServiceAccount {account}"
        priority = pod.get("priorityClassName")
        if priority and missing("PriorityClass", priority):
            yield f"{name}: no PriorityClass {priority}"
        yield from _volumes(name, pod, docs, there)
        for each in containers(pod):
            yield from _sources(f"{name}/{each['name']}", each, there)
    for document in docs:
        name, spec = document["metadata"]["name"], document.get("spec") or {}
        if document["kind"] == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            if missing(target["kind"], target["name"]):
                yield f"HPA {name}: no {target['kind']} {target['name']}"
        elif document["kind"] == "StatefulSet" and missing("Service", spec["serviceName"]):
            yield f"StatefulSet {name}: no Service {spec['serviceName']}"
        elif document["kind"] == "HTTPRoute":
            for rule in spec["rules"]:
                for backend in rule["backendRefs"]:
                    if missing("Service", backend["name"]):
                        yield f"HTTPRoute {name}: no Service {backend['name']}"


def _volumes(
    name: str, pod: Document, docs: list[Document], there: set[tuple[str, str]]
) -> Iterator[str]:
    claimed = {
        claim["metadata"]["name"]
        for document in docs
        if f"{document['kind']}/{document['metadata']['name']}" == name
        for claim in document["spec"].get("volumeClaimTemplates", [])
    }
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    used = {mount["name"] for each in containers(pod) for mount in each.get("volumeMounts", [])}
    for lost in used - set(volumes) - claimed:
        yield f"{name}: no volume {lost}"
    for idle in (set(volumes) | claimed) - used:
        yield f"{name}: nobody mounts {idle}"
    for volume in volumes.values():
        if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
            yield f"{name}: {volume['name']} may fill the node's disk"
        source = volume.get("configMap", {}).get("name")
        if source and ("ConfigMap", source) not in there and source not in CONFIG_MAPS:
            yield f"{name}: no ConfigMap {source}"


def _sources(name: str, container: Document, there: set[tuple[str, str]]) -> Iterator[str]:
    for source in container.get("envFrom", []):
        if ("ConfigMap", source["configMapRef"]["name"]) not in there:
            yield f"{name}: no ConfigMap {source['configMapRef']['name']}"
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {})
        secret = source.get("secretKeyRef")
        if secret and secret["key"] not in SECRETS.get(secret["name"], ()):
            yield f"{name}: no key {secret['key']} in the Secret {secret['name']}"
        config = source.get("configMapKeyRef")
        if config and ("ConfigMap", config["name"]) not in there:
            yield f"{name}: no ConfigMap {config['name']}"


def ports(docs: list[Document]) -> Iterator[str]:
    """Named ports exist and differ within a pod; Services, probes and policies mean one of them."""
    pods = [(name, labels, containers(pod)) for name, labels, pod in pod_specs(docs)]
    for name, _, members in pods:
        opened = [port for each in members for port in each.get("ports", [])]
        for field in ("name", "containerPort"):
            values = [port[field] for port in opened]
            if len(set(values)) != len(values):
                yield f"{name}: two ports have one {field}"
        for each in members:
            own = {port["name"] for port in each.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = each.get(probe, {})
                port = asked.get("httpGet", asked.get("tcpSocket", {})).get("port")
                if port is not None and port not in own:
                    yield f"{name}/{each['name']}: {probe} asks {port}, which it does not open"
    for document in docs:
        name, spec = document["metadata"]["name"], document.get("spec") or {}
        if document["kind"] == "Service" and spec.get("selector"):
            for port in spec["ports"]:
                for owner, labels, members in pods:
                    if spec["selector"].items() <= labels.items():
                        named = {p["name"] for each in members for p in each.get("ports", [])}
                        if port["targetPort"] not in named:
                            yield f"Service {name}: {owner} opens no {port['targetPort']}"
        elif document["kind"] == "NetworkPolicy":
            for rule in spec.get("ingress", []):
                for port in rule.get("ports", []):
                    behind = [
                        members for _, labels, members in pods
                        if matches(spec["podSelector"], labels)
                    ]  # fmt: skip
                    if port["port"] not in {
                        p["containerPort"]
                        for members in behind
                        for each in members
                        for p in each.get("ports", [])
                    }:
                        yield f"NetworkPolicy {name}: nobody behind it opens {port['port']}"


RULES = (restricted, selectors, references, ports)
