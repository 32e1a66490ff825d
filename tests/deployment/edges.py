"""Which calls the network policies of a deployment let through, computed as a cluster would.

A call from one pod to another goes through where the policies that select the caller let it out and
those that select the called pod let it in; a pod that no policy selects is open.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from tests.deployment.manifests import Manifest, containers_of, labels_of, of_kind, selects

HOME = "forethought"  # the namespace


@dataclass(frozen=True)
class Peer:
    """Who calls or is called."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    """Of what is no pod."""
    ports: Mapping[str, str] = field(default_factory=dict)
    """`NUMBER/PROTOCOL`, each with its name."""


_OUTER_PORTS = dict.fromkeys(("53/UDP", "53/TCP", "80/TCP", "443/TCP", "6379/TCP"), "")


def _outer(name: str, namespace: str, labels: Mapping[str, str], **more: Any) -> Peer:
    return Peer(name, namespace, labels, ports=_OUTER_PORTS, **more)


OUTSIDE = (
    _outer("clients", "applications", {"forethought-client": "true"}),
    _outer("strangers", "applications", {"app": "something"}),
    _outer("neighbours", HOME, {"app": "something"}),
    _outer("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"}),
    _outer("dns", "kube-system", {"k8s-app": "kube-dns"}),
    _outer("keda", "keda", {"app": "keda-operator"}),
    _outer("routers", "gateways", {}, namespace_labels={"forethought-routes": "true"}),
    Peer("redis", address="10.20.30.40", ports=_OUTER_PORTS),
    Peer("internet", address="203.0.113.9", ports=_OUTER_PORTS),
)
"""Whoever else there is in a cluster and outside of it."""

Edge = tuple[str, str, str]  # caller, called, port/protocol


def edges(manifests: Sequence[Manifest]) -> set[Edge]:
    """All calls that get through, from or to pods of ours."""
    ours = [peer_of(each) for each in of_kind(manifests, "Deployment")]
    return {
        (caller.name, called.name, port)
        for caller in (*ours, *OUTSIDE)
        for called in (*ours, *OUTSIDE)
        if caller is not called and (caller in ours or called in ours)
        for port in called.ports
        if gets_through(manifests, caller, called, port)
    }


def gets_through(manifests: Sequence[Manifest], caller: Peer, called: Peer, port: str) -> bool:
    """Whether a call to a port (`NUMBER/PROTOCOL`) does."""
    policies = of_kind(manifests, "NetworkPolicy")
    return all(
        _gets(policies, direction, caller, called, port) for direction in ("Egress", "Ingress")
    )


def peer_of(deployment: Manifest) -> Peer:
    """The pods of a Deployment."""
    labels = labels_of(deployment)
    ports = {
        f"{port['containerPort']}/{port.get('protocol', 'TCP')}": port["name"]
        for container in containers_of(deployment)
        for port in container.get("ports", [])
    }
    return Peer(labels["app.kubernetes.io/component"], HOME, labels, ports=ports)


def _gets(
    policies: Sequence[Manifest], direction: str, caller: Peer, called: Peer, port: str
) -> bool:
    own, other = (caller, called) if direction == "Egress" else (called, caller)
    if own.namespace != HOME:
        return True
    selecting = [
        each["spec"]
        for each in policies
        if direction in each["spec"]["policyTypes"]
        and selects(each["spec"]["podSelector"], own.labels)
    ]
    if not selecting:
        return True
    rules: Iterator[Manifest] = (
        rule for spec in selecting for rule in spec.get(direction.lower(), [])
    )
    key = "to" if direction == "Egress" else "from"
    return any(
        (not rule.get(key) or any(_is(peer, other) for peer in rule[key]))
        and (not rule.get("ports") or any(_takes(each, called, port) for each in rule["ports"]))
        for rule in rules
    )


def _is(described: Mapping[str, Any], peer: Peer) -> bool:
    if block := described.get("ipBlock"):
        if not peer.address:
            return False
        inside = [ip_address(peer.address) in ip_network(each) for each in block.get("except", [])]
        return ip_address(peer.address) in ip_network(block["cidr"]) and not any(inside)
    if peer.address:
        return False
    if "namespaceSelector" not in described:
        in_namespace = peer.namespace == HOME
    else:
        labels = {"kubernetes.io/metadata.name": peer.namespace, **peer.namespace_labels}
        in_namespace = selects(described["namespaceSelector"], labels)
    return in_namespace and selects(described.get("podSelector", {}), peer.labels)


def _takes(described: Mapping[str, Any], called: Peer, port: str) -> bool:
    number, protocol = port.split("/")
    if described.get("protocol", "TCP") != protocol:
        return False
    if "port" not in described:
        return True
    if isinstance(described["port"], str):
        return described["port"] == called.ports[port]
    return described["port"] <= int(number) <= described.get("endPort", described["port"])
