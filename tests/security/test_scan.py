"""A scan of all ports of a deployment as an outsider, who gets nothing."""

import asyncio
import socket
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
import httpx2
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from autoscaler.board import Board
from autoscaler.keda import externalscaler_pb2
from autoscaler.keda.externalscaler_pb2_grpc import (
    ExternalScalerStub,
    add_ExternalScalerServicer_to_server,
)
from autoscaler.servicer import KedaServicer
from forethought.client import GenerationClient
from forethought.errors import (
    HandshakeError,
    PermissionDeniedError,
    SessionNotFoundError,
    UnauthenticatedError,
)
from forethought.generation import ChatMessage, FollowUp, GenerationRequest, Resume
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.security.guards import only_named
from forethought.rpc.security.tls import ClientTls, Identity
from forethought.rpc.status import error_from_rpc
from forethought.v1 import deployment_pb2, draft_pb2, generation_pb2, scaling_pb2, target_pb2
from forethought.v1.deployment_pb2_grpc import DeploymentServiceStub
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from forethought.v1.generation_pb2_grpc import GenerationServiceStub
from forethought.v1.scaling_pb2_grpc import ScalingServiceStub
from forethought.v1.target_pb2_grpc import TargetServiceStub
from tests.certificates import Authority, mutual
from tests.gateway.conftest import running_gateway
from tests.gateway.test_keys import EVERYTHING
from tests.lifecycle.requests import asking
from tests.security.keys import add, guard_of
from tests.stack import Stack, generate, running_server, running_stack
from tests.store.conftest import shared_server

