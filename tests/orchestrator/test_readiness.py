"""Health follows whether there is a target to serve requests with."""

import asyncio
import time

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from forethought.deployment import Standing
from forethought.rpc.connections.channels import open_channel
from forethought.runtime.supervision import keep_running
from forethought.store.server.breaker import Breaker
from orchestrator.replicas.ejection import Ejection, EjectionSettings
from orchestrator.replicas.readiness import follow
from orchestrator.replicas.replica import SILENCE, Replica
from orchestrator.replicas.replica_set import ReplicaSet
from tests.replicas.tiers import a_fleet
from tests.stack import running_server
from tests.waiting import until

PATIENCE_S = 10.0


class Scene:
    """Two targets, a clock that stands still, and what health says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.said: list[bool] = []
        self.replicas = [
            Replica(name, None, Breaker(SILENCE, lambda: self.now), Standing.SERVING)
            for name in ("a", "b")
        ]
        for each in self.replicas:
            each.ejection = Ejection(
                EjectionSettings(1, first_pause_s=30.0, max_pause_s=30.0), lambda: self.now
            )
        self.targets = ReplicaSet("target", self.replicas)
        self._looks = 0
        change = self.targets.change

        async def counted(timeout_s: float | None = None) -> None:
            self._looks += 1
            await change(None)

        self.targets.change = counted
        self.begin()

    def begin(self) -> None:
        self.task = asyncio.create_task(
            follow(self.targets, self.said.append, PATIENCE_S, lambda: self.now)
        )

    async def at(self, now: float) -> bool:
        """What health says at a time."""
        self.now = now
        looks = self._looks
        self.targets.notify()
        await until(lambda: self._looks > looks)
        return (self.said or [True])[-1]

    def stand(self, *standings: Standing) -> None:
        for replica, standing in zip(self.replicas, standings, strict=True):
            replica.standing = standing


@pytest.fixture
async def scene():
    scene = Scene()
    await until(lambda: scene._looks)
    yield scene
    scene.task.cancel()
    await asyncio.wait((scene.task,))


async def test_one_target_is_enough(scene: Scene):
    scene.stand(Standing.LOST, Standing.SERVING)
    assert await scene.at(1000)


@pytest.mark.parametrize("standing", [Standing.LOST, Standing.CLOSED, Standing.REFUSED])
async def test_without_a_target_it_is_not_serving_once_patience_is_over(scene: Scene, standing):
    scene.stand(standing, standing)
    assert await scene.at(PATIENCE_S - 0.1)
    assert not await scene.at(PATIENCE_S)
    scene.stand(standing, Standing.SERVING)
    assert await scene.at(PATIENCE_S + 0.1)


async def test_a_target_that_is_away_for_a_moment_does_not_show(scene: Scene):
    for start in (0, 20, 40):
        await scene.at(start)
        scene.stand(Standing.LOST, Standing.LOST)
        assert await scene.at(start + PATIENCE_S - 1)
        scene.stand(Standing.SERVING, Standing.LOST)
        assert await scene.at(start + PATIENCE_S)
    assert all(scene.said)


async def test_targets_whose_rounds_fail_are_none_until_they_may_be_probed(scene: Scene):
    for each in scene.replicas:
        each.ejection.failed()
    assert not await scene.at(PATIENCE_S)
    assert await scene.at(30.0)


async def test_it_is_serving_again_after_its_task_has_begun_again(scene: Scene):
    scene.stand(Standing.LOST, Standing.LOST)
    assert not await scene.at(PATIENCE_S)
    scene.task.cancel()
    scene.stand(Standing.SERVING, Standing.SERVING)
    scene.begin()
    assert await scene.at(PATIENCE_S + 1)


async def status_at(address: str) -> int:
    async with open_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        return (await health.Check(health_pb2.HealthCheckRequest())).status


async def test_the_health_of_an_orchestrator_follows_its_targets(tiny_target, tiny_draft):
    async with (
        a_fleet(tiny_target, tiny_draft, num_targets=1) as fleet,
        running_server(lambda _: None) as server,
    ):
        address = f"127.0.0.1:{server.port}"
        following = keep_running(
            "readiness",
            lambda: follow(fleet.known_targets, server.set_ready, 0.0, time.monotonic),
        )
        assert await status_at(address) == health_pb2.HealthCheckResponse.SERVING
        [target] = fleet.targets.values()
        for member in (*fleet.drafts.values(), target):
            await member.die()

        async def is_not_serving() -> bool:
            return await status_at(address) == health_pb2.HealthCheckResponse.NOT_SERVING

        await until(is_not_serving)
        following.cancel()


async def test_a_server_that_drains_stays_not_serving():
    async with running_server(lambda _: None) as server:
        server.set_ready(False)
        assert await status_at(f"127.0.0.1:{server.port}") == 2
        server.set_ready(True)
        assert await status_at(f"127.0.0.1:{server.port}") == 1
        await server.drain()
        server.set_ready(True)
        assert server._health._status == health_pb2.HealthCheckResponse.NOT_SERVING
