"""What a user of the Python client may expect of it: loops, closing, and one tree of errors."""

import asyncio
from concurrent import futures

import grpc
import pytest

from forethought.client import ForethoughtError, GenerationClient, RetryOptions
from forethought.errors import ClientClosedError, InvalidArgumentError, LoadingError, RemoteError
from forethought.generation import Finished, GenerationRequest, Token
from forethought.resuming import Retry
from tests.cli import recorded
from tests.cli.fake_generation import Prompt, add_fake_generation
from tests.ports import free_port


@pytest.fixture
def address():
    """Of a running fake, in threads of its own."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_fake_generation(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


async def text_of(client, prompt="Hello", **options):
    events = [event async for event in client.generate(GenerationRequest(prompt), **options)]
    assert isinstance(events[-1], Finished)
    return "".join(event.text for event in events if isinstance(event, Token))


def test_a_client_may_be_made_outside_of_any_loop_and_used_in_several(address):
    client = GenerationClient(address)
    assert asyncio.run(text_of(client)) == recorded.TEXT
    assert asyncio.run(text_of(client)) == recorded.TEXT
    asyncio.run(client.close())


async def test_a_closed_client_says_so(address):
    async with GenerationClient(address) as client:
        await text_of(client)
    with pytest.raises(ClientClosedError):
        await text_of(client)
    with pytest.raises(ClientClosedError):
        await client.tokenize("Hello")
    await client.close()


async def test_closing_a_client_ends_its_calls_with_an_error_of_ours(address):
    client = GenerationClient([address, address])
    events = client.generate(GenerationRequest(Prompt.ENDLESS))
    await anext(events)
    await client.close()
    with pytest.raises(ForethoughtError):
        async for _ in events:
            pass


@pytest.mark.parametrize("addresses", [[], "", "localhost", ["a:1", "http://b:2"]])
def test_an_address_that_is_none_is_an_error_of_ours_at_once(addresses):
    with pytest.raises(ForethoughtError, match="address: "):
        GenerationClient(addresses)


async def test_addresses_may_be_one_text_with_commas(address):
    async with GenerationClient(f"127.0.0.1:{free_port()}, {address}") as client:
        assert await text_of(client) == recorded.TEXT
        assert client.address == address


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (GenerationRequest("\udcff"), InvalidArgumentError),
        (GenerationRequest("x", tenant="\udcff"), InvalidArgumentError),
        (GenerationRequest("x", request_id=7), InvalidArgumentError),
        (GenerationRequest(Prompt.REFUSED), InvalidArgumentError),
        (GenerationRequest(Prompt.BROKEN_OFF), RemoteError),
    ],
)
async def test_whatever_goes_wrong_is_a_leaf_of_one_tree(address, request_, error):
    async with GenerationClient(address) as client:
        with pytest.raises(error) as failure:
            [event async for event in client.generate(request_)]
    assert isinstance(failure.value, ForethoughtError)


@pytest.mark.parametrize("name", ["\udcff", 7])
async def test_names_that_are_no_text_are_errors_of_ours_in_every_call(address, name):
    async with GenerationClient(address) as client:
        with pytest.raises(InvalidArgumentError):
            await client.get_session(name)
        with pytest.raises(InvalidArgumentError):
            await client.delete_session("s", name)
        with pytest.raises(InvalidArgumentError):
            [each async for each in client.sessions(name)]
        with pytest.raises(InvalidArgumentError):
            await client.tokenize(name)
        with pytest.raises(InvalidArgumentError):
            await client.detokenize([-1])


async def test_a_deployment_that_loads_is_waited_for_by_whoever_wants_that(address):
    retries: list[Retry] = []
    async with GenerationClient(address) as client:
        with pytest.raises(LoadingError):
            await text_of(client, Prompt.LOADING)
    async with GenerationClient(address, RetryOptions(waits_until_loaded=True)) as client:
        request = GenerationRequest(Prompt.LOADING, request_id="another")
        events = [e async for e in client.generate(request, on_retry=retries.append)]
    assert isinstance(events[-1], Finished)
    assert [type(retry.error) for retry in retries] == [LoadingError]
    assert 59 < retries[0].left_s <= 60
