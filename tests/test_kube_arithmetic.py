"""The sums behind k8s/: every overlay keeps them, and a number that is off is caught."""

import json
from itertools import pairwise
from math import cos, tau

import pytest

from server.families import TABLE
from tests import kube_sums
from tests.hpa import Sizes, run
from tests.kube import K8S, OVERLAYS, container, every, find, rendered
from tests.kube_sums import RULES, bounds, disrupted, front

pytestmark = pytest.mark.process

CANARIES = (
    *((overlay, "canary/alb") for overlay in ("staging", "production")),
    *((overlay, "gateway", "canary/gateway") for overlay in ("staging", "production")),
    ("production", "keda", "canary/alb"),
)


def sizing():
    return json.loads((K8S / "terraform/sizing.auto.tfvars.json").read_text())["sizing"]


def pods_a_node():
    own = sizing()
    return (own["node_cpu_m"] - own["daemons_cpu_m"]) // own["pod_cpu_m"]


def faults_of(docs):
    found = [fault for rule in RULES for fault in rule(docs)]
    return [*found, *disrupted(docs, pods_a_node())]


def test_every_combination_keeps_every_sum():
    found = {(names, fault) for names, docs in list(every()) for fault in faults_of(docs)}
    assert not found


@pytest.mark.parametrize("names", CANARIES, ids="+".join)
def test_canaries_keep_every_sum(names):
    docs = rendered(*names)
    assert not faults_of(docs)
    # Its pods have another label by which they are spread.
    assert {
        label
        for each in front(docs)["topologySpreadConstraints"]
        for label in each["matchLabelKeys"]
    } == {"rollouts-pod-template-hash"}
    assert find(docs, "Rollout", "adcore-front")["spec"]["workloadRef"]["name"] == "adcore-front"


# -- planted faults: what is off, and what must be said


def api(docs):
    return container(front(docs), "api")


def spec(docs, kind, name="adcore-front"):
    return find(docs, kind, name)["spec"]


def annotate(docs, name, old, new):
    annotations = find(docs, "Ingress", "adcore-front")["metadata"]["annotations"]
    name = f"alb.ingress.kubernetes.io/{name}"
    assert old in annotations[name]
    annotations[name] = annotations[name].replace(old, new)


def hook(docs, place, text):
    api(docs)["lifecycle"]["preStop"]["exec"]["command"][place] = text


def env(docs, name, value):
    [found] = [each for each in api(docs)["env"] if each["name"] == name]
    found.pop("valueFrom", None)
    found["value"] = value


def closes_early(docs):
    config = find(docs, "ConfigMap", "adcore-envoy")["data"]
    assert "idle_timeout: 75s  # longer" in config["envoy.yaml"]
    config["envoy.yaml"] = config["envoy.yaml"].replace("idle_timeout: 75s", "idle_timeout: 60s")


def volume(docs, name, size):
    [found] = [each for each in front(docs)["volumes"] if each["name"] == name]
    found["emptyDir"]["sizeLimit"] = size


def another_autoscaler(docs):
    docs.append(find(rendered("production", "keda"), "ScaledObject", "adcore-front"))


def diluted(docs):
    metric = spec(docs, "HorizontalPodAutoscaler")["metrics"][0]
    metric["type"], metric["resource"] = "Resource", metric.pop("containerResource")


def forgotten_shard(docs):
    spec(docs, "StatefulSet", "adcore-aggregator")["replicas"] += 1


def scales_the_deployment(docs):
    spec(docs, "HorizontalPodAutoscaler")["scaleTargetRef"]["kind"] = "Deployment"


def behavior(docs, way):
    return spec(docs, "HorizontalPodAutoscaler")["behavior"][way]


