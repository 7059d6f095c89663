"""Rules over every combination (tests/kube_rules.py), and a planted fault for each to catch."""

import pytest

from server.config import load
from tests.kube import container, environment, every, find, pod_specs, quantity, rendered
from tests.kube_rules import RULES, ports, references, restricted, selectors

pytestmark = pytest.mark.process

SECRETS = {("adcore-keys", key): "" for key in ("token-key", "user-key", "ops-key", "ledger-key")}
SECRETS |= {("adcore-redis", "url"): "redis://redis.example:6379/0"}
SECRETS |= {("adcore-keys", "token-key"): "0123456789abcdef" * 4}


def pod_of(docs, kind="Deployment", name="adcore-front"):
    return find(docs, kind, name)["spec"]["template"]["spec"]


def test_every_combination_keeps_every_rule():
    faults = {
        (combination, fault)
        for combination, docs in every()
        for rule in RULES
        for fault in rule(docs)
    }
    assert not faults


# -- planted faults: what is broken, and what must be said


def as_root(docs):
    pod_of(docs)["securityContext"]["runAsUser"] = 0


def one_container_as_root(docs):
    container(pod_of(docs), "envoy")["securityContext"]["runAsUser"] = 0


def writable(docs):
    container(pod_of(docs), "api")["securityContext"]["readOnlyRootFilesystem"] = False


def capable(docs):
    security = container(pod_of(docs), "forwarder")["securityContext"]
    security["capabilities"] = {"drop": ["ALL"], "add": ["NET_ADMIN"]}


def with_token(docs):
    del pod_of(docs, "StatefulSet", "adcore-aggregator")["automountServiceAccountToken"]


def of_the_host(docs):
    pod_of(docs)["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def linked(docs):
    pod_of(docs)["enableServiceLinks"] = True


def greedy(docs):
    container(pod_of(docs), "api")["resources"]["limits"]["memory"] = "2Gi"


def selects_all(docs):
    labels = find(docs, "Deployment", "adcore-front")["spec"]["selector"]["matchLabels"]
    del labels["app.kubernetes.io/component"]


def protects_nobody(docs):
    budget = find(docs, "PodDisruptionBudget", "adcore-front")
    budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] = "frnt"


def serves_nobody(docs):
    service = find(docs, "Service", "adcore-front")
    service["spec"]["selector"]["app.kubernetes.io/component"] = "frnt"


def without_settings(docs):
    docs.remove(find(docs, "ConfigMap", "adcore-settings"))


def unknown_key(docs):
    for variable in container(pod_of(docs), "api")["env"]:
        if variable["name"] == "ADCORE_TOKEN_KEY":
            variable["valueFrom"]["secretKeyRef"]["key"] = "token"


def unbounded(docs):
    next(v for v in pod_of(docs)["volumes"] if v["name"] == "spool")["emptyDir"] = {}


def scales_nothing(docs):
    find(docs, "HorizontalPodAutoscaler", "adcore-front")["spec"]["scaleTargetRef"]["name"] = "x"


def wrong_target(docs):
    find(docs, "Service", "adcore-front")["spec"]["ports"][0]["targetPort"] = "ops-port"


def wrong_probe(docs):
    container(pod_of(docs), "api")["livenessProbe"]["httpGet"]["port"] = "http"


def wrong_policy(docs):
    find(docs, "NetworkPolicy", "aggregator")["spec"]["ingress"][0]["ports"][0]["port"] = 24225


def doubled_port(docs):
    container(pod_of(docs), "forwarder")["ports"][0]["containerPort"] = 9091


@pytest.mark.parametrize(
    ("rule", "plant"),
    [
        *((restricted, plant) for plant in (as_root, one_container_as_root, writable, capable)),
        *((restricted, plant) for plant in (with_token, of_the_host, linked, greedy)),
        *((selectors, plant) for plant in (selects_all, protects_nobody, serves_nobody)),
        *((references, plant) for plant in (without_settings, unknown_key, unbounded)),
        (references, scales_nothing),
        *((ports, plant) for plant in (wrong_target, wrong_probe, wrong_policy, doubled_port)),
    ],
)
def test_a_planted_fault_is_caught(rule, plant):
    docs = rendered("production")
    assert not list(rule(docs))
    plant(docs)
    assert list(rule(docs))


