"""OpenAI's own client, which checks every answer against its types."""

from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio

from tests.gateway.answers import FIXED, MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXTRA = {"num_speculative_tokens": 3, "ignore_eos": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


async def test_models_are_listed_and_found(client):
    models = [model async for model in client.models.list()]
    assert (await client.models.retrieve("tiny")) == models[0]


async def test_a_conversation_is_answered_at_once_and_piece_by_piece(client):
    asked = {
        "model": "tiny",
        "messages": MESSAGES,
        "max_completion_tokens": 6,
        "seed": 5,
        "logprobs": True,
        "top_logprobs": 2,
        "user": "me",
        "extra_body": EXTRA,
    }
    whole = await client.chat.completions.create(**asked)
    stream = await client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 6
    asked |= {"max_completion_tokens": 200, "extra_body": {"num_speculative_tokens": 3}}
    whole = await client.chat.completions.create(**asked)
    async with client.chat.completions.stream(**asked) as events:
        final = await events.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"


async def test_an_answer_of_ours_can_be_said_again(client):
    first = await client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=4)
    said = [*MESSAGES, first.choices[0].message.model_dump(), *MESSAGES]
    second = await client.chat.completions.create(model="tiny", messages=said, max_tokens=4)
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


async def test_a_text_is_continued_at_once_and_piece_by_piece(client, url):
    asked = {"model": "tiny", "prompt": ["abc", "b"], "max_tokens": 5, "seed": 5, "logprobs": 1}
    whole = await client.completions.create(**asked, extra_body=EXTRA)
    texts = ["", ""]
    # The client's type of a completion asks each chunk why it ended, which OpenAI's do not say.
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as lax:
        async for chunk in await lax.completions.create(**asked, extra_body=EXTRA, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]


async def test_refusals_are_the_errors_of_the_client(client):
    with pytest.raises(openai.BadRequestError) as refusal:
        await client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=1000)
    assert refusal.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="gpt-9", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError) as refusal:
        await client.chat.completions.create(
            model="tiny", messages=MESSAGES, seed=FIXED["seed"], tools=[{"type": "function"}]
        )
    assert refusal.value.param == "tools"
