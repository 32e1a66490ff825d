"""LiteLLM, in a process of its own: it asks the network for prices unless told not to, and says so
to whoever imports it."""

import asyncio
import json
import os
import sys

import pytest

from tests.gateway.answers import CHAT, COMPLETIONS, FIXED, MESSAGES, chat, completion, post

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXTRA = {"num_speculative_tokens": FIXED["num_speculative_tokens"], "ignore_eos": True}
_ASK = f"""
import asyncio, json, sys, litellm

async def main():
    common = dict(
        model="hosted_vllm/tiny", api_base=sys.argv[1] + "/v1", api_key="none", max_retries=0,
        extra_body={EXTRA}, max_tokens=6, seed={FIXED["seed"]},
    )
    whole = await litellm.acompletion(messages={MESSAGES}, logprobs=True, top_logprobs=2, **common)
    stream = await litellm.acompletion(
        messages={MESSAGES}, stream=True, stream_options={{"include_usage": True}}, **common
    )
    chunks = [chunk.model_dump() async for chunk in stream]
    text = await litellm.atext_completion(prompt="abc", **common)
    print(json.dumps([whole.model_dump(), chunks, text.model_dump()]))

asyncio.run(main())
"""


async def test_litellm_is_answered_at_once_and_piece_by_piece(url, http):
    asking = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _ASK,
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    said, complaints = await asking.communicate()
    assert asking.returncode == 0, complaints.decode()
    whole, chunks, text = json.loads(said)
    asked = {"max_tokens": 6, "ignore_eos": True}
    expected = await post(http, CHAT, chat(**asked))
    (choice,) = whole["choices"]
    assert choice["message"]["content"] == expected["choices"][0]["message"]["content"]
    assert choice["finish_reason"] == "length"
    assert len(choice["logprobs"]["content"]) == 6
    deltas = [each["choices"][0]["delta"]["content"] or "" for each in chunks]
    assert "".join(deltas) == choice["message"]["content"]
    for told in (whole, chunks[-1]):
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert told["usage"][name] == expected["usage"][name]
    completed = await post(http, COMPLETIONS, completion(**asked))
    assert text["choices"][0]["text"] == completed["choices"][0]["text"]
