"""TLS on every edge: who is believed, and files that change."""

import asyncio
import socket
import ssl
import warnings
from copy import copy
from dataclasses import replace
from typing import Any

import grpc
import httpx2
import pytest

from forethought.client import GenerationClient
from forethought.deployment import Standing
from forethought.errors import (
    CertificateError,
    ForethoughtError,
    HandshakeError,
    PermissionDeniedError,
)
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.connections.name_resolution import NameResolver
from forethought.rpc.security import tls as tls_module
from forethought.rpc.security.guards import only_named
from forethought.rpc.security.tls import ClientTls, Identity, ServerTls, channel_credentials
from forethought.rpc.status import error_from_rpc
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from forethought.v1.generation_pb2 import GenerateRequest
from forethought.v1.generation_pb2_grpc import GenerationServiceStub
from forethought.v1.target_pb2_grpc import TargetServiceStub, add_TargetServiceServicer_to_server
from orchestrator.replicas.replica import TARGET
from orchestrator.replicas.replica_watch import WatchOptions, watching
from target_service.servicer import TargetServicer
from tests.certificates import HERE, Authority, mutual
from tests.gateway.conftest import MODEL, running_gateway
from tests.lifecycle.gates import gated
from tests.lifecycle.requests import PROMPT, SEEDED, Reader, asking, text_alone
from tests.stack import LIMITS, generate, running_server, running_stack
from tests.waiting import until


def nothing(_: object) -> None:
    """No services: whoever is let in is told so."""


async def why_refused(client_tls: ClientTls | None, **options) -> ForethoughtError:
    """What a client hears of a server; UNIMPLEMENTED where they understand each other."""
    async with running_server(nothing, **options) as server:
        return await ask(f"{HERE}:{server.port}", client_tls)


async def ask(address: str, client_tls: ClientTls | None) -> ForethoughtError:
    async with GenerationClient(address, tls=client_tls) as client:
        with pytest.raises(ForethoughtError) as caught:
            await client.describe()
    return caught.value