__all__ = ["shared_server"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

GRPC_PORTS = ("target", "draft", "orchestrator", "autoscaler")
PORTS = (*GRPC_PORTS, "gateway")
TIERS = GRPC_PORTS[:2]
OUTSIDERS = ("plain text", "no certificate", "another authority", "expired certificate")


@dataclass
class Scanned:
    """A deployment with certificates and keys, and what outsiders have."""

    stack: Stack
    gateway: str
    autoscaler: str
    keys: dict[str, str]
    insider: ClientTls
    identities: dict[str, Identity | None]
    authority: Authority

    def address(self, port: str) -> str:
        return {
            "target": self.stack.target_address,
            "draft": self.stack.draft_address,
            "orchestrator": self.stack.address,
            "autoscaler": self.autoscaler,
            "gateway": self.gateway.removeprefix("https://"),
        }[port]

    def context(self, outsider: str) -> ssl.SSLContext:
        """For HTTPS."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if own := self.identities[outsider]:
            context.load_cert_chain(own.certificate, own.key)
        return context

    def channel(self, port: str, outsider: str) -> grpc.aio.Channel:
        """One that checks nothing of its own."""
        if outsider == "plain text":
            return open_channel(self.address(port))
        own = self.identities[outsider]
        credentials = grpc.ssl_channel_credentials(
            self.authority.certificate.read_bytes(),
            own and own.key.read_bytes(),
            own and own.certificate.read_bytes(),
        )
        return grpc.aio.secure_channel(self.address(port), credentials)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scanned(tiny_target, tiny_draft, shared_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scanned")
    authority, other = Authority(folder), Authority(folder, "other")
    security = mutual(authority)
    identities = {
        "no certificate": None,
        "another authority": other.issue("orchestrator", file="foreign"),
        "expired certificate": authority.issue("orchestrator", file="expired", days=(-9, -2)),
        "another name": authority.issue("stranger"),
        "insider": security.client.identity,
    }
    keys = {name: add(folder / "keys.json", name) for name in ("gateway", "alice", "bob")}
    keys |= {"nobody": "", "forger": "fk-wrong"}
    async with AsyncExitStack() as cleanup:
        stack = await cleanup.enter_async_context(
            running_stack(
                tiny_target,
                tiny_draft.proposer(),
                security=security,
                guard=only_named(("orchestrator",)),
                client_guard=guard_of(folder / "keys.json"),
                api_key=keys["alice"],
                store_url=shared_server.url,
            )
        )
        gateway = await cleanup.enter_async_context(
            running_gateway(stack.address, security=security, api_key=keys["gateway"])
        )
        scaler = KedaServicer(Board(30.0))
        autoscaler = await cleanup.enter_async_context(
            running_server(
                lambda s: add_ExternalScalerServicer_to_server(scaler, s), tls=security.server
            )
        )
        address = f"127.0.0.1:{autoscaler.port}"
        yield Scanned(stack, gateway, address, keys, security.client, identities, authority)


def every_call(channel: grpc.aio.Channel):
    """A call of each method of each service, whoever serves it."""
    generation, model = GenerationServiceStub(channel), generation_pb2
    reflected = reflection_pb2.ServerReflectionRequest(list_services="")
    return {
        "verify": TargetServiceStub(channel).Verify(iter([target_pb2.VerifyRequest()])),
        "target": TargetServiceStub(channel).GetModelInfo(
            target_pb2.TargetServiceGetModelInfoRequest()
        ),
        "speculate": DraftServiceStub(channel).Speculate(iter([draft_pb2.SpeculateRequest()])),
        "draft": DraftServiceStub(channel).GetModelInfo(
            draft_pb2.DraftServiceGetModelInfoRequest()
        ),
        "generate": generation.Generate(model.GenerateRequest(text="abc")),
        "get": generation.GetSession(model.GetSessionRequest(session_id="a")),
        "list": generation.ListSessions(model.ListSessionsRequest()),
        "cancel": generation.CancelSession(model.CancelSessionRequest(session_id="a")),
        "delete": generation.DeleteSession(model.DeleteSessionRequest(session_id="a")),
        "tokenize": generation.Tokenize(model.TokenizeRequest(text="abc")),
        "detokenize": generation.Detokenize(model.DetokenizeRequest(token_ids=[3])),
        "model": generation.GetModelInfo(model.GenerationServiceGetModelInfoRequest()),
        "deployment": DeploymentServiceStub(channel).GetDeployment(
            deployment_pb2.GetDeploymentRequest()
        ),
        "load": ScalingServiceStub(channel).GetLoad(scaling_pb2.GetLoadRequest()),
        "replicas": ExternalScalerStub(channel).GetMetrics(externalscaler_pb2.GetMetricsRequest()),
        "health": health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()),
        "watch": health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()),
        "reflection": reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflected])
        ),
    }


async def what_comes(call) -> object:
    """What a call brings first: an answer, or the error."""
    try:
        return await (call.read() if hasattr(call, "read") else call)
    except grpc.aio.AioRpcError as error:
        return error_from_rpc(error)
    finally:
        call.cancel()


async def scan(channel: grpc.aio.Channel) -> dict[str, object]:
    async with channel:
        calls = every_call(channel)
        return dict(zip(calls, [await what_comes(each) for each in calls.values()], strict=True))


@pytest.mark.parametrize("outsider", OUTSIDERS)
@pytest.mark.parametrize("port", GRPC_PORTS)
async def test_nobody_without_a_certificate_that_holds_is_answered_by_grpc(scanned, port, outsider):
    found = await scan(scanned.channel(port, outsider))
    assert {type(each) for each in found.values()} == {HandshakeError}, found


@pytest.mark.parametrize("outsider", OUTSIDERS)
async def test_nobody_without_a_certificate_that_holds_is_answered_by_http(scanned, outsider):
    is_plain = outsider == "plain text"
    url = scanned.gateway.replace("https", "http") if is_plain else scanned.gateway
    verify = True if is_plain else scanned.context(outsider)
    async with httpx2.AsyncClient(base_url=url, verify=verify, timeout=20) as http:
        for path in ("/health", "/openapi.json", "/v1/models", "/metrics", "/"):
            with pytest.raises(httpx2.TransportError):
                await http.get(path)


@pytest.mark.parametrize("port", PORTS)
async def test_what_is_no_handshake_is_answered_by_nothing_in_plain_text(scanned, port):
    host, number = scanned.address(port).split(":")

    def knock(said: bytes) -> bytes:
        with socket.create_connection((host, int(number)), 10) as plain:
            plain.sendall(said)
            plain.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := plain.recv(4096):
                answer += piece
            return answer

    for said in (
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0" * 64,
    ):
        answer = await asyncio.to_thread(knock, said)
        assert answer[:1] in {b"", b"\x15"}, answer  # an alert of TLS says that it was none


@pytest.mark.parametrize("port", TIERS)
async def test_a_tier_answers_a_certificate_of_another_name_with_its_health_alone(scanned, port):
    found = await scan(scanned.channel(port, "another name"))
    health = {found.pop("health").status, found.pop("watch").status}
    assert health == {health_pb2.HealthCheckResponse.SERVING}
    found.pop("reflection")  # has a setting of its own, and tells what the protos tell
    own = {name: each for name, each in found.items() if each.code != "UNIMPLEMENTED"}
    assert {type(each) for each in own.values()} == {PermissionDeniedError}
    assert own.keys() == {port, {"target": "verify", "draft": "speculate"}[port]}


@pytest.mark.parametrize("whose", ["nobody", "forger"])
async def test_without_a_key_that_holds_no_route_and_no_method_answers(scanned, whose):
    headers = {"authorization": f"Bearer {scanned.keys[whose]}"} if scanned.keys[whose] else {}
    async with httpx2.AsyncClient(
        base_url=scanned.gateway, verify=scanned.context("insider"), headers=headers, timeout=20
    ) as http:
        for method, route, body in EVERYTHING:
            assert (await http.request(method, route, json=body)).status_code == 401, route
    tls, key = scanned.insider, scanned.keys[whose]
    async with GenerationClient(scanned.stack.address, tls=tls, api_key=key) as client:
        for call in (
            generate(client, asking(max_tokens=2)),
            client.describe(),
            client.tokenize("a"),
            client.detokenize([3]),
            client.get_session("a"),
            client.cancel_session("a"),
            client.delete_session("a"),
            anext(client.sessions()),
        ):
            with pytest.raises(UnauthenticatedError):
                await call


async def test_sessions_of_another_tenant_and_forged_ones_are_those_of_nobody(scanned):
    whose = (await generate(scanned.stack.client, asking(max_tokens=4))).started.session_id
    forged = (
        whose,
        f"alice:{whose}",
        f"{{alice}}{whose}",
        whose.swapcase(),
        whose[:-1],
        "*",
        "../" + whose,
        f"{whose}\0",
        "💥",
        "a" * 999,
    )
    said, bob = (ChatMessage("user", "a"),), scanned.keys["bob"]
    tls = scanned.insider
    async with GenerationClient(scanned.stack.address, tls=tls, api_key=bob) as client:
        for session_id in forged:
            for call in (
                client.get_session(session_id),
                client.cancel_session(session_id),
                client.delete_session(session_id),
                generate(client, GenerationRequest(Resume(session_id))),
                generate(client, GenerationRequest(FollowUp(session_id, said))),
                generate(client, GenerationRequest(FollowUp(session_id, said, branches=True))),
            ):
                with pytest.raises(SessionNotFoundError):
                    await call
            for tenant in ("alice", "bob "):
                with pytest.raises(PermissionDeniedError):
                    await client.get_session(session_id, tenant)
    headers = {"authorization": f"Bearer {bob}"}
    async with httpx2.AsyncClient(
        base_url=scanned.gateway, verify=scanned.context("insider"), headers=headers, timeout=20
    ) as http:
        for session_id in forged:
            asked = {"input": "a", "previous_response_id": f"resp_{session_id}"}
            answer = await http.post("/v1/responses", json=asked)
            assert answer.status_code == 404
            assert answer.json()["error"]["param"] == "previous_response_id"
    assert await scanned.stack.client.get_session(whose)
