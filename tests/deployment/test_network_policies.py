"""The network policies let exactly those calls through that a deployment makes."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from tests.deployment.edges import OUTSIDE, Edge, edges
from tests.deployment.manifests import (
    BEFORE,
    COMPONENTS,
    OVERLAYS,
    Manifest,
    labels_of,
    of_kind,
    render,
    render_with,
)

BASE: set[Edge] = {
    ("clients", "orchestrator", "50050/TCP"),
    ("orchestrator", "target", "50052/TCP"),
    ("orchestrator", "draft", "50051/TCP"),
    ("orchestrator", "dns", "53/UDP"),
    ("orchestrator", "dns", "53/TCP"),
}

PROCESSES = ("target", "draft", "orchestrator")

ADDED: dict[str, set[Edge]] = {
    "valkey": {("orchestrator", "valkey", "6379/TCP")},
    "redis": {(each, "redis", "6379/TCP") for each in PROCESSES}
    | {(each, "dns", f"53/{protocol}") for each in PROCESSES for protocol in ("UDP", "TCP")},
    "prometheus": {
        ("prometheus", "target", "9102/TCP"),
        ("prometheus", "draft", "9101/TCP"),
        ("prometheus", "orchestrator", "9100/TCP"),
        ("prometheus", "gateway", "9103/TCP"),
    },
    "gateway": {(each.name, "gateway", "8000/TCP") for each in OUTSIDE}
    | {
        ("gateway", "orchestrator", "50050/TCP"),
        ("gateway", "dns", "53/UDP"),
        ("gateway", "dns", "53/TCP"),
    },
    "autoscaler": {
        ("autoscaler", "orchestrator", "50050/TCP"),
        ("autoscaler", "target", "50052/TCP"),
        ("autoscaler", "draft", "50051/TCP"),
        ("autoscaler", "dns", "53/UDP"),
        ("autoscaler", "dns", "53/TCP"),
        # The API server's address is the cluster's: the component lets all through.
        ("autoscaler", "internet", "443/TCP"),
        ("autoscaler", "redis", "443/TCP"),
    },
    "keda-external": {("keda", "autoscaler", "50053/TCP")},
    "gateway-api": {("routers", "orchestrator", "50050/TCP")},
}
"""What components add to the calls of the base; the others add none."""


def wanted(components: list[str], manifests: list[Manifest]) -> set[Edge]:
    """The calls that a deployment makes, of those between workloads that it has."""
    there = {
        labels_of(each)["app.kubernetes.io/component"] for each in of_kind(manifests, "Deployment")
    }
    there |= {each.name for each in OUTSIDE}
    every = BASE.union(*(ADDED.get(each, set()) for each in components))
    return {edge for edge in every if {edge[0], edge[1]} <= there}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda each: each.name)
def test_the_policies_of_an_overlay_let_the_wanted_calls_through_and_no_others(overlay: Path):
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    components = [Path(each).name for each in kustomization["components"]]
    manifests = render(overlay)
    assert edges(manifests) == wanted(components, manifests)


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda each: each.name)
def test_a_component_adds_the_calls_that_it_needs_and_no_others(component: Path):
    manifests = render_with(component)
    assert edges(manifests) == wanted([component.name, *BEFORE.get(component.name, ())], manifests)


TWINS = {
    "drafts call targets": lambda policy: policy["spec"]["egress"].append({}),
    "everybody is a client": lambda policy: policy["spec"]["ingress"].append(
        {"ports": [{"port": "grpc"}]}
    ),
    "clients read metrics": lambda policy: policy["spec"]["ingress"][0].pop("ports"),
    "nobody is called": lambda policy: policy["spec"].update(ingress=[]),
    "a port that nobody has": lambda policy: policy["spec"]["ingress"][0].update(
        ports=[{"port": 1}]
    ),
    "only what comes in is judged": lambda policy: policy["spec"].update(policyTypes=["Ingress"]),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_policy_with_a_mistake_lets_other_calls_through(twin: str):
    manifests = deepcopy(render(next(each for each in OVERLAYS if each.name == "demo")))
    role = "draft" if "drafts" in twin else "orchestrator"
    policy = next(
        each
        for each in of_kind(manifests, "NetworkPolicy")
        if each["metadata"]["name"] == f"forethought-{role}"
    )
    TWINS[twin](policy)
    assert edges(manifests) != wanted(["valkey"], manifests)
