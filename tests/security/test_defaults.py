"""Nobody else is let in unless that was said."""

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2_grpc
from structlog.testing import capture_logs

from autoscaler.settings import AutoscalerSettings
from draft_service.settings import DraftSettings
from forethought.addresses import is_loopback
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.serving.server_options import server_options
from gateway.settings import GatewaySettings
from orchestrator.settings import OrchestratorSettings
from target_service.settings import TargetSettings
from tests.security.test_tls import nothing
from tests.stack import running_server

ALL = (TargetSettings, DraftSettings, OrchestratorSettings, GatewaySettings, AutoscalerSettings)
ELSEWHERE = "0.0.0.0:0"


def read(kind, *flags):
    needed = ["--model", "package:any"] if "model" in kind.model_fields else []
    return kind.from_command_line([*needed, *flags])


@pytest.mark.parametrize("kind", ALL)
def test_every_process_listens_on_loopback_by_default(kind):
    defaults = {name: kind.model_fields[name].default for name in ("listen", "admin_listen")}
    assert all(map(is_loopback, defaults.values())), defaults


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("address", [ELSEWHERE, "[::]:0", "10.0.0.1:1", "node-7:1"])
def test_listening_elsewhere_in_plain_text_has_to_be_asked_for(kind, address, capsys):
    with pytest.raises(SystemExit) as caught:
        read(kind, "--listen", address)
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{kind.section}: --listen {address}: other machines reach it")
    assert "--insecure" in line
    with capture_logs() as logs:
        settings = read(kind, "--listen", address, "--insecure")
    assert settings.listen == address
    [warning] = [each for each in logs if each["event"] == "listens_in_plain_text"]
    assert (warning["log_level"], warning["address"]) == ("warning", address)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0", "unix:/run/a.sock"])
def test_loopback_needs_no_word(address):
    assert not read(TargetSettings, "--listen", address).is_exposed


def test_with_tls_it_listens_anywhere():
    flags = ("--tls-cert", "a", "--tls-key", "b")
    assert not read(TargetSettings, "--listen", ELSEWHERE, *flags).is_exposed


@pytest.mark.parametrize(
    ("flags", "has_reflection"),
    [
        ((), True),
        (("--reflection", "off"), False),
        (("--listen", ELSEWHERE, "--insecure"), False),
        (("--listen", ELSEWHERE, "--tls-cert", "a", "--tls-key", "b"), False),
        (("--listen", ELSEWHERE, "--insecure", "--reflection", "on"), True),
    ],
)
def test_reflection_is_off_elsewhere_unless_asked_for(flags, has_reflection):
    assert server_options(read(TargetSettings, *flags), ()).has_reflection is has_reflection


async def test_a_server_without_reflection_does_not_know_it():
    async with (
        running_server(nothing, has_reflection=False) as server,
        open_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ServerReflectionInfo().read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
