"""API keys: who calls, on whose behalf, and how much."""

import json

import grpc
import pytest
from typer.testing import CliRunner

from forethought.cli.main import app
from forethought.client import GenerationClient, calling_with_key
from forethought.errors import (
    ForethoughtError,
    KeyFileError,
    OverloadedError,
    PermissionDeniedError,
    SessionNotFoundError,
    UnauthenticatedError,
)
from forethought.generation import GenerationRequest
from forethought.keys.key_file import make_key, read_keys
from forethought.keys.limits import KeyLimits
from forethought.rpc.calls.authorized import authorized
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.serving.server_options import server_options
from forethought.rpc.status import error_from_rpc
from forethought.v1.deployment_pb2 import GetDeploymentRequest
from forethought.v1.deployment_pb2_grpc import (
    DeploymentServiceStub,
    add_DeploymentServiceServicer_to_server,
)
from forethought.v1.scaling_pb2 import GetLoadRequest
from forethought.v1.scaling_pb2_grpc import ScalingServiceStub
from orchestrator.deployment_servicer import DeploymentServicer
from orchestrator.replicas.replica_set import ReplicaSet
from orchestrator.settings import OrchestratorSettings
from tests.lifecycle.requests import PROMPT, asking
from tests.security.keys import add, guard_of
from tests.stack import generate, running_server, running_stack
from tests.store.conftest import shared_server
from tests.store.servers import ValkeyServer

