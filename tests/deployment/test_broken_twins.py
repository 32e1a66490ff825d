"""Each policy is broken once, and notices."""

from collections.abc import Callable
from copy import deepcopy

import pytest

from tests.deployment.manifests import (
    COMPONENTS,
    OVERLAYS,
    Manifest,
    of_kind,
    pod_of,
    render,
    render_with,
)
from tests.deployment.policies import Policy, certificates, pods, ports, processes, relations


@pytest.fixture
def production() -> list[Manifest]:
    return list(deepcopy(render(next(each for each in OVERLAYS if each.name == "production"))))


def _deployment(manifests: list[Manifest], role: str) -> Manifest:
    return next(
        each
        for each in of_kind(manifests, "Deployment")
        if each["metadata"]["name"] == f"forethought-{role}"
    )


def _container(manifests: list[Manifest]) -> Manifest:
    return pod_of(_deployment(manifests, "target"))["containers"][0]


def _edit_config(manifests: list[Manifest], old: str, new: str) -> None:
    for config in of_kind(manifests, "ConfigMap"):
        if text := config["data"].get("forethought.toml"):
            assert old in text
            config["data"]["forethought.toml"] = text.replace(old, new)


def _pod(manifests: list[Manifest]) -> Manifest:
    return pod_of(_deployment(manifests, "target"))


def _drop(manifests: list[Manifest], kind: str) -> None:
    manifests[:] = [each for each in manifests if each["kind"] != kind]


def _unselect(manifests: list[Manifest]) -> None:
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        del budget["spec"]["selector"]


def _mistake(manifests: list[Manifest]) -> None:
    for service in of_kind(manifests, "Service"):
        service["spec"]["selector"]["app.kubernetes.io/component"] = "tarket"


