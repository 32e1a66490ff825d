"""Sessions over several target replicas: placed, moved, and the same text as ever."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog

from forethought.deployment import Standing
from forethought.errors import ModelMismatchError, OverloadedError, TierUnavailableError
from orchestrator import generator
from orchestrator.tiers.patience import ReopenOptions
from orchestrator.tiers.remote_verifier import RemoteVerifier
from orchestrator.tiers.round_limit import RoundLimit
from tests.lifecycle.requests import SEEDED, Reader, asking
from tests.ports import free_port
from tests.replicas.tiers import EXACT, a_fleet, a_target
from tests.stack import generate
from tests.waiting import until

PARAMS = pytest.mark.parametrize("params", EXACT.values(), ids=EXACT)


@asynccontextmanager
async def reading(fleet, request):
    """An answer that is read in the background. Leaving the context cancels it."""
    reader = Reader()
    task = asyncio.create_task(reader.read(fleet.client, request))
    try:
        yield reader, task
    finally:
        task.cancel()
        await asyncio.wait((task,))


@asynccontextmanager
async def held_midway(fleet, request, num_passes=9):
    """The same, with the target that has the session held in the midst of a round."""
    for member in fleet.targets.values():
        member.gate.allow(num_passes)
    async with reading(fleet, request) as (reader, task):
        held = await until(
            lambda: next((each for each in fleet.targets.values() if each.gate.is_holding), None)
        )
        for other in fleet.others(held):
            other.gate.open()
        yield reader, task, held


@PARAMS
async def test_a_session_whose_target_dies_goes_on_elsewhere_with_the_same_text(
    long_target, long_draft, params
):
    async with a_fleet(long_target, long_draft) as fleet:
        expected = await generate(fleet.client, asking(params))
        async with held_midway(fleet, asking(params)) as (reader, task, held):
            await held.die()
            await task
        await fleet.until_nothing_is_held(*fleet.others(held))
    assert [token.token_id for token in reader.tokens] == expected.token_ids
    assert [token.index for token in reader.tokens] == list(range(len(expected.tokens)))


async def test_rejection_with_a_seed_draws_the_same_on_the_other_target(long_target, long_draft):
    async with a_fleet(long_target, long_draft) as fleet:
        expected = await generate(fleet.client, asking(SEEDED))
        async with held_midway(fleet, asking(SEEDED)) as (reader, task, held):
            await held.die()
            await task
    assert [token.token_id for token in reader.tokens] == expected.token_ids


async def test_a_session_that_is_opened_with_another_seed_elsewhere_says_something_else(
    long_target, long_draft, monkeypatch
):
    """The broken twin of the above: what it compares would differ."""

    class Forgetful(RemoteVerifier):
        async def _open(self, session):
            if self._keeper.home is not None:
                session = replace(session, sampling=replace(session.sampling, seed=1))
            return await super()._open(session)

    monkeypatch.setattr(generator, "RemoteVerifier", Forgetful)
    async with a_fleet(long_target, long_draft) as fleet:
        expected = await generate(fleet.client, asking(EXACT["coupled"]))
        async with held_midway(fleet, asking(EXACT["coupled"])) as (reader, task, held):
            await held.die()
            await task
    assert [token.token_id for token in reader.tokens] != expected.token_ids


async def test_the_next_replica_is_not_waited_for(long_target, long_draft):
    """An interval between attempts that no test would survive."""
    never = ReopenOptions(patience_s=600, interval_s=600)
    async with (
        a_fleet(long_target, long_draft, reopen=never) as fleet,
        held_midway(fleet, asking()) as (_, task, held),
    ):
        await held.die()
        await asyncio.wait_for(task, 30)


@PARAMS
async def test_sessions_leave_a_replica_that_drains_between_two_rounds(
    long_target, long_draft, params
):
    async with a_fleet(long_target, long_draft) as fleet:
        expected = await generate(fleet.client, asking(params))
        async with held_midway(fleet, asking(params)) as (reader, task, held):
            held.close_to_sessions()
            await until(lambda: fleet.known(held).standing is Standing.CLOSED)
            # The round under way is answered here, the next one elsewhere.
            held.gate.allow(1)
            await task
        assert not held.gate.is_holding
        await fleet.until_nothing_is_held(*fleet.others(held))
        assert not held.num_sessions
    assert [token.token_id for token in reader.tokens] == expected.token_ids


async def test_a_drain_ends_as_soon_as_the_sessions_have_left(long_target, long_draft):
    async with a_fleet(long_target, long_draft) as fleet:
        async with held_midway(fleet, asking()) as (reader, task, held):
            held.server._options = replace(held.server._options, drain_grace_s=600)
            draining = asyncio.create_task(held.server.drain())
            await until(lambda: fleet.known(held).standing is Standing.CLOSED)
            held.gate.allow(1)
            await asyncio.wait_for(draining, 60)
            assert not held.gate.is_holding
            await task
            await until(lambda: fleet.known(held).standing is Standing.LOST)
        assert reader.finished


async def test_a_replica_that_drains_keeps_its_session_where_there_is_no_other(
    long_target, long_draft
):
    async with a_fleet(long_target, long_draft, num_targets=1) as fleet:
        async with held_midway(fleet, asking()) as (reader, task, held):
            held.close_to_sessions()
            await until(lambda: fleet.known(held).standing is Standing.CLOSED)
            held.gate.open()
            await task
        assert reader.finished


async def test_a_replica_that_drains_gets_no_new_sessions(long_target, long_draft):
    async with a_fleet(long_target, long_draft) as fleet:
        leaving, staying = fleet.targets.values()
        leaving.close_to_sessions()
        await until(lambda: fleet.known(leaving).standing is Standing.CLOSED)
        num_before = leaving.gate.num_passes
        for first in range(3, 9):
            await generate(fleet.client, replace(asking(max_tokens=4), prompt=(first, 4, 5)))
        assert leaving.gate.num_passes == num_before
        assert staying.gate.num_passes


@PARAMS
async def test_a_round_that_is_never_answered_is_asked_of_another_replica(
    long_target, long_draft, params
):
    hasty = ReopenOptions(patience_s=30, round_limit=RoundLimit(floor_s=0.3, factor=0))
    async with a_fleet(long_target, long_draft, reopen=hasty) as fleet:
        expected = await generate(fleet.client, asking(params))
        async with held_midway(fleet, asking(params)) as (reader, task, held):
            await task
            assert held.gate.is_holding
            held.gate.open()
            await fleet.until_nothing_is_held(*fleet.targets.values())
    assert [token.token_id for token in reader.tokens] == expected.token_ids


async def test_a_round_that_is_never_answered_is_waited_for_where_there_is_no_other_replica(
    long_target, long_draft
):
    hasty = ReopenOptions(patience_s=30, round_limit=RoundLimit(floor_s=0.01, factor=0))
    async with a_fleet(long_target, long_draft, reopen=hasty) as fleet:
        lost, _ = fleet.targets.values()
        await lost.die()
        await until(lambda: not fleet.known(lost).is_healthy)
        with structlog.testing.capture_logs() as logs:
            async with held_midway(fleet, asking()) as (reader, task, held):
                for _ in range(3):
                    held.gate.allow(1)
                    await held.gate.until_holding()
                held.gate.open()
                await task
    assert reader.finished
    assert not [log for log in logs if log["event"] == "target_lost"]


async def test_sessions_that_begin_alike_meet_the_same_cache(long_target, long_draft):
    beginning = tuple(3 + number % 7 for number in range(64))
    async with a_fleet(long_target, long_draft, num_targets=3) as fleet:
        for end in range(3, 9):
            request = replace(asking(max_tokens=2), prompt=(*beginning, end))
            await generate(fleet.client, request)
        used = [each for each in fleet.targets.values() if each.gate.num_passes]
    assert len(used) == 1


async def test_sessions_that_begin_alike_are_spread_where_they_are_many(long_target, long_draft):
    request = asking(max_tokens=1000)
    async with a_fleet(long_target, long_draft) as fleet:
        for member in fleet.targets.values():
            member.gate.allow(0)
        tasks = [asyncio.create_task(Reader().read(fleet.client, request)) for _ in range(12)]
        try:
            await until(lambda: sum(each.num_sessions for each in fleet.targets.values()) == 12)
            counts = sorted(each.num_sessions for each in fleet.targets.values())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    assert counts[0] >= 3


class TestAReplicaWithAnotherModel:
    async def test_is_refused_for_itself_and_not_for_the_deployment(self, long_target, long_draft):
        address = f"127.0.0.1:{free_port()}"
        fleet_over = a_fleet(long_target, long_draft, num_targets=1, more_targets=[address])
        with structlog.testing.capture_logs() as logs:
            async with fleet_over as fleet, a_target(long_draft, address) as stranger:
                await until(lambda: fleet.known(stranger).standing is Standing.REFUSED)
                await generate(fleet.client, asking())
                assert fleet.known(stranger).num_refusals == 1
                assert not stranger.gate.num_passes
        refused = [log for log in logs if log["event"] == "replica_refused"]
        assert [log["address"] for log in refused] == [address]
        assert long_target.info.model_fingerprint in refused[0]["why"]

    async def test_does_not_end_sessions_when_it_takes_the_place_of_a_lost_one(
        self, long_target, long_draft
    ):
        async with a_fleet(long_target, long_draft) as fleet:
            expected = await generate(fleet.client, asking())
            async with held_midway(fleet, asking()) as (reader, task, held):
                await held.die()
                async with a_target(long_draft, held.address):
                    await until(lambda: fleet.known(held).standing is Standing.REFUSED)
                    await task
                    again = await generate(fleet.client, asking())
        assert reader.text == again.text == expected.text

    async def test_has_sessions_once_it_is_started_with_the_right_one(
        self, long_target, long_draft
    ):
        address = f"127.0.0.1:{free_port()}"
        fleet_over = a_fleet(long_target, long_draft, num_targets=1, more_targets=[address])
        async with fleet_over as fleet:
            [known] = [each for each in fleet.known_targets.all if each.address == address]
            async with a_target(long_draft, address):
                await until(lambda: known.standing is Standing.REFUSED)
            async with a_target(long_target, address) as member:
                await until(lambda: known.standing is Standing.SERVING)
                for other in fleet.targets.values():
                    await other.die()
                    await until(lambda other=other: not fleet.known(other).is_healthy)
                await generate(fleet.client, asking())
                assert member.gate.num_passes

    async def test_is_named_when_no_other_is_left(self, long_target, long_draft):
        async with a_fleet(long_target, long_draft, num_targets=1) as fleet:
            [lost] = fleet.targets.values()
            await lost.die()
            async with a_target(long_draft, lost.address):
                await until(lambda: fleet.known(lost).standing is Standing.REFUSED)
                with pytest.raises(ModelMismatchError, match="start the orchestrator again"):
                    await generate(fleet.client, asking())


async def test_the_orchestrator_starts_with_the_first_replica_that_is_there(
    long_target, long_draft
):
    nowhere = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    async with a_fleet(
        long_target, long_draft, num_targets=1, num_drafts=0, more_targets=nowhere
    ) as fleet:
        assert (await generate(fleet.client, asking(num_speculative_tokens=0))).tokens


async def test_a_new_session_goes_on_to_the_next_replica_where_one_is_full(long_target, long_draft):
    async with a_fleet(long_target, long_draft) as fleet:
        expected = await generate(fleet.client, asking())
        [home] = [each for each in fleet.targets.values() if each.gate.num_passes]

        def refuse(*_):
            raise OverloadedError("full", retry_after_s=60)

        home.tier.engine.open = refuse
        assert (await generate(fleet.client, asking())).text == expected.text
        for other in fleet.others(home):
            other.tier.engine.open = refuse
        with pytest.raises(OverloadedError):
            await generate(fleet.client, asking())


async def test_all_targets_lost_is_unavailable_when_patience_ends(long_target, long_draft):
    reopen = ReopenOptions(patience_s=0.3, interval_s=0.05)
    async with (
        a_fleet(long_target, long_draft, reopen=reopen) as fleet,
        held_midway(fleet, asking()) as (_, task, held),
    ):
        for member in (*fleet.others(held), held):
            await member.die()
        with pytest.raises(TierUnavailableError):
            await task


@PARAMS
async def test_a_target_that_comes_back_is_waited_for_when_all_are_lost(
    long_target, long_draft, params
):
    async with a_fleet(long_target, long_draft) as fleet:
        expected = await generate(fleet.client, asking(params))
        async with held_midway(fleet, asking(params)) as (reader, task, held):
            for member in (*fleet.others(held), held):
                await member.die()
            async with a_target(long_target, held.address):
                await task
    assert reader.text == expected.text
