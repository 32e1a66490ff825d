"""LangChain's client."""

from importlib import import_module

import pytest

from tests.gateway.answers import CHAT, FIXED, MESSAGES, chat, post

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_langchain_is_answered_at_once_and_piece_by_piece(url, http):
    # It takes a second to import, which not every worker of a test run needs to wait for.
    model = import_module("langchain_openai").ChatOpenAI(
        base_url=f"{url}/v1",
        api_key="none",
        model="tiny",
        max_tokens=6,
        seed=FIXED["seed"],
        logprobs=True,
        max_retries=0,
        extra_body={"num_speculative_tokens": FIXED["num_speculative_tokens"], "ignore_eos": True},
        stream_usage=True,
    )
    said = [(each["role"], each["content"]) for each in MESSAGES]
    answer = await model.ainvoke(said)
    pieces = [piece async for piece in model.astream(said)]
    await model.root_async_client.close()
    model.root_client.close()
    (expected,) = (await post(http, CHAT, chat(max_tokens=6, ignore_eos=True)))["choices"]
    assert answer.content == expected["message"]["content"]
    assert "".join(piece.content for piece in pieces) == answer.content
    usage = {"input_tokens": 4, "output_tokens": 6, "total_tokens": 10}
    for told in (answer, sum(pieces[1:], pieces[0])):
        assert usage.items() <= told.usage_metadata.items()
        assert told.response_metadata["finish_reason"] == "length"
    assert len(answer.response_metadata["logprobs"]["content"]) == 6
