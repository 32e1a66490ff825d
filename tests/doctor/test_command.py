"""`forethought doctor` over deployments in the test process."""

import asyncio
import json
from contextlib import asynccontextmanager
from copy import copy

import pytest
from typer.testing import CliRunner

from forethought.cli.main import app
from forethought.deployment import Standing
from forethought.rpc.security.tls import ServerTls, channel_credentials
from forethought.rpc.serving.server import LateServices, Server, ServerOptions
from forethought.v1.deployment_pb2_grpc import add_DeploymentServiceServicer_to_server
from forethought.v1.target_pb2_grpc import add_TargetServiceServicer_to_server
from orchestrator.deployment_servicer import DeploymentServicer
from orchestrator.replicas.replica import TARGET
from orchestrator.replicas.replica_watch import WatchOptions, watching
from orchestrator.sessions.durable_sessions import Sessions
from target_service.servicer import TargetServicer
from tests.certificates import HERE, Authority, mutual
from tests.lifecycle.requests import asking
from tests.ports import free_port
from tests.replicas.tiers import a_fleet
from tests.stack import LIMITS, generate, running_server
from tests.waiting import until


async def doctor(*arguments: str):
    runner = CliRunner(env={"COLUMNS": "60"})
    return await asyncio.to_thread(runner.invoke, app, ["doctor", *arguments])


async def test_a_deployment_that_is_well_is_shown_in_60_columns(tiny_target, tiny_draft):
    async with a_fleet(tiny_target, tiny_draft) as fleet:
        await generate(fleet.client, asking())
        result = await doctor("--address", fleet.client.address)
        assert result.exit_code == 0
        names = (*fleet.targets, *fleet.drafts, fleet.client.address)
        assert all(name in result.stdout for name in names)
        assert result.stdout.count("2 of 2 serve") == 2
        assert "tokens accepted" in result.stdout
        assert "Nothing is wrong." in result.stdout
        assert max(map(len, result.stdout.splitlines())) <= 60


async def test_a_lost_target_is_found_and_the_exit_code_says_so(tiny_target, tiny_draft):
    async with a_fleet(tiny_target, tiny_draft) as fleet:
        address, lost = next(iter(fleet.targets.items()))
        await lost.die()
        await until(lambda: fleet.known(lost).standing is Standing.LOST)
        result = await doctor("--address", fleet.client.address)
        assert result.exit_code == 1
        assert f"wrong target {address}: does not answer" in " ".join(result.stdout.split())
        document = json.loads((await doctor("--address", fleet.client.address, "--json")).stdout)
        assert document["is_healthy"] is False
        assert [each["where"] for each in document["findings"]] == [f"target {address}"]
        [orchestrator] = document["orchestrators"]
        assert len(orchestrator["state"]["tiers"][0]["replicas"]) == 2


async def test_an_orchestrator_that_is_away_is_2_and_one_of_two_is_1(tiny_target, tiny_draft):
    nobody = f"{HERE}:{free_port()}"
    alone = await doctor("--address", nobody)
    assert alone.exit_code == 2
    assert "no server answers" in " ".join(alone.stdout.split())
    async with a_fleet(tiny_target, tiny_draft, num_targets=1, num_drafts=1) as fleet:
        result = await doctor("--address", f"{fleet.client.address},{nobody}")
        assert result.exit_code == 1


@asynccontextmanager
async def waiting_orchestrator(about: DeploymentServicer, tls: ServerTls):
    """One that still waits for its target."""
    async with running_server(
        lambda services: add_DeploymentServiceServicer_to_server(about, services), tls=tls
    ) as server:
        yield f"{HERE}:{server.port}"


@pytest.mark.parametrize(("days", "exit_code"), [((-10, 80), 0), ((-89, 1), 1), ((-9, -1), 1)])
async def test_certificates_of_both_sides_are_looked_at(
    tiny_target, tmp_path, monkeypatch, days, exit_code
):
    authority = Authority(tmp_path)
    security = mutual(authority)
    own = ServerTls(authority.issue(HERE, file="target", days=(-10, 80)), authority.certificate)
    target = TargetServicer(copy(tiny_target.model), tiny_target.info, LIMITS)
    async with running_server(
        lambda services: add_TargetServiceServicer_to_server(target, services), tls=own
    ) as server:
        options = WatchOptions(credentials=channel_credentials(security.client))
        async with watching(TARGET, (f"{HERE}:{server.port}",), options=options) as targets:
            [replica] = targets.all
            await until(lambda: replica.standing is Standing.SERVING)
            about = DeploymentServicer((targets,), None, security.client)
            own = authority.issue(HERE, file="orchestrator", days=days)
            monkeypatch.setattr(about, "_why_not_ready", lambda: "")
            tls = ServerTls(own, authority.certificate)
            if days[1] < 0:
                monkeypatch.setattr("forethought.rpc.security.tls.check_identity", lambda *_: None)
            async with waiting_orchestrator(about, tls) as address:
                files = {
                    "--tls-ca": authority.certificate,
                    "--tls-cert": security.client.identity.certificate,
                    "--tls-key": security.client.identity.key,
                }
                flags = [str(each) for flag in files.items() for each in flag]
                result = await doctor("--address", address, *flags)
    await target.close()
    shown = " ".join(result.stdout.split())
    if days[1] < 0:
        assert result.exit_code == 2
        assert "its certificate has expired" in shown
        return
    assert result.exit_code == exit_code
    assert "certificate for 79 days of 90 days" in shown
    assert ("its certificate expires in 24 hours" in shown) == bool(exit_code)


async def test_an_orchestrator_that_loads_says_what_it_waits_for():
    sessions = Sessions(f"redis://{HERE}:{free_port()}", "here")
    server = Server(ServerOptions(f"{HERE}:0", ()))
    await server.start()
    async with watching(TARGET, (f"{HERE}:{free_port()}",)) as targets:

        async def load(services: LateServices) -> None:
            add_DeploymentServiceServicer_to_server(
                DeploymentServicer((targets,), sessions), services
            )
            await asyncio.Event().wait()

        loading = asyncio.create_task(server.load(load))
        result = await doctor("--address", f"{HERE}:{server.port}")
        loading.cancel()
    await server.drain()
    await sessions.close()
    assert result.exit_code == 1
    shown = " ".join(result.stdout.split())
    assert "not ready: it waits for a target" in shown
    assert "wrong store: the store failed" in shown
