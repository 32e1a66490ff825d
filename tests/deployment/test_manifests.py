"""The manifests render, fit the schemas of their kinds, and keep to our policies."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from forethought.v1 import generation_pb2
from tests.deployment.manifests import (
    COMPONENTS,
    OVERLAYS,
    Manifest,
    of_kind,
    render,
    render_with,
)
from tests.deployment.policies import POLICIES, pods
from tests.deployment.validation import InvalidManifestError, validate


def check(manifests: Sequence[Manifest]) -> None:
    for manifest in manifests:
        validate(manifest)
    broken = [text for policy in POLICIES for text in policy(manifests) if not _is_choice(text)]
    assert not broken


def _is_choice(problem: str) -> bool:
    """The base leaves images to overlays."""
    return problem.endswith("has no tag that stays") and "forethought-" in problem


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda each: each.name)
def test_an_overlay_is_valid_and_keeps_to_the_policies(overlay: Path):
    manifests = render(overlay)
    check(manifests)
    assert not list(pods.names_its_images(manifests))


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda each: each.name)
def test_each_component_works_with_the_base_alone(component: Path):
    check(render_with(component))


def test_a_misspelt_field_fits_the_schema_of_no_kind():
    one_of_each = {each["kind"]: each for name in COMPONENTS for each in render_with(name)}
    for manifest in one_of_each.values():
        broken = deepcopy(manifest)
        broken.get("spec", broken)["terminationGracePeriod"] = 3
        with pytest.raises(InvalidManifestError):
            validate(broken)


def test_a_kind_without_a_schema_is_not_taken_for_valid():
    with pytest.raises(InvalidManifestError):
        validate({"apiVersion": "example.com/v1", "kind": "Example", "metadata": {"name": "one"}})


def test_a_draft_claims_small_gpus_and_never_just_any():
    (component,) = (each for each in COMPONENTS if each.name == "dra")
    claims = of_kind(render_with(component), "ResourceClaimTemplate")
    (claim,) = (each for each in claims if each["metadata"]["name"] == "forethought-draft")
    (request,) = claim["spec"]["spec"]["devices"]["requests"]
    for choice in request["firstAvailable"]:
        (selector,) = choice["selectors"]
        assert "memory.compareTo(quantity('32Gi')) < 0" in selector["cel"]["expression"]


def test_routes_lead_to_services_of_the_protos():
    (component,) = (each for each in COMPONENTS if each.name == "gateway-api")
    (route,) = of_kind(render_with(component), "GRPCRoute")
    matches = [match for rule in route["spec"]["rules"] for match in rule["matches"]]
    served = {
        each.services_by_name[name].full_name
        for each in (generation_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR)
        for name in each.services_by_name
    }
    assert {match["method"]["service"] for match in matches} == served
