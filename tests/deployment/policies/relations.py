"""Policies on how manifests refer to each other."""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.deployment.manifests import Manifest, labels_of, name_of, of_kind, pod_of, selects
from tests.deployment.policies.processes import GIVEN_SECRETS

OTHER_WORKLOADS = {"Pod", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"}


def has_only_deployments(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Pods come from Deployments, which is where the other policies look."""
    yield from (name_of(each) for each in manifests if each["kind"] in OTHER_WORKLOADS)


def has_budgets_and_policies(manifests: Sequence[Manifest]) -> Iterator[str]:
    """One disruption budget and network policies for each Deployment, with selectors that select
    it."""
    for deployment in of_kind(manifests, "Deployment"):
        labels = labels_of(deployment)
        budgets = [
            each
            for each in of_kind(manifests, "PodDisruptionBudget")
            if each["spec"].get("selector", {}).get("matchLabels")
            and selects(each["spec"]["selector"], labels)
        ]
        if len(budgets) != 1:
            yield f"{name_of(deployment)} has {len(budgets)} disruption budgets"
        policies = [
            each
            for each in of_kind(manifests, "NetworkPolicy")
            if selects(each["spec"]["podSelector"], labels)
        ]
        for kind in ("Ingress", "Egress"):
            if not any(kind in each["spec"]["policyTypes"] for each in policies):
                yield f"{name_of(deployment)} has no policy for {kind}"


SELECTORS = {
    "Service": lambda spec: {"matchLabels": spec["selector"]},
    "Deployment": lambda spec: spec["selector"],
    "PodDisruptionBudget": lambda spec: spec.get("selector"),
    "NetworkPolicy": lambda spec: spec["podSelector"],
    "PodMonitor": lambda spec: spec["selector"],
}


def has_selectors_that_match(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Services, budgets, policies and monitors select pods that there are, and name a component:
    none selects all by an empty selector."""
    deployments = of_kind(manifests, "Deployment")
    pods = [labels_of(each) for each in deployments]
    for manifest in manifests:
        if manifest["kind"] not in SELECTORS:
            continue
        selector = SELECTORS[manifest["kind"]](manifest["spec"])
        if not selector or not any(selects(selector, labels) for labels in pods):
            yield f"{name_of(manifest)} selects nothing"
    for deployment in deployments:
        selector = deployment["spec"]["selector"]
        others = [each for each in deployments if each is not deployment]
        if any(selects(selector, labels_of(each)) for each in others):
            yield f"{name_of(deployment)} takes pods of another Deployment"
        for spread in pod_of(deployment).get("topologySpreadConstraints", []):
            if not selects(spread["labelSelector"], labels_of(deployment)):
                yield f"{name_of(deployment)} spreads pods that are not its own"


def leaves_replicas_to_scalers(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Else each apply would undo what a scaler has done."""
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]
        for each in manifests
        if "scaleTargetRef" in each.get("spec", {})
    }
    for deployment in of_kind(manifests, "Deployment"):
        if deployment["metadata"]["name"] in scaled and "replicas" in deployment["spec"]:
            yield f"{name_of(deployment)} says how many it is, and so does its scaler"


def refers_to_what_exists(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Names in manifests are names of manifests, or of what the documents say is to be made."""
    there = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    there |= {("Secret", name) for name in GIVEN_SECRETS}
    there |= {("Secret", each["spec"]["secretName"]) for each in of_kind(manifests, "Certificate")}
    for manifest in manifests:
        for kind, name in _references(manifest):
            if (kind, name) not in there:
                yield f"{name_of(manifest)} refers to {kind}/{name}, which is not there"


def _references(manifest: Manifest) -> Iterator[tuple[str, str]]:
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Deployment":
        yield from _references_of_pod(pod_of(manifest))
    if target := spec.get("scaleTargetRef"):
        yield target.get("kind", "Deployment"), target["name"]
    if issuer := spec.get("issuerRef"):
        yield issuer["kind"], issuer["name"]
    if ca := spec.get("ca"):
        yield "Secret", ca["secretName"]
    if role := manifest.get("roleRef"):
        yield role["kind"], role["name"]
        yield from ((each["kind"], each["name"]) for each in manifest["subjects"])
    for rule in spec.get("rules", []) if manifest["kind"].endswith("Route") else []:
        yield from (("Service", each["name"]) for each in rule["backendRefs"])
    for trigger in spec.get("triggers", []):
        if authentication := trigger.get("authenticationRef"):
            yield "TriggerAuthentication", authentication["name"]
    for secret in spec.get("secretTargetRef", []):
        yield "Secret", secret["name"]


def _references_of_pod(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if name := pod.get("serviceAccountName"):
        yield "ServiceAccount", name
    if name := pod.get("priorityClassName"):
        yield "PriorityClass", name
    for claim in pod.get("resourceClaims", []):
        yield "ResourceClaimTemplate", claim["resourceClaimTemplateName"]
    for volume in pod.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