async def ask_all(address: str, client_tls: ClientTls) -> list[ForethoughtError]:
    """What a caller hears of a session on each kind of tier."""
    credentials = channel_credentials(client_tls)
    async with open_channel(address, credentials=credentials) as channel:
        errors = []
        for call in (
            DraftServiceStub(channel).Speculate(),
            TargetServiceStub(channel).Verify(),
            GenerationServiceStub(channel).Generate(GenerateRequest()),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            errors.append(error_from_rpc(caught.value))
        return errors


def https_context(client_tls: ClientTls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=client_tls.authorities)
    if own := client_tls.identity:
        context.load_cert_chain(own.certificate, own.key)
    return context


async def complete(url: str, context: ssl.SSLContext) -> dict[str, Any]:
    """The text of SEEDED by HTTPS."""
    body = {
        "model": MODEL,
        "prompt": list(PROMPT),
        "max_tokens": SEEDED.max_tokens,
        "temperature": SEEDED.temperature,
        "seed": SEEDED.seed,
        "ignore_eos": True,
        "num_speculative_tokens": SEEDED.num_speculative_tokens,
    }
    async with httpx2.AsyncClient(base_url=url, verify=context, timeout=60) as http:
        answer = await http.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_every_edge_speaks_mtls_and_the_text_is_the_same(
    tiny_target, tiny_draft, authority, tmp_path
):
    async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
        plain = await generate(stack.client, asking(SEEDED))
    security = mutual(authority)
    async with running_stack(tiny_target, tiny_draft.proposer(), security=security) as stack:
        assert (await generate(stack.client, asking(SEEDED))).token_ids == plain.token_ids
        for address in (stack.address, stack.draft_address, stack.target_address):
            error = await ask(address, ClientTls(authority.certificate))
            assert isinstance(error, HandshakeError)
        async with running_gateway(stack.address, security=security) as url:
            answer = await complete(url, https_context(security.client))
            assert answer["choices"][0]["text"] == plain.text
            with pytest.raises(httpx2.TransportError):
                await complete(url, https_context(ClientTls(authority.certificate)))
            # The same files, of another authority.
            security = mutual(Authority(tmp_path))
            answer = await complete(url, https_context(security.client))
            assert answer["choices"][0]["text"] == plain.text


async def test_certificates_of_a_new_authority_are_taken_during_a_stream(
    tiny_target, tiny_draft, tmp_path, monkeypatch
):
    monkeypatch.setattr("forethought.reloading.LOOK_S", 0.0)
    model, gate = gated(tiny_target)
    security = mutual(Authority(tmp_path))
    async with running_stack(model, tiny_draft.proposer(), security=security) as stack:
        expected = await text_alone(stack)
        gate.allow(3)
        reader = Reader()
        reading = asyncio.create_task(reader.read(stack.client, asking()))
        await gate.until_holding()
        # The same files, all signed by a CA that nobody knew before.
        assert mutual(Authority(tmp_path)) == security
        async with GenerationClient(stack.address, tls=security.client) as newcomer:
            await newcomer.tokenize("a")
        await stack.client.tokenize("a")
        assert not reading.done()
        gate.open()
        await reading
        assert reader.text == expected
        assert (await generate(stack.client, asking())).text == expected


async def test_files_that_do_not_fit_leave_the_former_ones_in_force(authority, tmp_path):
    security = mutual(authority)
    async with running_server(nothing, tls=security.server) as server:
        address = f"{HERE}:{server.port}"
        async with GenerationClient(address, tls=security.client) as client:
            authority.issue(HERE, file="another")
            (tmp_path / "another.key").replace(security.server.identity.key)
            (tmp_path / "client.crt").write_bytes(b"half")
            with pytest.raises(ForethoughtError) as caught:
                await client.describe()
            assert caught.value.code == "UNIMPLEMENTED"
        # A client that starts now says what is wrong.
        with pytest.raises(CertificateError, match=r"client\.crt holds no certificate in PEM"):
            GenerationClient(address, tls=security.client)


@pytest.mark.parametrize(
    ("days", "words"),
    [((-9, -2), "its certificate has expired"), ((2, 9), "its certificate is not valid yet")],
)
async def test_a_certificate_out_of_its_time_is_named_on_connecting(
    authority, days, words, monkeypatch
):
    # The server's clock is wrong, or it has run for long.
    monkeypatch.setattr(tls_module, "check_identity", lambda *_: None)
    server = ServerTls(authority.issue(HERE, days=days))
    error = await why_refused(ClientTls(authority.certificate), tls=server)
    assert words in error.message


async def test_a_certificate_of_another_authority_is_refused(authority, other_authority):
    server = ServerTls(authority.issue(HERE))
    error = await why_refused(ClientTls(other_authority.certificate), tls=server)
    assert isinstance(error, HandshakeError)
    assert "not signed by the CA that was named" in error.message


async def test_a_certificate_of_another_name_is_refused(authority):
    server = ServerTls(authority.issue("example.org"))
    error = await why_refused(ClientTls(authority.certificate), tls=server)
    assert "its certificate is of another name than the address" in error.message


async def test_plain_text_to_a_port_for_tls_is_named(authority):
    error = await why_refused(None, tls=ServerTls(authority.issue(HERE)))
    assert "as a port for TLS does with plain text (--tls-ca)" in error.message


async def test_tls_to_a_port_for_plain_text_is_named(authority):
    error = await why_refused(ClientTls(authority.certificate))
    assert "it speaks plain text, and TLS was tried" in error.message


async def test_a_caller_of_another_authority_is_refused(authority, other_authority):
    stranger = ClientTls(authority.certificate, other_authority.issue("orchestrator"))
    error = await why_refused(stranger, tls=mutual(authority).server)
    assert "with a caller whose certificate it does not accept (--tls-cert)" in error.message


async def test_only_the_named_callers_may_call(authority):
    security = mutual(authority)
    guard = only_named(("orchestrator",))
    error = await why_refused(security.client, tls=security.server, guard=guard)
    assert error.code == "UNIMPLEMENTED"


async def test_a_draft_with_a_certificate_of_the_deployment_may_not_call_a_target(
    tiny_target, tiny_draft, authority
):
    security = mutual(authority)
    draft = replace(security.client, identity=authority.issue("draft"))
    guard = only_named(("orchestrator",))
    async with running_stack(
        tiny_target, tiny_draft.proposer(), security=security, guard=guard
    ) as stack:
        await generate(stack.client, asking(max_tokens=4))
        for address in (stack.address, stack.draft_address, stack.target_address):
            errors = [
                each for each in await ask_all(address, draft) if each.code != "UNIMPLEMENTED"
            ]
            assert [type(each) for each in errors] == [PermissionDeniedError]
            assert errors[0].message.endswith("it bears: draft")


async def test_a_replica_behind_a_name_shows_a_certificate_of_that_name(
    tiny_target, authority, monkeypatch
):
    own = authority.issue("targets", file="target")
    servicer = TargetServicer(copy(tiny_target.model), tiny_target.info, LIMITS)
    async with running_server(
        lambda services: add_TargetServiceServicer_to_server(servicer, services),
        tls=ServerTls(own, authority.certificate),
    ) as server:
        address = f"{HERE}:{server.port}"

        async def look(names, _still_serves):
            return dict.fromkeys([address], names._addresses[0])

        monkeypatch.setattr(NameResolver, "look", look)
        credentials = channel_credentials(mutual(authority).client)
        options = WatchOptions(credentials=credentials)
        async with watching(TARGET, ("targets:50052",), options=options) as replicas:
            [replica] = replicas.all
            await until(lambda: replica.standing is Standing.SERVING)
        async with watching(TARGET, ("drafts:50052",), options=options) as replicas:
            [replica] = replicas.all
            await until(lambda: "of another name" in replica.why)
    await servicer.close()


async def test_versions_of_tls_before_1_2_are_refused(authority):
    server = ServerTls(authority.issue(HERE))
    async with running_server(nothing, tls=server) as running:

        def shake(version: ssl.TLSVersion) -> None:
            context = ssl.create_default_context(cafile=authority.certificate)
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
            with (
                socket.create_connection((HERE, running.port)) as plain,
                context.wrap_socket(plain, server_hostname=HERE),
            ):
                pass

        await asyncio.to_thread(shake, ssl.TLSVersion.TLSv1_2)
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(shake, ssl.TLSVersion.TLSv1_1)


def broken(kind: str, authority: Authority, other: Authority) -> ServerTls:
    good, strange = authority.issue(HERE, file="good"), other.issue(HERE, file="strange")
    nowhere = good.key.with_name("nowhere.pem")
    text = good.key.with_name("text.pem")
    text.write_text("no PEM")
    damaged = good.key.with_name("damaged.pem")
    damaged.write_bytes(good.certificate.read_bytes().replace(b"MI", b"!!", 1))
    return {
        "expired": ServerTls(authority.issue(HERE, file="old", days=(-9, -2))),
        "early": ServerTls(authority.issue(HERE, file="early", days=(2, 9))),
        "other key": ServerTls(Identity(good.certificate, strange.key)),
        "no file": ServerTls(Identity(nowhere, good.key)),
        "a folder": ServerTls(Identity(good.certificate.parent, good.key)),
        "no certificate": ServerTls(Identity(text, good.key)),
        "damaged": ServerTls(Identity(damaged, good.key)),
        "no key": ServerTls(Identity(good.certificate, good.certificate)),
        "no CA": ServerTls(good, nowhere),
        "CA is text": ServerTls(good, text),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("expired", r"the certificate in \S+old\.crt expired on \d{4}-"),
        ("early", r"the certificate in \S+early\.crt is not valid before \d{4}-"),
        ("other key", r"the key in \S+strange\.key does not fit the certificate in \S+good\.crt"),
        ("no file", r"nowhere\.pem cannot be read: no such file or directory"),
        ("a folder", r"cannot be read: is a directory"),
        ("no certificate", r"text\.pem holds no certificate in PEM"),
        ("damaged", r"damaged\.pem holds a damaged certificate"),
        ("no key", r"good\.crt holds no private key in PEM"),
        ("no CA", r"nowhere\.pem cannot be read"),
        ("CA is text", r"text\.pem holds no certificate in PEM"),
    ],
)
async def test_a_server_does_not_start_with_files_that_nobody_would_accept(
    kind, words, authority, other_authority
):
    with pytest.raises(CertificateError, match=words):
        async with running_server(nothing, tls=broken(kind, authority, other_authority)):
            pass
