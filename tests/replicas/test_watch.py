"""What the orchestrator knows of replicas: health, load, and who is there at all."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from forethought.deployment import Standing
from forethought.rpc.connections.name_resolution import NameResolver
from forethought.store.server.breaker import BreakerState
from orchestrator.replicas.replica import TARGET
from orchestrator.replicas.replica_watch import WatchOptions, watching
from tests.lifecycle.gates import cable_to
from tests.ports import free_port
from tests.replicas.tiers import SOON, a_target
from tests.waiting import until

KEY = b"k"


@asynccontextmanager
async def one_watched(model, options=SOON):
    """A target, the way to it, and what is known of it."""
    async with (
        a_target(model) as member,
        cable_to(member.address) as cable,
        watching(TARGET, (cable.address,), options=options) as replicas,
    ):
        [replica] = replicas.all
        await until(lambda: replica.standing is Standing.SERVING)
        yield member, cable, replicas, replica


async def test_a_replica_is_known_to_be_lost_when_its_connection_is(tiny_target):
    async with one_watched(tiny_target) as (member, _, replicas, replica):
        await member.die()
        await until(lambda: replica.standing is Standing.LOST)
        assert replicas.choose(KEY) is None


async def test_a_replica_that_comes_back_is_known_to_be_back(tiny_target):
    address = f"127.0.0.1:{free_port()}"
    async with watching(TARGET, (address,), options=SOON) as replicas:
        [replica] = replicas.all
        await until(lambda: replica.standing is Standing.LOST)
        for _ in range(2):
            async with a_target(tiny_target, address):
                await until(lambda: replica.standing is Standing.SERVING)
            await until(lambda: replica.standing is not Standing.SERVING)


async def test_a_replica_that_hangs_is_ejected_and_taken_back_by_one_answer(tiny_target):
    hasty = WatchOptions(poll_s=0.02, poll_timeout_s=0.1)
    async with one_watched(tiny_target, hasty) as (_, cable, replicas, replica):
        cable.freeze()
        await until(lambda: replica.breaker.state is BreakerState.OPEN)
        assert not replica.is_healthy
        assert replica.num_ejections > 0
        # With nobody else there, it is better than nothing.
        assert replicas.choose(KEY) is replica
        assert not replicas.has_other(())
        cable.thaw()
        await until(lambda: replica.is_healthy)


async def test_a_replica_that_nobody_has_heard_of_yet_may_be_tried():
    async with watching(TARGET, ("127.0.0.1:1", "127.0.0.1:2")) as replicas:
        assert replicas.choose(KEY).standing is Standing.UNKNOWN


async def test_sessions_count_as_load_as_soon_as_they_come_and_until_they_go(
    tiny_target,
):
    async with one_watched(tiny_target, WatchOptions(poll_s=60)) as (_, _, replicas, replica):
        before = replica.load
        replicas.choose(KEY)
        assert replica.load == before + 1
        replicas.leave(replica)
        assert replica.load == before


class TestAName:
    @pytest.fixture
    def records(self, monkeypatch):
        """What all names stand for."""
        found = set()

        async def look(_, still_serves):
            return dict.fromkeys(found, "targets:1")

        monkeypatch.setattr(NameResolver, "look", look)
        return found

    OPTIONS = WatchOptions(poll_s=0.05, first_pause_s=0.02, resolve_s=0.01)

    async def test_is_followed_when_its_records_change(self, tiny_target, records):
        async with a_target(tiny_target) as one, a_target(tiny_target) as two:
            records.add(one.address)
            async with watching(TARGET, ("targets:1",), options=self.OPTIONS) as replicas:
                [first] = replicas.all
                records.add(two.address)
                await until(lambda: len(replicas.all) == 2)
                records.remove(one.address)
                await until(lambda: len(replicas.all) == 1)
                assert first.is_leaving
                await until(lambda: replicas.should_leave(first))
                assert replicas.choose(KEY).address == two.address

    async def test_may_have_no_records_for_a_while(self, tiny_target, records):
        async with (
            a_target(tiny_target) as member,
            watching(TARGET, ("targets:1",), options=self.OPTIONS) as replicas,
        ):
            assert replicas.choose(KEY) is None
            waiting = asyncio.create_task(replicas.change(20))
            await asyncio.sleep(0)
            records.add(member.address)
            await waiting
            assert replicas.choose(KEY).address == member.address

    async def test_may_stand_for_hundreds_of_which_few_serve(self, tiny_target, records):
        addresses = {f"127.0.{index // 250 + 1}.{index % 250}:1" for index in range(300)}
        async with a_target(tiny_target) as member:
            records |= {member.address, *addresses}
            async with watching(TARGET, ("targets:1",), options=self.OPTIONS) as replicas:
                assert len(replicas.all) == 301
                await until(lambda: replicas.is_usable)
                await until(lambda: replicas.choose(KEY).address == member.address)
                records -= addresses
                await until(lambda: len(replicas.all) == 1)
                assert replicas.is_usable
