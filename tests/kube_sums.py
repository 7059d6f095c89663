"""What numbers in k8s/ must be to each other: each rule yields what breaks it.

They stand in many files (the hook's time in the Deployment, the balancer's in an annotation, the
proxy's in its own file), and each looks right by itself.
"""

import math
import re
from collections.abc import Iterator

import yaml

from server.ledger.forward import DRAIN_S_MAX
from tests.hpa import POD_START_S
from tests.kube import Document, container, containers, find, pod_specs, quantity

ENVOY_END_S = 1.0  # after SIGTERM: nothing is left to wait for, the hook has
REACTION_S = 10.0  # from a spot notice until pods are evicted
NOTICE_S_MAX = 110.0  # of the 120 that a notice leaves
LATE_S_MAX = 120.0  # until a bad build is out of service
SCRAPE_S = 15.0
PROMISED_PODS_MIN = 4  # dev runs one pod, and promises nothing when its node is taken
RATE = 30_000  # requests a second that production must carry


def front(docs: list[Document]) -> Document:
    return find(docs, "Deployment", "adcore-front")["spec"]["template"]["spec"]


def of_kind(docs: list[Document], kind: str) -> list[Document]:
    return [each for each in docs if each["kind"] == kind]


def setting(pod: Document, name: str, variable: str) -> str:
    for each in container(pod, name).get("env", []):
        if each["name"] == variable:
            return str(each.get("value"))
    raise AssertionError(f"{name} has no {variable}")


def hook_s(docs: list[Document]) -> tuple[float, float]:
    command = container(front(docs), "api")["lifecycle"]["preStop"]["exec"]["command"]
    return tuple(float(command[command.index(flag) + 1]) for flag in ("--min-s", "--max-s"))


