"""The supervisor of a local deployment, with tiers that only speak health."""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from forethought.local.processes.local_deployment import (
    LocalDeployment,
    StartupTimeoutError,
    Tier,
    TierExitedError,
    TierState,
)
from forethought.local.processes.probes import Readiness, probe_grpc_health, probe_redis
from tests.ports import free_port

_FAKE_TIER = Path(__file__).with_name("fakes") / "fake_tier.py"


@pytest.fixture
def tier(monkeypatch):
    """Makes tiers that behave as told."""

    def make(name, behaviour="ready"):
        monkeypatch.setenv(f"FAKE_{name.upper()}", behaviour)
        address = f"127.0.0.1:{free_port()}"
        command = [sys.executable, str(_FAKE_TIER), name, "--listen", address, "--model", "m"]
        return Tier(name, command, address, probe_grpc_health)

    return make


def is_gone(process):
    return not psutil.pid_exists(process.pid)


async def test_tiers_pass_from_starting_over_loading_to_ready(tier, tmp_path):
    seen = []
    deployment = LocalDeployment(
        [tier("target")], tmp_path, on_change=lambda running: seen.append(running.state)
    )
    async with deployment:
        await deployment.wait_until_ready()
        assert await probe_grpc_health(deployment.running[0].tier.address) is Readiness.READY
    assert seen == [TierState.STARTING, TierState.LOADING, TierState.READY]


async def test_a_tier_that_is_too_busy_to_answer_does_not_start_anew(tier, tmp_path):
    answers = iter([Readiness.LOADING, Readiness.AWAY, Readiness.READY])

    async def probe(address):
        return next(answers)

    seen = []
    busy = replace(tier("target"), probe=probe)
    deployment = LocalDeployment([busy], tmp_path, on_change=lambda each: seen.append(each.state))
    async with deployment:
        await deployment.wait_until_ready()
    assert seen == [TierState.STARTING, TierState.LOADING, TierState.READY]


async def test_a_start_that_fails_waits_for_nobody(tier, tmp_path):
    tiers = [tier("target", "stubborn"), tier("draft", "fails")]
    deployment = LocalDeployment(tiers, tmp_path, grace_s=1000)
    async with deployment:
        with pytest.raises(TierExitedError):
            await deployment.wait_until_ready()
    assert all(is_gone(running.process) for running in deployment.running)


async def test_leaving_the_context_lets_every_tier_drain(tier, tmp_path):
    async with LocalDeployment([tier("target"), tier("draft")], tmp_path) as deployment:
        await deployment.wait_until_ready()
    assert all(is_gone(running.process) for running in deployment.running)
    assert "target drained" in (tmp_path / "target.log").read_text()
    assert "draft drained" in (tmp_path / "draft.log").read_text()


async def test_a_tier_that_fails_to_start_is_reported_with_its_last_words(tier, tmp_path):
    with pytest.raises(TierExitedError, match="draft exited with code 3") as caught:
        async with LocalDeployment([tier("target"), tier("draft", "fails")], tmp_path) as both:
            await both.wait_until_ready()
    assert caught.value.last_lines[-1] == "there is no such model"
    assert all(is_gone(running.process) for running in both.running)


async def test_a_program_that_does_not_exist_is_reported(tmp_path):
    nothing = Tier("target", ["/there/is/no/such/program"], "127.0.0.1:1", probe_grpc_health)
    with pytest.raises(TierExitedError) as caught:
        async with LocalDeployment([nothing], tmp_path) as deployment:
            await deployment.wait_until_ready()
    assert "cannot run /there/is/no/such/program" in caught.value.last_lines[0]


async def test_a_tier_that_dies_later_ends_the_watch(tier, tmp_path):
    async with LocalDeployment([tier("target"), tier("draft")], tmp_path) as deployment:
        await deployment.wait_until_ready()
        watch = asyncio.create_task(deployment.watch())
        os.kill(deployment.running[1].process.pid, signal.SIGKILL)
        with pytest.raises(TierExitedError, match="draft was killed by SIGKILL"):
            await watch
        assert deployment.running[1].state is TierState.EXITED


async def test_a_tier_that_never_gets_ready_is_named_when_the_time_is_over(tier, tmp_path):
    tiers = [tier("target"), tier("draft", "loads")]
    with pytest.raises(StartupTimeoutError, match=r"draft \((starting|loading)\)$"):
        async with LocalDeployment(tiers, tmp_path, startup_timeout_s=1) as deployment:
            await deployment.wait_until_ready()
    assert all(is_gone(running.process) for running in deployment.running)


async def test_a_tier_that_ignores_sigterm_is_killed_after_the_grace_period(tier, tmp_path):
    stubborn = [tier("target", "stubborn")]
    async with LocalDeployment(stubborn, tmp_path, grace_s=0.2) as deployment:
        await deployment.wait_until_ready()
    assert deployment.running[0].process.returncode == -signal.SIGKILL


async def test_a_cancelled_stop_kills_at_once(tier, tmp_path):
    deployment = LocalDeployment([tier("target", "stubborn")], tmp_path, grace_s=1000)
    async with deployment:
        await deployment.wait_until_ready()
        stop = asyncio.create_task(deployment.stop())
        await asyncio.sleep(0)
        stop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stop
        assert deployment.running[0].process.returncode == -signal.SIGKILL


async def test_a_restart_replaces_the_log(tier, tmp_path):
    (tmp_path / "target.log").write_text("an older run\n")
    async with LocalDeployment([tier("target")], tmp_path) as deployment:
        await deployment.wait_until_ready()
    assert "an older run" not in (tmp_path / "target.log").read_text()


@pytest.mark.parametrize(
    ("answer", "readiness"),
    [
        (b"+PONG\r\n", Readiness.READY),
        (b"-NOAUTH Authentication required.\r\n", Readiness.READY),
        (b"-LOADING the data set\r\n", Readiness.LOADING),
        (b"HTTP/1.1 400 Bad Request\r\n", Readiness.AWAY),
        (b"", Readiness.AWAY),
    ],
)
async def test_a_store_is_there_if_it_answers_in_its_protocol(answer, readiness):
    async def serve(reader, writer):
        await reader.readline()
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await probe_redis(f"redis://user:secret@127.0.0.1:{port}/0") is readiness


async def test_nothing_at_an_address_is_away():
    port = free_port()
    assert await probe_redis(f"redis://127.0.0.1:{port}") is Readiness.AWAY
    assert await probe_grpc_health(f"127.0.0.1:{port}") is Readiness.AWAY