# -- what our own processes make of it


def test_every_container_of_ours_takes_its_settings():
    started = set()
    for _, docs in every():
        for name, labels, pod in pod_specs(docs):
            for each in [*pod.get("initContainers", []), *pod["containers"]]:
                image = each["image"].partition(":")[0]
                if image not in ("adcore", "adcore-control"):
                    continue
                command = each["args"][0]
                assert (image == "adcore-control") == (command == "control"), name
                named = labels | {"apps.kubernetes.io/pod-index": "1"}
                found = environment(docs, pod, each["name"], secrets=SECRETS, labels=named)
                config = load(found, needs_token_key=command == "serve")
                assert config.workers >= 1, name
                started.add(command)
    assert {"serve", "forward", "aggregate", "control", "publish"} <= started


def test_a_setting_that_the_server_does_not_know_is_noticed():
    docs = rendered("dev")
    find(docs, "ConfigMap", "adcore-settings")["data"]["ADCORE_NO_SUCH"] = "1"
    with pytest.raises(Exception, match="ADCORE_NO_SUCH: no such setting"):
        load(environment(docs, pod_of(docs), "api", secrets=SECRETS), needs_token_key=True)


def test_pause_pods_are_as_large_as_front_pods():
    docs = rendered("production")
    pod = pod_of(docs)
    headroom = pod_of(docs, "Deployment", "adcore-headroom")["containers"][0]["resources"]
    for resource in ("cpu", "memory"):
        front = sum(
            quantity(each["resources"]["requests"][resource])
            for each in [*pod["initContainers"], *pod["containers"]]
        )
        assert quantity(headroom["requests"][resource]) == pytest.approx(front)


def test_both_entrances_say_the_same():
    ingress = find(rendered("production", "ingress-alb"), "Ingress", "adcore-front")
    notes = ingress["metadata"]["annotations"]
    said = {
        key: value
        for kind in ("target-group", "load-balancer")
        for key, _, value in (
            pair.partition("=")
            for pair in notes[f"alb.ingress.kubernetes.io/{kind}-attributes"].split(",")
        )
    }
    docs = rendered("production", "gateway")
    balancer = find(docs, "LoadBalancerConfiguration", "adcore-front")["spec"]
    target = find(docs, "TargetGroupConfiguration", "adcore-front")["spec"]["defaultConfiguration"]
    attributes = [*balancer["loadBalancerAttributes"], *target["targetGroupAttributes"]]
    assert {each["key"]: each["value"] for each in attributes} == said
    health = target["healthCheckConfig"]
    assert health["healthCheckPath"] == notes["alb.ingress.kubernetes.io/healthcheck-path"]
    interval = notes["alb.ingress.kubernetes.io/healthcheck-interval-seconds"]
    assert str(health["healthCheckInterval"]) == interval
    assert target["targetType"] == notes["alb.ingress.kubernetes.io/target-type"]


@pytest.mark.parametrize("overlay", ["staging", "production"])
@pytest.mark.parametrize("entrance", ["ingress-alb", "gateway"])
def test_the_entrance_has_the_name_that_the_server_is_called_by(overlay, entrance):
    docs = rendered(overlay, entrance)
    host = find(docs, "ConfigMap", "adcore-settings")["data"]["ADCORE_BASE_URL"].split("/")[2]
    if entrance == "ingress-alb":
        named = [rule["host"] for rule in find(docs, "Ingress", "adcore-front")["spec"]["rules"]]
    else:
        named = find(docs, "HTTPRoute", "adcore-front")["spec"]["hostnames"]
    assert named == [host]


def test_one_address_a_shard():
    for _, docs in every():
        named = find(docs, "ConfigMap", "adcore-settings")["data"]["ADCORE_AGGREGATORS"].split()
        replicas = find(docs, "StatefulSet", "adcore-aggregator")["spec"]["replicas"]
        assert named == [
            f"adcore-aggregator-{shard}.adcore-aggregator:24224" for shard in range(replicas)
        ]