__all__ = ["shared_server"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


def keyed_stack(tiny_target, tiny_draft, path, secret, **options):
    """An orchestrator that asks for keys, and a client that has one."""
    return running_stack(
        tiny_target,
        tiny_draft.proposer(),
        client_guard=guard_of(path),
        api_key=secret,
        **options,
    )


def add_deployment_service(services) -> None:
    about = DeploymentServicer((ReplicaSet("target"),), None)
    add_DeploymentServiceServicer_to_server(about, services)


@pytest.mark.parametrize("shown", ["", "fk-wrong"])
async def test_without_a_known_key_nothing_is_answered(tiny_target, tiny_draft, path, shown):
    async with keyed_stack(tiny_target, tiny_draft, path, add(path, "alice")) as stack:
        await generate(stack.client, asking(max_tokens=4))
        async with GenerationClient(stack.address, api_key=shown) as stranger:
            calls = (
                generate(stranger, asking(max_tokens=4)),
                stranger.describe(),
                stranger.tokenize("a"),
                stranger.get_session("a"),
            )
            for call in calls:
                with pytest.raises(UnauthenticatedError):
                    await call


async def test_a_call_that_is_passed_on_shows_the_key_that_it_came_with(
    tiny_target, tiny_draft, path, shared_server: ValkeyServer
):
    own, alice, bob = (add(path, name) for name in ("gateway", "alice", "bob"))
    url = shared_server.url
    async with keyed_stack(tiny_target, tiny_draft, path, own, store_url=url) as stack:
        with calling_with_key(alice):
            session_id = (await generate(stack.client, asking(max_tokens=4))).started.session_id
            assert await stack.client.get_session(session_id)
        with calling_with_key(bob), pytest.raises(SessionNotFoundError):
            await stack.client.get_session(session_id)
        with calling_with_key(""), pytest.raises(UnauthenticatedError):
            await stack.client.describe()
        await stack.client.describe()


async def test_another_scheme_is_refused_in_words(path):
    add(path, "alice")
    async with (
        running_server(add_deployment_service, guard=guard_of(path)) as server,
        open_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        call = DeploymentServiceStub(channel).GetDeployment
        with pytest.raises(grpc.aio.AioRpcError, match="Bearer KEY"):
            await call(GetDeploymentRequest(), metadata=(("authorization", "Basic abc"),))


async def test_sessions_are_those_of_the_keys_tenant(
    tiny_target, tiny_draft, path, shared_server: ValkeyServer
):
    alice, bob = add(path, "alice"), add(path, "bob")
    store_url = shared_server.url
    async with keyed_stack(tiny_target, tiny_draft, path, alice, store_url=store_url) as stack:
        session_id = (await generate(stack.client, asking(max_tokens=4))).started.session_id
        assert await stack.client.get_session(session_id)
        assert await stack.client.get_session(session_id, "alice")
        with pytest.raises(PermissionDeniedError, match="another tenant's"):
            await stack.client.get_session(session_id, "bob")
        with pytest.raises(PermissionDeniedError):
            await generate(stack.client, GenerationRequest(PROMPT, tenant="bob"))
        async with GenerationClient(stack.address, api_key=bob) as other:
            for call in (other.get_session, other.delete_session, other.cancel_session):
                with pytest.raises(SessionNotFoundError):
                    await call(session_id)
            assert [each async for each in other.sessions()] == []
            with pytest.raises(PermissionDeniedError):
                await other.get_session(session_id, "alice")


async def test_a_revoked_key_and_a_new_one_count_at_once(tiny_target, tiny_draft, path):
    async with keyed_stack(tiny_target, tiny_draft, path, add(path, "alice")) as stack:
        await stack.client.describe()
        path.unlink()
        await stack.client.describe()  # a file that is gone revokes nobody
        second = add(path, "alice")
        with pytest.raises(UnauthenticatedError, match="revoked"):
            await stack.client.describe()
        async with GenerationClient(stack.address, api_key=second) as client:
            await client.describe()


async def test_tokens_of_prompts_and_answers_are_counted(tiny_target, tiny_draft, path):
    secret = add(path, "alice", tokens_per_minute=len(PROMPT) + 2)
    async with keyed_stack(tiny_target, tiny_draft, path, secret) as stack:
        await generate(stack.client, asking(max_tokens=4))
        with pytest.raises(OverloadedError, match="5 tokens a minute") as caught:
            await generate(stack.client, asking(max_tokens=4))
        # Two too many were taken, and one is needed, at five a minute.
        assert 0 < caught.value.retry_after_s <= 36


@pytest.mark.parametrize("may", [False, True])
async def test_how_a_deployment_does_is_for_keys_that_may_read_it(path, may):
    secret = add(path, "alice", reads_statistics=may)
    async with (
        running_server(add_deployment_service, guard=guard_of(path)) as server,
        open_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        call = DeploymentServiceStub(authorized(channel, secret)).GetDeployment(
            GetDeploymentRequest()
        )
        if may:
            await call
            return
        with pytest.raises(grpc.aio.AioRpcError, match="may not read") as caught:
            await call
        assert isinstance(error_from_rpc(caught.value), PermissionDeniedError)


async def test_the_counts_that_metrics_tell_need_no_key(tiny_target, tiny_draft, path):
    async with (
        keyed_stack(tiny_target, tiny_draft, path, add(path, "alice")) as stack,
        open_channel(stack.address) as channel,
    ):
        await ScalingServiceStub(channel).GetLoad(GetLoadRequest())


def test_requests_fill_up_again_within_a_minute():
    now_s = 0.0
    _, key = make_key("alice", requests_per_minute=2)
    limits = KeyLimits(key, lambda: now_s)
    for _ in range(2):
        with limits.call():
            pass
    with pytest.raises(OverloadedError) as caught, limits.call():
        pass
    assert caught.value.retry_after_s == 30
    now_s = 30.0
    with limits.call():
        pass


def test_calls_at_a_time_are_counted_and_given_back():
    _, key = make_key("alice", max_concurrent=1)
    limits = KeyLimits(key)
    with limits.call(), pytest.raises(OverloadedError), limits.call():
        pass
    with limits.call():
        pass


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: no such file"),
        ("{}", "is no file of keys"),
        ("[", "is no file of keys"),
        ('[{"id": "a", "sha256": "b", "tenant": "c"}]', r"is no file of keys: 0\.sha256"),
    ],
)
def test_an_orchestrator_does_not_start_with_a_file_that_is_none(path, content, words):
    if content is not None:
        path.write_text(content)
    settings = OrchestratorSettings.from_command_line(
        ["--model", "any", "--listen", "0.0.0.0:1", "--api-keys", str(path)]
    )
    with pytest.raises(KeyFileError, match=words):
        server_options(settings, (), api_keys=settings.api_keys)


def run(*arguments, path):
    return CliRunner(env={"FORETHOUGHT_API_KEYS": str(path)}).invoke(app, ["keys", *arguments])


def test_keys_are_made_listed_and_revoked(path):
    made = run("add", "--tenant", "alice", "--requests-per-minute", "60", path=path)
    secret = made.stdout.strip()
    assert made.exit_code == 0
    assert secret not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    key = read_keys(path).find(secret)
    assert (key.tenant, key.requests_per_minute, key.reads_statistics) == ("alice", 60, False)
    assert key.id in run("list", path=path).stdout
    [line] = run("list", "--json", path=path).stdout.splitlines()
    assert json.loads(line)["id"] == key.id
    assert "sha256" not in line
    assert run("revoke", "nobody", path=path).exit_code == 1
    assert run("revoke", key.id, path=path).exit_code == 0
    assert read_keys(path).find(secret) is None


def test_a_key_that_cannot_be_sent_is_refused():
    with pytest.raises(ForethoughtError, match="characters that no key has"):
        GenerationClient("127.0.0.1:1", api_key="a\nb")