TARGETS, BALANCER = "target-group-attributes", "load-balancer-attributes"
PLANTS = {
    "deregistered": lambda docs: annotate(docs, TARGETS, "seconds=15", "seconds=25"),
    "hook too long": lambda docs: hook(docs, 5, "42"),
    "hook upside down": lambda docs: hook(docs, 3, "41"),
    "api slow to end": lambda docs: env(docs, "ADCORE_KILL_TIMEOUT_S", "5"),
    "drained twice": lambda docs: env(docs, "ADCORE_DRAIN_S", "3"),
    "little grace": lambda docs: front(docs).update(terminationGracePeriodSeconds=58),
    "balancer idle": lambda docs: annotate(docs, BALANCER, "seconds=60", "seconds=75"),
    "proxy idle": closes_early,
    "serial drain": lambda docs: spec(docs, "PodDisruptionBudget").update(maxUnavailable="20%"),
    "small fleet": lambda docs: spec(docs, "HorizontalPodAutoscaler").update(minReplicas=16),
    "fixed replicas": lambda docs: spec(docs, "Deployment").update(replicas=20),
    "two autoscalers": another_autoscaler,
    "lost target": lambda docs: spec(docs, "HorizontalPodAutoscaler")["scaleTargetRef"].update(
        name="adcore"
    ),
    "diluted": diluted,
    "no room": lambda docs: spec(docs, "HorizontalPodAutoscaler").update(maxReplicas=20),
    "hesitant": lambda docs: behavior(docs, "scaleUp").update(stabilizationWindowSeconds=15),
    "hasty": lambda docs: behavior(docs, "scaleDown").update(stabilizationWindowSeconds=60),
    "slow to leave": lambda docs: api(docs)["readinessProbe"].update(failureThreshold=2),
    "start": lambda docs: api(docs)["startupProbe"].update(failureThreshold=30),
    "restarts": lambda docs: api(docs)["livenessProbe"]["httpGet"].update(path="/ping"),
    "spool": lambda docs: volume(docs, "spool", "1Gi"),
    "run": lambda docs: volume(docs, "run", "2Gi"),
    "overcommitted": lambda docs: api(docs)["resources"]["requests"].update(memory="512Mi"),
    "throttled": lambda docs: api(docs)["resources"]["limits"].update(cpu="1"),
    "workers": lambda docs: next(
        each for each in api(docs)["env"] if each["name"] == "ADCORE_WORKERS"
    )["valueFrom"]["resourceFieldRef"].update(resource="requests.memory"),
    "shards": forgotten_shard,
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_a_number_that_is_off_is_caught(plant):
    docs = rendered("production")
    assert not faults_of(docs)
    plant(docs)
    assert len(faults_of(docs)) == 1


def metrics_of(docs):
    return spec(docs, "AnalysisTemplate", "adcore-front-money")["metrics"]


def steps(docs):
    return spec(docs, "Rollout")["strategy"]["canary"]["steps"]


CANARY_PLANTS = {
    "deployment scaled": scales_the_deployment,
    "late": lambda docs: metrics_of(docs)[0].update(interval="60s", failureLimit=2),
    "impatient": lambda docs: steps(docs)[1]["pause"].update(duration="1m"),
    "large first step": lambda docs: steps(docs)[0].update(setWeight=10),
    "unused": lambda docs: spec(docs, "Rollout")["strategy"]["canary"]["analysis"][
        "templates"
    ].pop(),
}


@pytest.mark.parametrize("plant", CANARY_PLANTS.values(), ids=CANARY_PLANTS)
def test_a_canary_that_is_off_is_caught(plant):
    docs = rendered("production", "canary/alb")
    plant(docs)
    assert faults_of(docs)


# -- what stands twice


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_keda_scales_as_the_autoscaler_that_it_takes_the_place_of(overlay):
    own, other = rendered(overlay), rendered(overlay, "keda")
    assert bounds(own) == bounds(other)
    hpa, keda = spec(own, "HorizontalPodAutoscaler"), spec(other, "ScaledObject")
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    cpu, rate = keda["triggers"]
    assert cpu["metadata"] == {"containerName": "api", "value": "60"}
    assert float(rate["metadata"]["threshold"]) == sizing()["pod_rate_target"]
    namespace = find(other, "Deployment", "adcore-front")["metadata"]["namespace"]
    assert f'namespace="{namespace}"' in rate["metadata"]["query"]
    assert bounds(other)[0] <= keda["fallback"]["replicas"] <= bounds(other)[1]


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_both_services_of_a_canary_are_as_the_one_they_take_the_place_of(overlay):
    docs = rendered(overlay, "gateway", "canary/gateway")
    docs += rendered(overlay, "canary/alb")
    for name in ("stable", "canary", "ping", "pong"):
        own = spec(docs, "Service", f"adcore-front-{name}")
        assert own == spec(rendered(overlay), "Service"), name
    targets = kube_sums.of_kind(docs, "TargetGroupConfiguration")
    stable, canary = (each["spec"] for each in targets)
    assert stable["defaultConfiguration"] == canary["defaultConfiguration"]
    names = {each["targetReference"]["name"] for each in (stable, canary)}
    assert names == {"adcore-front-stable", "adcore-front-canary"}
    plugins = spec(docs[: len(docs) // 2 + 3], "Rollout")["strategy"]["canary"]["trafficRouting"]
    namespace = find(rendered(overlay), "Deployment", "adcore-front")["metadata"]["namespace"]
    assert plugins["plugins"]["argoproj-labs/gatewayAPI"]["namespace"] == namespace


def test_analyses_and_triggers_ask_for_metrics_that_there_are():
    ours = {f"{each.name}_total" for each in TABLE.families if each.kind == "counter"}
    docs = rendered("production", "keda", "canary/alb")
    texts = json.dumps(docs)
    asked = set(kube_sums.re.findall(r"\badcore_\w+_total\b", texts))
    assert {"adcore_decisions_total", "adcore_cleared_ecpm_micros_total"} < asked <= ours


# -- the autoscaler at work


def sizes(headroom=5):
    return Sizes(sizing()["pod_rate_held"], pods_a_node(), headroom)


def autoscaler():
    return spec(rendered("production"), "HorizontalPodAutoscaler")


def test_replicas_carry_what_production_must():
    least, most = bounds(rendered("production"))
    own = sizing()
    assert own["rate"] == kube_sums.RATE
    assert most * own["pod_rate_target"] >= own["rate"]
    # With a node's pods away, and a zone's after that, it is still what pods hold.
    assert (least - pods_a_node()) * 2 // 3 * own["pod_rate_held"] >= own["rate"]
    assert find(rendered("production"), "Deployment", "adcore-headroom")["spec"]["replicas"] == (
        pods_a_node()
    )


def threefold(at_s):
    """From where the least replicas are at their target, to three times that."""
    return 20 * 3_900 * (1 if at_s < 120 else 3)


def shocked(spec, **how):
    """Three times the load, and a spot node gone a minute later: the busiest second of a pod."""
    headroom = how.pop("headroom", 5)
    found = run(spec, sizes(headroom), threefold, 900, pods=20, node_lost_at_s=180, **how)
    return max(each.pod_rate for each in found), found


def test_three_times_the_load_and_a_lost_node_saturate_no_pod():
    busiest, found = shocked(autoscaler())
    assert busiest <= sizes().held
    # Within five minutes every pod is below 60 % of what it holds again, and it stays so.
    assert all(each.pod_rate < 0.6 * sizes().held for each in found[420:])


def test_without_headroom_or_in_small_steps_it_would_not_be_so():
    assert shocked(autoscaler(), headroom=0)[0] > sizes().held
    slow = autoscaler()
    slow["behavior"]["scaleUp"]["policies"] = [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    assert shocked(slow)[0] > sizes().held
    late = autoscaler() | {"maxReplicas": 22}
    assert shocked(late)[1][-1].pod_rate > 0.6 * sizes().held


def test_requests_a_second_are_faster_than_cpu():
    def asked_for(found, count):
        return next(each.at_s for each in found if each.pods >= count)

    _, by_cpu = shocked(autoscaler())
    busiest, by_rate = shocked(autoscaler(), target=3_900, linear=True)
    assert busiest <= sizes().held
    assert asked_for(by_rate, 60) + 60 <= asked_for(by_cpu, 60)


def day(at_s):
    """From 65,000 to 195,000 requests a second and back, up and down by 15 % every other minute."""
    smooth = 130_000 - 65_000 * cos(tau * at_s / 86_400)
    return smooth * (1.15 if at_s // 120 % 2 else 0.85)


def turns(found):
    """How often it went the other way."""
    ways = [b.pods > a.pods for a, b in pairwise(found) if b.pods != a.pods]
    return sum(a != b for a, b in pairwise(ways))


def test_a_day_is_followed_without_flapping_and_without_waste():
    found = run(autoscaler(), sizes(), day, 86_400, pods=20)
    assert max(each.pod_rate for each in found) < 0.5 * sizes().held
    assert turns(found) <= 10
    asked = sum(max(20, day(each.at_s) / 3_900) for each in found)
    assert sum(each.pods for each in found) < 1.4 * asked
    hasty = autoscaler()
    hasty["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = 0
    assert turns(run(hasty, sizes(), day, 86_400, pods=20)) > 100
