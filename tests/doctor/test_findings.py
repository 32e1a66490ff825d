"""What is wrong with a deployment, from what its orchestrators say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from forethought.cli.doctor.examination import Examined
from forethought.cli.doctor.findings import Finding, find
from forethought.deployment import (
    Certificate,
    DeploymentState,
    ReplicaState,
    Standing,
    StoreState,
    TierState,
)
from forethought.errors import HandshakeError, RemoteError
from forethought.tier import ModelInfo

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = ModelInfo("model", "f" * 32, "v" * 32, 12, 64, "float32", "cpu", 8)


def certificate(days_left: float, days: float = 90) -> Certificate:
    end = NOW + timedelta(days=days_left)
    return Certificate(end - timedelta(days=days), end)


REPLICA = ReplicaState("10.0.0.1:1", Standing.SERVING, "", False, 3, MODEL, certificate(60))
OTHER = replace(REPLICA, address="10.0.0.2:1")
WELL = DeploymentState(
    version=MODEL.version,
    not_ready="",
    tiers=(TierState("target", (REPLICA, OTHER)), TierState("draft", (REPLICA,))),
    store=StoreState("", 0),
    num_requests=3,
    max_requests=256,
    num_rounds=500,
    num_draft_tokens=2000,
    num_accepted_tokens=1200,
)


def examined(state: DeploymentState | None = WELL, **changes) -> Examined:
    return Examined("one:50050", state and replace(state, **changes), None, certificate(60))


def with_target(**changes) -> Examined:
    return examined(tiers=(TierState("target", (replace(REPLICA, **changes), OTHER)),))


def the_finding(*seen: Examined) -> Finding:
    [finding] = find(seen, NOW)
    return finding


def test_of_a_deployment_that_is_well_nothing_is_found():
    assert find([examined(), examined()], NOW) == []


@pytest.mark.parametrize(
    ("seen", "where", "what"),
    [
        (
            with_target(standing=Standing.LOST, why="no route"),
            "target 10.0.0.1:1",
            "does not answer: no route",
        ),
        (
            with_target(standing=Standing.REFUSED, why="b (2) is not a (1)"),
            "target 10.0.0.1:1",
            "is not used: b (2) is not a (1)",
        ),
        (with_target(standing=Standing.CLOSED), "target 10.0.0.1:1", "loads or drains"),
        (with_target(is_ejected=True), "target 10.0.0.1:1", "is kept out"),
        (with_target(certificate=certificate(-1)), "target 10.0.0.1:1", "has expired"),
        (with_target(certificate=certificate(8)), "target 10.0.0.1:1", "expires in 8 days"),
        (with_target(certificate=certificate(0.1, 2)), "target 10.0.0.1:1", "in 2 hours"),
        (
            with_target(model=replace(MODEL, model_fingerprint="other")),
            "target tier",
            "its replicas serve 2 models",
        ),
        (
            with_target(model=replace(MODEL, version="9.9")),
            "deployment",
            "several versions run: 0.1.0, 9.9",
        ),
        (examined(tiers=(TierState("target", ()),)), "target tier", "stands for no replica"),
        (examined(not_ready="it waits"), "orchestrator one:50050", "not ready: it waits"),
        (examined(num_requests=256), "orchestrator one:50050", "full: 256 requests"),
        (examined(store=StoreState("no connection", 0)), "store", "no connection"),
        (examined(store=StoreState("", 2)), "store", "2 sessions are not written yet"),
        (examined(num_accepted_tokens=100), "draft tier", "only 5% of its tokens"),
        (
            Examined("one:50050", None, RemoteError("no server", code="UNAVAILABLE"), None),
            "orchestrator one:50050",
            "no server",
        ),
    ],
)
def test_each_fault_is_found_where_it_is(seen, where, what):
    finding = the_finding(seen)
    assert finding.where == where
    assert what in finding.what
    assert finding.advice


def test_a_fault_that_two_orchestrators_see_is_one():
    seen = with_target(standing=Standing.LOST, why="no route")
    assert the_finding(seen, replace(seen, address="two:50050")).where == "target 10.0.0.1:1"


def test_a_lost_draft_is_said_to_change_no_answer():
    lost = replace(REPLICA, standing=Standing.LOST)
    seen = examined(tiers=(TierState("draft", (lost,)),))
    assert "answers are the same without it, and slower" in the_finding(seen).advice


def test_a_certificate_that_lives_for_a_day_is_not_always_about_to_expire():
    assert find([with_target(certificate=certificate(0.5, 1))], NOW) == []


def test_where_tls_fails_the_flags_are_named():
    seen = Examined("one:1", None, HandshakeError("its certificate has expired"), None)
    assert "--tls-ca" in the_finding(seen).advice
