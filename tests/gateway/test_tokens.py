"""Tokens by HTTP: as prompts, beside answers, and by themselves."""

import pytest

from tests.gateway.answers import (
    CHAT,
    COMPLETIONS,
    MESSAGES,
    chat,
    completion,
    post,
    refused,
    streamed,
)
from tests.tiny import CHAT_TEMPLATE, EOS, EOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_texts_and_conversations_become_tokens_and_tokens_text(http):
    answer = await post(http, "/tokenize", {"prompt": "ab", "return_token_strs": True})
    assert answer == {
        "count": 2,
        "max_model_len": 256,
        "tokens": [3, 4],
        "token_strs": ["a", "b"],
    }
    answer = await post(http, "/tokenize", {"messages": MESSAGES, "model": "tiny"})
    assert (answer["tokens"], answer["token_strs"]) == ([3, 4, 5, EOS_ID], None)
    answer = await post(http, "/detokenize", {"tokens": answer["tokens"]})
    assert answer == {"prompt": "abc"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": ""}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": MESSAGES}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": MESSAGES, "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": False}, "add_generation_prompt"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [99]}, "tokens"),
    ],
)
async def test_what_is_wrong_is_named(http, path, body, param):
    status, error = await refused(http, path, body)
    assert (status, error["param"]) == (400, param)


async def test_clients_can_count_tokens_by_themselves(http):
    info = (await http.get("/tokenizer_info")).json()
    assert (info["eos_token"], info["chat_template"]) == (EOS, CHAT_TEMPLATE)


async def test_an_answer_has_the_ids_of_its_tokens_if_asked_for(http):
    asked = chat(max_tokens=6, return_token_ids=True)
    answer = await post(http, CHAT, asked)
    assert answer["prompt_token_ids"] == [3, 4, 5, EOS_ID]
    plain = await post(http, CHAT, chat(max_tokens=6))
    assert "prompt_token_ids" not in plain
    (choice,) = answer["choices"]
    assert choice["message"] == plain["choices"][0]["message"]
    opening, *chunks = await streamed(http, CHAT, asked)
    assert opening["prompt_token_ids"] == answer["prompt_token_ids"]
    ids = [each["choices"][0]["token_ids"] for each in chunks[:-1]]
    assert [each for (each,) in ids] == choice["token_ids"]

    asked = completion(prompt=["abc", "dd"], max_tokens=6, return_token_ids=True)
    answer = await post(http, COMPLETIONS, asked)
    prompts = [each["prompt_token_ids"] for each in answer["choices"]]
    assert prompts == [[3, 4, 5], [6, 6]]
    again = await post(http, COMPLETIONS, completion(prompt=prompts, max_tokens=6))
    assert [each["text"] for each in again["choices"]] == [
        each["text"] for each in answer["choices"]
    ]


@pytest.mark.parametrize("prompt", ["abc", [3, 4, 5]])
async def test_a_prompt_is_repeated_if_asked_for(http, prompt):
    plain = await post(http, COMPLETIONS, completion(prompt=prompt, max_tokens=6))
    asked = completion(prompt=prompt, max_tokens=6, echo=True)
    answer = await post(http, COMPLETIONS, asked)
    assert answer["choices"][0]["text"] == "abc" + plain["choices"][0]["text"]
    chunks = await streamed(http, COMPLETIONS, asked)
    assert chunks[0]["choices"][0]["text"] == "abc"
    text = "".join(each["choices"][0]["text"] for each in chunks)
    assert text == answer["choices"][0]["text"]


async def test_a_model_is_found_by_each_of_its_names(http):
    listed = (await http.get("/v1/models")).json()["data"]
    for card in listed:
        assert (await http.get(f"/v1/models/{card['id']}")).json() == card
    assert [card["id"] for card in listed] == ["tiny", "alias"]
    response = await http.get("/v1/models/org/another")
    assert (response.status_code, response.json()["error"]["param"]) == (404, "model")
