"""One of several autoscalers leads, and none that cannot renew its lease."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from kubernetes.aio import client

from autoscaler.leader import Candidate, Leadership
from tests.autoscaler.cluster import LEASE, NAMESPACE
from tests.waiting import until


class Clock:
    """Time that passes when a test lets it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._passed = asyncio.Event()

    def time(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            await self._passed.wait()

    async def pass_until(self, condition: Callable[[], bool], step_s: float = 1.0) -> float:
        """Lets time pass until something is so; returns how much."""
        began_s = self.now_s

        def is_so() -> bool:
            if condition():
                return True
            self.now_s += step_s
            self._passed.set()
            self._passed = asyncio.Event()
            return False

        await until(is_so)
        return self.now_s - began_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def candidate(clock, api_client) -> AsyncIterator[Callable[[str], Leadership]]:
    stood: list[Leadership] = []

    def stand(identity: str, client: client.ApiClient = api_client) -> Leadership:
        stood.append(Leadership(client, Candidate(NAMESPACE, LEASE, identity), clock=clock))
        return stood[-1]

    yield stand
    for each in stood:
        await each.close()


async def test_of_two_one_leads_for_as_long_as_it_renews(candidate, clock, cluster):
    first, second = candidate("first"), candidate("second")
    await clock.pass_until(lambda: first.is_leader or second.is_leader)
    leader = first if first.is_leader else second
    for _ in range(10):
        num_writes = len(cluster.writes)
        await clock.pass_until(lambda: len(cluster.writes) > num_writes)  # noqa: B023
        assert [each for each in (first, second) if each.is_leader] == [leader]


async def test_who_ends_gives_the_lease_back(candidate, clock):
    first = candidate("first")
    await clock.pass_until(lambda: first.is_leader)
    second = candidate("second")
    await first.close()
    assert not first.is_leader
    assert await clock.pass_until(lambda: second.is_leader) < 10


async def test_after_a_leader_that_vanished_another_one_leads_when_the_lease_is_over(
    candidate, clock, cluster
):
    first = candidate("first")
    await clock.pass_until(lambda: first.is_leader)
    first._task.cancel()  # killed
    second = candidate("second")
    assert await clock.pass_until(lambda: second.is_leader) >= 15
    assert not first.is_leader


@pytest.mark.parametrize("status", [403, 410, 500])
async def test_who_cannot_renew_leads_no_longer_before_the_lease_is_free(
    candidate, clock, cluster, status
):
    leader = candidate("first")
    await clock.pass_until(lambda: leader.is_leader)
    cluster.refuses = status
    assert await clock.pass_until(lambda: not leader.is_leader, step_s=0.5) < 15
    await until(lambda: leader.problem)
    cluster.refuses = 0
    await clock.pass_until(lambda: leader.is_leader)
    assert not leader.problem


async def test_a_lease_that_somebody_took_between_two_calls_is_not_held(candidate, clock, cluster):
    leader = candidate("first")
    await clock.pass_until(lambda: leader.is_leader)
    lease = next(each for path, each in cluster.objects.items() if path.endswith(LEASE))
    lease["spec"] |= {"holderIdentity": "other", "renewTime": "2026-01-01T00:00:00.000000Z"}
    lease["metadata"]["resourceVersion"] = "99"
    await clock.pass_until(lambda: not leader.is_leader)
    assert await clock.pass_until(lambda: leader.is_leader) >= 10


async def test_an_api_server_that_is_away_ends_no_election(candidate, clock, cluster):
    configuration = client.Configuration(host="http://127.0.0.1:1")
    async with client.ApiClient(configuration) as api_client:
        leader = candidate("first", api_client)
        await clock.pass_until(lambda: bool(leader.problem))
        assert not leader.is_leader
        configuration.host = cluster.url
        api_client.configuration.host = cluster.url
        await clock.pass_until(lambda: leader.is_leader)
        await leader.close()
