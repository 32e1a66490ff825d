"""Peers that fall silent without a word: frozen, or behind a network that loses everything."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
import structlog

import orchestrator.__main__ as orchestrator_process
from forethought.errors import OpeningTimeoutError, TierProtocolError, TierUnavailableError
from forethought.rpc.connections.channels import KeepAlive, open_channel
from forethought.rpc.session_stream import serve_session
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Draft
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.loop.session import Session
from orchestrator.replicas.replica import TARGET
from orchestrator.replicas.replica_watch import watching
from orchestrator.tiers import remote_verifier
from orchestrator.tiers.patience import ReopenOptions
from orchestrator.tiers.remote_verifier import RemoteVerifier
from orchestrator.tiers.stream_keeper import StreamState
from tests.errors.refusals import refusal_of
from tests.lifecycle.gates import cable_to
from tests.lifecycle.servers import target_tier_at
from tests.ports import free_port
from tests.stack import running_stack
from tests.waiting import NOTHING_HELD, target_load, until

SHORT = KeepAlive(interval_s=0.5, timeout_s=2.0)
"""A peer is lost soon, but not because this process waits for a processor."""
SESSION = Session("s", (3, 4, 5), 100, SamplingParams(temperature=0))


@asynccontextmanager
async def a_session_on_a_cable(target, *, server, client, patience_s=0.1):
    """A session that is open, the cable it runs over, and a stub that goes another way."""
    address = f"127.0.0.1:{free_port()}"
    async with (
        target_tier_at(address, target, server),
        open_channel(address) as direct,
        cable_to(address) as cable,
        open_channel(cable.address, client) as channel,
    ):
        reopen = ReopenOptions(patience_s=patience_s, interval_s=0.05)
        verifier = RemoteVerifier(TargetServiceStub(channel), target.info, reopen=reopen)

        async def opened():
            with suppress(TierUnavailableError):
                await verifier.start(SESSION)
            return verifier._keeper.state is StreamState.OPEN

        await until(opened)  # a busy machine may take longer than this patience
        yield verifier, cable, TargetServiceStub(direct)
        verifier.close()


async def test_a_server_frees_what_it_holds_for_a_client_that_fell_silent(long_target):
    async with a_session_on_a_cable(long_target, server=SHORT, client=None) as (_, cable, direct):
        assert (await target_load(direct)).num_sessions == 1
        cable.freeze()

        async def is_free():
            return await target_load(direct) == NOTHING_HELD

        await until(is_free)


async def test_a_round_on_a_target_that_fell_silent_ends_without_a_deadline(long_target):
    async with a_session_on_a_cable(long_target, server=None, client=SHORT) as (verifier, cable, _):
        cable.freeze()
        with pytest.raises(TierUnavailableError):
            await asyncio.wait_for(verifier.verify(SESSION, Draft()), 60)


async def test_a_target_that_was_silent_for_a_while_goes_on(long_target):
    a_session = a_session_on_a_cable(long_target, server=None, client=SHORT, patience_s=200)
    async with a_session as (verifier, cable, _):
        with structlog.testing.capture_logs() as logs:
            cable.freeze()
            task = asyncio.create_task(verifier.verify(SESSION, Draft()))
            await until(lambda: any(entry["event"] == "target_lost" for entry in logs))
            cable.thaw()
            assert await task


async def test_a_server_does_not_mind_the_pings_of_a_client_that_thinks(long_target):
    """Some pings more than the server allows, and it would end the connection."""
    client, server = KeepAlive(0.5, 5.0), KeepAlive(0.8, 5.0)
    a_session = a_session_on_a_cable(long_target, server=server, client=client)
    async with a_session as (verifier, cable, _):
        stream = verifier._keeper.stream
        await until(lambda: cable.num_pings > 4)
        await verifier.verify(SESSION, Draft())
        assert verifier._keeper.stream is stream


async def test_an_opening_that_is_never_answered_ends_with_patience(long_target, monkeypatch):
    a_session = a_session_on_a_cable(long_target, server=None, client=None)
    async with a_session as (verifier, cable, _):
        monkeypatch.setattr(remote_verifier, "MIN_OPENING_S", 0.1)
        verifier.close()
        cable.freeze()
        with pytest.raises(TierUnavailableError, match="opening"):
            await asyncio.wait_for(verifier.start(SESSION), 60)


async def test_a_stream_that_never_opens_a_session_is_ended():
    async def silence():
        await asyncio.Event().wait()
        yield

    stream = serve_session(silence(), lambda _: None, opening_timeout_s=0.01)
    with pytest.raises(OpeningTimeoutError, match=r"within 0\.01 s"):
        await anext(stream)


async def test_a_client_that_never_opens_its_session_is_told_so(tiny_target, monkeypatch):
    monkeypatch.setitem(serve_session.__kwdefaults__, "opening_timeout_s", 0.1)
    async with running_stack(tiny_target) as stack:
        refusal = await refusal_of(stack.target_stub.Verify(timeout=60).read())
    assert (refusal.code, refusal.reason) == ("DEADLINE_EXCEEDED", "OPENING_TIMEOUT")


class TestTheOrchestratorThatLooksForItsTarget:
    async def test_says_again_and_again_that_it_is_not_there(self, monkeypatch):
        monkeypatch.setattr(orchestrator_process, "WARNING_INTERVAL_S", 0.01)
        address = f"127.0.0.1:{free_port()}"
        async with watching(TARGET, (address,)) as targets:
            with structlog.testing.capture_logs() as logs:
                task = asyncio.create_task(orchestrator_process.find_target(targets))
                await until(lambda: sum(log["event"] == "target_not_ready" for log in logs) > 1)
            task.cancel()

    async def test_ends_when_something_else_is_there(self, tiny_target):
        async with (
            running_stack(tiny_target, tiny_target.proposer()) as stack,
            watching(TARGET, (stack.draft_address,)) as targets,
        ):
            finding = orchestrator_process.find_target(targets)
            with pytest.raises(TierProtocolError, match="no target tier at 127"):
                await asyncio.wait_for(finding, 60)
