"""Who may reach whom: exactly this list, and nothing that is not on it."""

import copy
import itertools

import pytest

from tests.kube import containers, find, pod_specs, rendered
from tests.kube_network import Peer, allowed

pytestmark = pytest.mark.process

DNS = Peer({"k8s-app": "kube-dns"}, "kube-system")
NODE_CACHE = Peer(address="169.254.20.10")
BALANCER = Peer(address="10.20.30.40")  # any address of our network, so a Redis endpoint too
INTERNET = Peer(address="203.0.113.9")
SCRAPERS = {space: Peer({"app": "agent"}, space) for space in ("monitoring", "datadog")}
STRANGER = Peer({"app": "other"}, "default")
OUTSIDE = {
    "dns": DNS,
    "node-cache": NODE_CACHE,
    "network": BALANCER,
    "internet": INTERNET,
    "stranger": STRANGER,
    **SCRAPERS,
}
PORTS = (53, 80, 443, 5432, 6379, 8080, 8081, 9091, 9092, 9901, 9902, 24224, 26379)
ASKING = ("front", "aggregator", "control", "publish")  # of names, and of Redis

LEDGER = {("network", "front", 8080), ("front", "aggregator", 24224)}
NAMES = {(each, dns, 53) for each in ASKING for dns in ("dns", "node-cache")}
SCRAPES = {
    (scraper, target, port)
    for scraper in SCRAPERS
    for target, port in (
        ("front", 9091), ("front", 9092), ("front", 9902), ("aggregator", 9091), ("control", 9091)
    )
}  # fmt: skip
EXTERNAL = {(each, "network", 6379) for each in ASKING}
SENTINEL = {
    (each, "redis", port) for each in (*ASKING, "redis") for port in (6379, 26379)
} | {("redis", dns, 53) for dns in ("dns", "node-cache")}  # fmt: skip


def reach(docs):
    """Everything that passes, of all pairs of peers and all ports that one of them has open."""
    policies = [each for each in docs if each["kind"] == "NetworkPolicy"]
    peers = dict(OUTSIDE)
    opened = {}
    for _, labels, pod in pod_specs(docs):
        component = labels["app.kubernetes.io/component"]
        peers[component] = Peer(labels)
        opened[component] = {
            p["containerPort"] for each in containers(pod) for p in each.get("ports", [])
        }
    return {
        (source, target, port)
        for (source, target), port in itertools.product(itertools.permutations(peers, 2), PORTS)
        if (peers[source].ours or peers[target].ours)
        and (target not in opened or port in opened[target])
        and allowed(policies, peers[source], peers[target], port, "UDP" if port == 53 else "TCP")
    } | {
        (name, name, port)
        for name in opened
        for port in opened[name]
        if allowed(policies, peers[name], peers[name], port)
    }


@pytest.mark.parametrize("nodes", ["nodes/asg", "nodes/karpenter"])
@pytest.mark.parametrize(
    ("redis", "its"), [("redis-external", EXTERNAL), ("redis-sentinel", SENTINEL)]
)
def test_exactly_what_is_listed_passes(nodes, redis, its):
    docs = rendered("production", nodes, redis, "publish")
    assert reach(docs) == LEDGER | NAMES | SCRAPES | its


def test_without_the_default_all_would_pass():
    docs = rendered("production", "publish")
    docs.remove(find(docs, "NetworkPolicy", "default-deny"))
    assert ("front", "internet", 443) not in reach(docs)  # front has a policy of its own
    assert ("headroom", "internet", 443) in reach(docs)  # and pause pods have none


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("front", "ingress"),
        ("front", "egress"),
        ("aggregator", "ingress"),
        ("allow-dns", "egress"),
        ("allow-metrics", "ingress"),
        ("redis-clients", "egress"),
    ],
)
def test_each_line_is_needed_and_each_port_is_meant(name, way):
    docs = rendered("production", "publish")
    whole = reach(docs)
    less = copy.deepcopy(docs)
    del find(less, "NetworkPolicy", name)["spec"][way]
    assert reach(less) < whole
    more = copy.deepcopy(docs)
    del find(more, "NetworkPolicy", name)["spec"][way][0]["from" if way == "ingress" else "to"]
    assert reach(more) > whole