def proxy(docs: list[Document]) -> Document:
    config = yaml.safe_load(find(docs, "ConfigMap", "adcore-envoy")["data"]["envoy.yaml"])
    listeners = config["static_resources"]["listeners"]
    [listener] = [each for each in listeners if each["name"] == "front"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def balancer(docs: list[Document]) -> dict[str, str]:
    """The load balancer's numbers, wherever the entrance has them."""
    found: dict[str, str] = {}
    for ingress in of_kind(docs, "Ingress"):
        for name in ("target-group-attributes", "load-balancer-attributes"):
            text = ingress["metadata"]["annotations"][f"alb.ingress.kubernetes.io/{name}"]
            found |= dict(pair.split("=") for pair in text.split(","))
    lists = [each["spec"]["loadBalancerAttributes"] for each in of_kind(docs, LOAD_BALANCER)]
    targets = of_kind(docs, "TargetGroupConfiguration")
    lists += [each["spec"]["defaultConfiguration"]["targetGroupAttributes"] for each in targets]
    return found | {each["key"]: each["value"] for some in lists for each in some}


LOAD_BALANCER = "LoadBalancerConfiguration"


def stopping(docs: list[Document]) -> Iterator[str]:
    """Deregistered < hook's least <= its most; and all ends fit the one grace period."""
    least, most = hook_s(docs)
    entrance = balancer(docs)
    if entrance and float(entrance["deregistration_delay.timeout_seconds"]) >= least:
        yield "the balancer still sends when the hook may have ended"
    pod = front(docs)
    kill_s = float(setting(pod, "api", "ADCORE_KILL_TIMEOUT_S"))
    drain_s = float(setting(pod, "api", "ADCORE_DRAIN_S"))
    ends = most + drain_s + kill_s + ENVOY_END_S + DRAIN_S_MAX
    if least > most or ends > pod["terminationGracePeriodSeconds"]:
        yield f"containers take {ends} s to end"


def idling(docs: list[Document]) -> Iterator[str]:
    """Who is in front closes first, or it sends into a connection that is being closed."""
    entrance = balancer(docs)
    idle = proxy(docs)["common_http_protocol_options"]["idle_timeout"]
    most_s = float(entrance.get("idle_timeout.timeout_seconds", 0))
    if float(idle.rstrip("s")) <= most_s:
        yield "Envoy closes idle connections before the balancer does"


def disrupted(docs: list[Document], pods_a_node: int) -> Iterator[str]:
    """A node's pods are gone before the node is, where nodes are taken away."""
    pod = front(docs)
    if pod.get("nodeSelector", {}).get("adcore/pool") != "front":
        return
    share = find(docs, "PodDisruptionBudget", "adcore-front")["spec"]["maxUnavailable"]
    [spread] = [
        each
        for each in pod["topologySpreadConstraints"]
        if each["topologyKey"] == "kubernetes.io/hostname"
    ]
    nodes = spread.get("minDomains", 1)
    stop_s = hook_s(docs)[1] + float(setting(pod, "api", "ADCORE_KILL_TIMEOUT_S")) + ENVOY_END_S
    least, most = bounds(docs)
    if least < PROMISED_PODS_MIN:
        return
    for pods in range(least, most + 1):
        # Rounded up: the disruption controller does.
        at_once = math.ceil(pods * int(share.rstrip("%")) / 100)
        # The fullest of so many nodes that differ by no more than the skew.
        on_node = min(pods_a_node, (pods + spread["maxSkew"] * (nodes - 1)) // nodes)
        waves = math.ceil(on_node / at_once)
        # A second wave waits until what takes the first one's place is ready.
        takes_s = REACTION_S + waves * stop_s + (waves - 1) * POD_START_S
        if takes_s > NOTICE_S_MAX:
            yield f"{on_node} of {pods} pods take {takes_s} s to leave a node"
            return


def bounds(docs: list[Document]) -> tuple[int, int]:
    for each in of_kind(docs, "HorizontalPodAutoscaler"):
        if each["metadata"]["name"] == "adcore-front":
            return each["spec"]["minReplicas"], each["spec"]["maxReplicas"]
    spec = find(docs, "ScaledObject", "adcore-front")["spec"]
    return spec["minReplicaCount"], spec["maxReplicaCount"]


def scaled(docs: list[Document]) -> Iterator[str]:
    """One autoscaler a target, which is there; and nobody else says how many."""
    targets = [
        (each["spec"]["scaleTargetRef"]["kind"], each["spec"]["scaleTargetRef"]["name"])
        for each in docs
        if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    ]
    if len(set(targets)) < len(targets):
        yield "two autoscalers on one target"
    for kind, name in targets:
        own = [each for each in of_kind(docs, kind) if each["metadata"]["name"] == name]
        if len(own) != 1:
            yield f"an autoscaler's target is not there: {kind} {name}"
        elif "replicas" in own[0]["spec"]:
            yield f"{kind} {name} has replicas of its own"
    rollouts = {each["spec"]["workloadRef"]["name"] for each in of_kind(docs, "Rollout")}
    for name in rollouts:
        if ("Deployment", name) in targets or ("Rollout", name) not in targets:
            yield f"the Rollout of {name} is not what is scaled"


def measured(docs: list[Document]) -> Iterator[str]:
    """CPU of the container api alone, at 60 %; up at once, down slowly."""
    for each in of_kind(docs, "HorizontalPodAutoscaler"):
        if each["metadata"]["name"] != "adcore-front":
            continue
        resources = [metric.get("containerResource", {}) for metric in each["spec"]["metrics"]]
        if not any(
            (of.get("container"), of.get("name")) == ("api", "cpu")
            and of["target"] == {"type": "Utilization", "averageUtilization": 60}
            for of in resources
        ):
            yield "not CPU of the container api at 60 %"
        behavior = each["spec"]["behavior"]
        if behavior["scaleUp"]["stabilizationWindowSeconds"] != 0:
            yield "waits before it scales up"
        if behavior["scaleDown"]["stabilizationWindowSeconds"] < 300:
            yield "forgets a peak within minutes"
    least, most = bounds(docs)
    if not 1 <= least < most:
        yield f"no room to scale: {least} to {most}"


def probed(docs: list[Document]) -> Iterator[str]:
    """A minute to start; out of service within a second or two; never restarted for Redis' sake."""
    for name in ("api", "envoy"):
        each = container(front(docs), name)
        ready, start = each["readinessProbe"], each["startupProbe"]
        if (ready["periodSeconds"], ready["failureThreshold"]) != (1, 1):
            yield f"{name}: unready only after several looks"
        if start["periodSeconds"] * start["failureThreshold"] < (60 if name == "api" else 30):
            yield f"{name}: too little time to start"
    live = container(front(docs), "api")["livenessProbe"]
    if live["httpGet"]["path"] != "/livez" or live["periodSeconds"] * live["failureThreshold"] < 10:
        yield "api: restarted for what a restart does not mend"


def roomy(docs: list[Document]) -> Iterator[str]:
    """The server sheds before the kubelet evicts; memory is all there; CPU is not throttled."""
    pod = front(docs)
    sizes = {each["name"]: each.get("emptyDir") for each in pod["volumes"]}
    spool = float(setting(pod, "api", "ADCORE_SPOOL_BYTES_MAX"))
    # A tenth and more above: the forwarder's own files, and what is written between two looks.
    if quantity(sizes["spool"]["sizeLimit"]) < 1.1 * spool:
        yield "the volume is full before the spool is"
    api = container(pod, "api")["resources"]
    if quantity(sizes["run"]["sizeLimit"]) >= quantity(api["limits"]["memory"]) * 1.01:
        yield "the run folder may take more than the container's memory"
    for owner, _, each in pod_specs(docs):
        for one in containers(each):
            resources = one.get("resources", {})
            if resources["requests"]["memory"] != resources["limits"]["memory"]:
                yield f"{owner} {one['name']}: memory that may not be there"
            if owner.endswith("adcore-front") and "cpu" in resources["limits"]:
                yield f"{owner} {one['name']}: CPU is throttled"
    [workers] = [
        each["valueFrom"]["resourceFieldRef"]
        for each in container(pod, "api")["env"]
        if each["name"] == "ADCORE_WORKERS"
    ]
    if (workers["containerName"], workers["resource"]) != ("api", "requests.cpu"):
        yield "workers are not as many as cores"


def addressed(docs: list[Document]) -> Iterator[str]:
    """One address a shard, in order."""
    spec = find(docs, "StatefulSet", "adcore-aggregator")["spec"]
    service = spec["serviceName"]
    [text] = [
        each["data"]["ADCORE_AGGREGATORS"]
        for each in of_kind(docs, "ConfigMap")
        if "ADCORE_AGGREGATORS" in each.get("data", {})
    ]
    wanted = [f"adcore-aggregator-{n}.{service}:24224" for n in range(spec["replicas"])]
    if text.split() != wanted:
        yield f"{text} is not {spec['replicas']} shards"


def judged(docs: list[Document]) -> Iterator[str]:
    """A bad build is found while it has 5 % of the traffic, and within two minutes."""
    for rollout in of_kind(docs, "Rollout"):
        canary = rollout["spec"]["strategy"]["canary"]
        weights = [each["setWeight"] for each in canary["steps"] if "setWeight" in each]
        if weights != [5, 25, 50, 100] or canary["steps"][0] != {"setWeight": 5}:
            yield f"steps of {weights}"
        pauses = [seconds(each["pause"]["duration"]) for each in canary["steps"] if "pause" in each]
        for template in of_kind(docs, "AnalysisTemplate"):
            for metric in template["spec"]["metrics"]:
                late = SCRAPE_S + found_after_s(metric)
                if late > LATE_S_MAX or late > pauses[0]:
                    yield f"{metric['name']} is found after {late} s"
        used = {each["templateName"] for each in canary["analysis"]["templates"]}
        if used != {each["metadata"]["name"] for each in of_kind(docs, "AnalysisTemplate")}:
            yield "analyses that nobody asks for"


def found_after_s(metric: Document) -> float:
    """Until a metric that is bad from the first second has failed too often."""
    return seconds(metric["initialDelay"]) + metric["failureLimit"] * seconds(metric["interval"])


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([smh])", text).groups()
    return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]


RULES = (stopping, idling, scaled, measured, probed, roomy, addressed, judged)
