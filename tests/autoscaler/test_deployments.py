"""Scaling by the `scale` subresource, whatever the API server says."""

import socket

import pytest
from kubernetes.aio import client

from autoscaler.decider import Decision, Tier
from autoscaler.deployments import Deployments
from autoscaler.needs import Need
from tests.autoscaler.cluster import DRAFT, NAMESPACE, TARGET

NAMES = {Tier.TARGET: TARGET, Tier.DRAFT: DRAFT}


def to_have(replicas: int, *, is_settled: bool = True) -> Decision:
    return Decision(Need(float(replicas), "a test"), 1, replicas, is_settled)


@pytest.fixture
def deployments(api_client) -> Deployments:
    return Deployments(api_client, NAMESPACE, NAMES)


async def test_each_tier_gets_its_replicas(cluster, deployments):
    await deployments.scale({Tier.TARGET: to_have(3), Tier.DRAFT: to_have(0)})
    assert (cluster.replicas(TARGET), cluster.replicas(DRAFT)) == (3, 0)
    assert not any(deployments.problems.values())


async def test_what_is_as_it_should_be_is_not_written(cluster, deployments):
    await deployments.scale({Tier.TARGET: to_have(1), Tier.DRAFT: to_have(1)})
    assert cluster.writes == []


async def test_a_tier_of_which_nothing_is_known_is_left_alone(cluster, deployments):
    await deployments.scale({Tier.DRAFT: to_have(2)})
    assert (cluster.replicas(TARGET), cluster.replicas(DRAFT)) == (1, 2)


async def test_fewer_replicas_wait_until_needs_are_known_for_long_enough(cluster, deployments):
    cluster.scale(TARGET, 5)
    await deployments.scale({Tier.TARGET: to_have(2, is_settled=False)})
    assert cluster.replicas(TARGET) == 5
    await deployments.scale({Tier.TARGET: to_have(2)})
    assert cluster.replicas(TARGET) == 2


async def test_what_somebody_else_has_written_since_is_read_again(cluster, deployments):
    cluster.meanwhile = [(TARGET, 7)]
    await deployments.scale({Tier.TARGET: to_have(3)})
    assert cluster.num_conflicts == 1
    assert cluster.replicas(TARGET) == 3


async def test_who_never_stops_to_write_is_left_to_the_next_time(cluster, deployments):
    cluster.meanwhile = [(TARGET, 7), (TARGET, 8), (TARGET, 7)]
    await deployments.scale({Tier.TARGET: to_have(3)})
    assert (cluster.num_conflicts, cluster.replicas(TARGET)) == (3, 7)
    assert "409" in deployments.problems[TARGET]
    await deployments.scale({Tier.TARGET: to_have(3)})
    assert cluster.replicas(TARGET) == 3
    assert not deployments.problems[TARGET]


@pytest.mark.parametrize(
    ("status", "why"),
    [(403, "RBAC must allow get and patch of deployments/scale"), (410, "410: Gone"), (500, "500")],
)
async def test_a_refusal_is_said_and_the_next_time_is_another(cluster, deployments, status, why):
    cluster.refuses = status
    await deployments.scale({Tier.TARGET: to_have(3), Tier.DRAFT: to_have(3)})
    assert why in deployments.problems[TARGET]
    assert why in deployments.problems[DRAFT]
    cluster.refuses = 0
    await deployments.scale({Tier.TARGET: to_have(3)})
    assert cluster.replicas(TARGET) == 3


async def test_an_api_server_that_is_away_harms_nothing():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        host = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with client.ApiClient(client.Configuration(host=host)) as api_client:
            deployments = Deployments(api_client, NAMESPACE, NAMES)
            await deployments.scale({Tier.TARGET: to_have(3)})
    assert "the API server is away" in deployments.problems[TARGET]
