"""Who reaches whom by a set of NetworkPolicies: Kubernetes' rules, as slow and plain Python.

A pod that no policy selects takes and sends everything; one that some select, what any of them
lets through. A connection needs both: the sender's egress and the receiver's ingress.
"""

import ipaddress
from dataclasses import dataclass, field

from tests.kube import Document
from tests.kube_rules import matches


@dataclass(frozen=True)
class Peer:
    """A pod with labels, in a namespace; or, without labels, an address outside of the cluster."""

    labels: dict[str, str] | None = None
    namespace: str = "adcore"
    address: str = ""
    ours: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ours", self.labels is not None and self.namespace == "adcore")


def allowed(
    policies: list[Document], source: Peer, target: Peer, port: int, protocol="TCP"
) -> bool:
    sends = not source.ours or _passes(policies, "egress", source, target, (port, protocol))
    takes = not target.ours or _passes(policies, "ingress", target, source, (port, protocol))
    return sends and takes


def _passes(
    policies: list[Document], way: str, pod: Peer, other: Peer, port: tuple[int, str]
) -> bool:
    selecting = [
        policy["spec"]
        for policy in policies
        if way.capitalize() in policy["spec"]["policyTypes"]
        and matches(policy["spec"]["podSelector"], pod.labels)
    ]
    end = "to" if way == "egress" else "from"
    return not selecting or any(
        _has_port(rule, port) and (end not in rule or any(_is(peer, other) for peer in rule[end]))
        for spec in selecting
        for rule in spec.get(way, [])
    )


def _has_port(rule: Document, port: tuple[int, str]) -> bool:
    listed = rule.get("ports")
    return not listed or port in {(each["port"], each.get("protocol", "TCP")) for each in listed}


def _is(peer: Document, other: Peer) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        if not other.address:
            return False
        address = ipaddress.ip_address(other.address)
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(cidr) for cidr in block.get("except", [])
        )
    if other.labels is None:
        return False
    if "namespaceSelector" in peer:
        name = {"kubernetes.io/metadata.name": other.namespace}
        if not matches(peer["namespaceSelector"], name):
            return False
    elif other.namespace != "adcore":
        return False
    return matches(peer.get("podSelector", {}), other.labels)