TWINS: dict[str, tuple[Policy, Callable[[list[Manifest]], object]]] = {
    "root": (
        pods.is_restricted,
        lambda m: pod_of(_deployment(m, "draft"))["securityContext"].update(runAsUser=0),
    ),
    "writable": (
        pods.is_restricted,
        lambda m: _container(m)["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    "capabilities": (
        pods.is_restricted,
        lambda m: _container(m)["securityContext"].pop("capabilities"),
    ),
    "token": (
        pods.has_no_token,
        lambda m: pod_of(_deployment(m, "target")).pop("automountServiceAccountToken"),
    ),
    "service links": (
        pods.has_no_token,
        lambda m: pod_of(_deployment(m, "target")).update(enableServiceLinks=True),
    ),
    "latest": (
        pods.names_its_images,
        lambda m: _container(m).update(image="registry.example:5000/forethought-target:latest"),
    ),
    "no tag": (
        pods.names_its_images,
        lambda m: _container(m).update(image="registry.example:5000/forethought-target"),
    ),
    "node's network": (pods.is_restricted, lambda m: _pod(m).update(hostNetwork=True)),
    "node's files": (
        pods.is_restricted,
        lambda m: _pod(m)["volumes"].append({"name": "node", "hostPath": {"path": "/"}}),
    ),
    "node's port": (
        pods.is_restricted,
        lambda m: _container(m)["ports"][0].update(hostPort=50052),
    ),
    "privileges": (
        pods.is_restricted,
        lambda m: _container(m)["securityContext"].update(allowPrivilegeEscalation=True),
    ),
    "root in one container": (
        pods.is_restricted,
        lambda m: _container(m)["securityContext"].update(runAsUser=0),
    ),
    "no seccomp profile": (
        pods.is_restricted,
        lambda m: _pod(m)["securityContext"].pop("seccompProfile"),
    ),
    "throttled": (pods.has_limits, lambda m: _container(m)["resources"]["limits"].update(cpu="1")),
    "no request": (pods.has_limits, lambda m: _container(m)["resources"].pop("requests")),
    "probe of no port": (
        pods.has_probes,
        lambda m: _container(m)["readinessProbe"]["httpGet"].update(port="metrics"),
    ),
    "no limit": (pods.has_limits, lambda m: _container(m)["resources"].pop("limits")),
    "no probe": (pods.has_probes, lambda m: _container(m).pop("startupProbe")),
    "impatient": (
        pods.has_probes,
        lambda m: _container(m)["livenessProbe"].update(failureThreshold=1),
    ),
    "restarted for what others do": (
        pods.has_probes,
        lambda m: _container(m)["livenessProbe"]["httpGet"].update(path="/readyz"),
    ),
    "no budget": (relations.has_budgets_and_policies, lambda m: _drop(m, "PodDisruptionBudget")),
    "budget without selector": (relations.has_budgets_and_policies, _unselect),
    "no network policy": (relations.has_budgets_and_policies, lambda m: _drop(m, "NetworkPolicy")),
    "service of nobody": (relations.has_selectors_that_match, _mistake),
    "deployment of others' pods": (
        relations.has_selectors_that_match,
        lambda m: _deployment(m, "draft")["spec"]["selector"]["matchLabels"].pop(
            "app.kubernetes.io/component"
        ),
    ),
    "spread of others": (
        relations.has_selectors_that_match,
        lambda m: _pod(m)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].update(
            {"app.kubernetes.io/component": "draft"}
        ),
    ),
    "a pod by itself": (
        relations.has_only_deployments,
        lambda m: m.append({"kind": "Pod", "metadata": {"name": "alone"}}),
    ),
    "no service account": (
        relations.refers_to_what_exists,
        lambda m: _drop(m, "ServiceAccount"),
    ),
    "no claim": (
        relations.refers_to_what_exists,
        lambda m: _drop(m, "PersistentVolumeClaim"),
    ),
    "no priority class": (relations.refers_to_what_exists, lambda m: _drop(m, "PriorityClass")),
    "replicas said twice": (
        relations.leaves_replicas_to_scalers,
        lambda m: _deployment(m, "orchestrator")["spec"].update(replicas=2),
    ),
    "scales nothing": (
        relations.refers_to_what_exists,
        lambda m: of_kind(m, "HorizontalPodAutoscaler")[0]["spec"]["scaleTargetRef"].update(
            name="forethought"
        ),
    ),
    "service to no port": (
        ports.lead_to_containers,
        lambda m: of_kind(m, "Service")[0]["spec"]["ports"][0].update(targetPort="http"),
    ),
    "monitor of no port": (
        ports.lead_to_containers,
        lambda m: of_kind(m, "PodMonitor")[0]["spec"]["podMetricsEndpoints"][0].update(
            port="metrics"
        ),
    ),
    "not scraped": (
        processes.is_scraped,
        lambda m: of_kind(m, "PodMonitor")[0]["spec"]["selector"]["matchExpressions"][0][
            "values"
        ].remove("draft"),
    ),
    "short grace": (
        processes.ends_in_time,
        lambda m: pod_of(_deployment(m, "target")).update(terminationGracePeriodSeconds=30),
    ),
    "long drain": (
        processes.ends_in_time,
        lambda m: _edit_config(m, "[target]\n", "[target]\ndrain_grace_s = 60\n"),
    ),
    "surge of GPUs": (
        pods.has_no_surge_of_devices,
        lambda m: _deployment(m, "target")["spec"]["strategy"]["rollingUpdate"].update(maxSurge=1),
    ),
    "another port": (
        processes.listens_where_it_is_called,
        lambda m: _container(m)["ports"][0].update(containerPort=50053),
    ),
    "loopback alone": (
        processes.listens_where_it_is_called,
        lambda m: _edit_config(m, 'admin_listen = "0.0.0.0:9102"', 'admin_listen = "[::1]:9102"'),
    ),
    "target that is nowhere": (
        processes.listens_where_it_is_called,
        lambda m: _edit_config(m, "forethought-target:50052", "forethought-target:50051"),
    ),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_broken_twin_breaks_its_policy(production, twin: str):
    policy, break_it = TWINS[twin]
    assert not list(policy(production))
    broken = deepcopy(production)
    break_it(broken)
    assert list(policy(broken))


def _forget(manifests: list[Manifest], role: str, *parts: str) -> None:
    """Variables with one of these in their names."""
    container = pod_of(_deployment(manifests, role))["containers"][0]
    container["env"] = [
        each for each in container["env"] if not any(part in each["name"] for part in parts)
    ]


def _first_of(manifests: list[Manifest], kind: str) -> Manifest:
    return of_kind(manifests, kind)[0]["spec"]


TWINS_OF_COMPONENTS: dict[str, tuple[str, Policy, Callable[[list[Manifest]], object]]] = {
    "route to no service": (
        "gateway-api",
        relations.refers_to_what_exists,
        lambda m: _first_of(m, "GRPCRoute")["rules"][0]["backendRefs"][0].update(name="other"),
    ),
    "route to no port": (
        "gateway-api",
        ports.lead_to_services,
        lambda m: _first_of(m, "HTTPRoute")["rules"][0]["backendRefs"][0].update(port=80),
    ),
    "no claim": (
        "dra",
        relations.refers_to_what_exists,
        lambda m: _drop(m, "ResourceClaimTemplate"),
    ),
    "no certificate": (
        "mtls",
        relations.refers_to_what_exists,
        lambda m: _drop(m, "Certificate"),
    ),
    "certificate of another name": (
        "mtls",
        certificates.names_fit,
        lambda m: [each["spec"].update(dnsNames=["other"]) for each in of_kind(m, "Certificate")],
    ),
    "plain text to tiers that speak TLS": (
        "mtls",
        certificates.names_fit,
        lambda m: _forget(m, "orchestrator", "_TIER_TLS_"),
    ),
    "anybody of the CA is let in": (
        "mtls",
        certificates.tiers_ask_for_names,
        lambda m: _forget(m, "target", "_TLS_PEER_NAME"),
    ),
    "a caller without a certificate": (
        "mtls",
        certificates.names_fit,
        lambda m: _forget(m, "orchestrator", "_TIER_TLS_CERT", "_TIER_TLS_KEY"),
    ),
    "gateway in plain text": (
        "mtls",
        certificates.names_fit,
        lambda m: _forget(m, "gateway", "_TIER_TLS_"),
    ),
    "surge of claims": (
        "dra",
        pods.has_no_surge_of_devices,
        lambda m: _deployment(m, "draft")["spec"]["strategy"]["rollingUpdate"].update(maxSurge=1),
    ),
}


@pytest.mark.parametrize("twin", TWINS_OF_COMPONENTS)
def test_a_broken_twin_of_a_component_breaks_its_policy(twin: str):
    name, policy, break_it = TWINS_OF_COMPONENTS[twin]
    whole = render_with(next(each for each in COMPONENTS if each.name == name))
    assert not list(policy(whole))
    broken = list(deepcopy(whole))
    break_it(broken)
    assert list(policy(broken))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("kv_memory", "kv_memroy", "kv_memroy"),
        ('kv_memory = "', 'kv_memory = "much ', "kv_memory"),
        ("[draft]", "[drafts]", "drafts"),
    ],
)
def test_a_process_refuses_a_file_with_a_mistake(production, old: str, new: str, complaint: str):
    _edit_config(production, old, new)
    with pytest.raises(processes.RefusedSettingsError, match=complaint):
        list(processes.processes(production))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"args": ["--kv-memroy", "1GiB"]}, "kv-memroy"),
        ({"env": [{"name": "FORETHOUGHT_TARGET_KV_MEMROY", "value": "1GiB"}]}, "KV_MEMROY"),
    ],
)
def test_a_process_refuses_a_flag_or_a_variable_with_a_mistake(production, change, complaint: str):
    container = _container(production)
    container["env"] = [*container["env"], *change.get("env", [])]
    container["args"] = change.get("args", [])
    with pytest.raises(processes.RefusedSettingsError, match=complaint):
        list(processes.processes(production))
