"""The manifests render, fit Kubernetes' schemas, and keep to our policies; broken ones do not."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import kubernetes_validate
import pytest

from tests.deployment import policies
from tests.deployment.manifests import (
    COMPONENTS,
    OVERLAYS,
    Manifest,
    containers_of,
    name_of,
    of_kind,
    pod_of,
    render,
    render_with,
)
from tests.deployment.policies import POLICIES, Policy

KUBERNETES = "1.37"
CUSTOM = {"PodMonitor"}  # of operators, whose schemas are not Kubernetes'


@pytest.fixture(scope="module")
def demo() -> list[Manifest]:
    return render(next(each for each in OVERLAYS if each.name == "demo"))


@pytest.fixture(scope="module")
def production() -> list[Manifest]:
    return render(next(each for each in OVERLAYS if each.name == "production"))


def check(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    broken = [text for policy in POLICIES for text in policy(manifests) if not _is_choice(text)]
    assert not broken


def _is_choice(problem: str) -> bool:
    """The base leaves images to overlays."""
    return problem.endswith("has no tag that stays") and "forethought-" in problem


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda each: each.name)
def test_an_overlay_is_valid_and_keeps_to_the_policies(overlay: Path):
    manifests = render(overlay)
    check(manifests)
    assert not list(policies.names_its_images(manifests))


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda each: each.name)
def test_each_component_works_with_the_base_alone(component: Path, tmp_path: Path):
    check(render_with(component, tmp_path))


def test_a_misspelt_field_does_not_fit_the_schemas(demo):
    deployment = deepcopy(of_kind(demo, "Deployment")[0])
    pod_of(deployment)["terminationGracePeriod"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


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
        text = config["data"]["forethought.toml"]
        assert old in text
        config["data"]["forethought.toml"] = text.replace(old, new)


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
        policies.is_restricted,
        lambda m: pod_of(_deployment(m, "draft"))["securityContext"].update(runAsUser=0),
    ),
    "writable": (
        policies.is_restricted,
        lambda m: _container(m)["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    "capabilities": (
        policies.is_restricted,
        lambda m: _container(m)["securityContext"].pop("capabilities"),
    ),
    "token": (
        policies.has_no_token,
        lambda m: pod_of(_deployment(m, "target")).pop("automountServiceAccountToken"),
    ),
    "service links": (
        policies.has_no_token,
        lambda m: pod_of(_deployment(m, "target")).update(enableServiceLinks=True),
    ),
    "latest": (
        policies.names_its_images,
        lambda m: _container(m).update(image="registry.example:5000/forethought-target:latest"),
    ),
    "no tag": (
        policies.names_its_images,
        lambda m: _container(m).update(image="registry.example:5000/forethought-target"),
    ),
    "no limit": (policies.has_limits, lambda m: _container(m)["resources"].pop("limits")),
    "no probe": (policies.has_probes, lambda m: _container(m).pop("startupProbe")),
    "impatient": (
        policies.has_probes,
        lambda m: _container(m)["livenessProbe"].update(failureThreshold=1),
    ),
    "restarted for what others do": (
        policies.has_probes,
        lambda m: _container(m)["livenessProbe"]["httpGet"].update(path="/readyz"),
    ),
    "no budget": (policies.has_budgets_and_policies, lambda m: _drop(m, "PodDisruptionBudget")),
    "budget without selector": (policies.has_budgets_and_policies, _unselect),
    "no network policy": (policies.has_budgets_and_policies, lambda m: _drop(m, "NetworkPolicy")),
    "service of nobody": (policies.has_selectors_that_match, _mistake),
    "short grace": (
        policies.ends_in_time,
        lambda m: pod_of(_deployment(m, "target")).update(terminationGracePeriodSeconds=30),
    ),
    "long drain": (
        policies.ends_in_time,
        lambda m: _edit_config(m, "[target]\n", "[target]\ndrain_grace_s = 60\n"),
    ),
    "surge of GPUs": (
        policies.has_no_surge_of_gpus,
        lambda m: _deployment(m, "target")["spec"]["strategy"]["rollingUpdate"].update(maxSurge=1),
    ),
    "another port": (
        policies.listens_where_it_is_called,
        lambda m: _container(m)["ports"][0].update(containerPort=50053),
    ),
    "target that is nowhere": (
        policies.listens_where_it_is_called,
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


def test_a_key_that_is_no_setting_is_refused(demo):
    broken = deepcopy(demo)
    _edit_config(broken, "kv_memory", "kv_memroy")
    with pytest.raises(ValueError, match="kv_memroy"):
        list(policies.processes(broken))


def test_variables_are_settings(production):
    for role, deployment, settings in policies.processes(production):
        known = {
            f"FORETHOUGHT_{role.upper()}_{name.upper()}" for name in type(settings).model_fields
        }
        known |= {"FORETHOUGHT_CONFIG"}
        for container in containers_of(deployment):
            names = {each["name"] for each in container.get("env", [])}
            assert names <= known, name_of(deployment)
