"""GenerationService says of every malformed field which one it is."""

import json
import shutil
from math import inf, nan

import pytest

from forethought.v1 import generation_pb2 as pb
from tests.errors.conftest import MAX_K, MAX_LEN, VOCAB_SIZE
from tests.errors.refusals import read_to_end, refusal_of
from tests.stack import loaded, running_stack
from tests.waiting import until_nothing_is_held

NO_NUMBERS = (nan, inf, -inf)
MALFORMED_PARAMS = [
    *(("temperature", value) for value in (*NO_NUMBERS, -0.1, 100.1)),
    *(("top_p", value) for value in (*NO_NUMBERS, 0.0, -0.1, 1.01)),
    *(("min_p", value) for value in (*NO_NUMBERS, -0.1, 1.01)),
    *(("repetition_penalty", value) for value in (*NO_NUMBERS, 0.0, -1.0, 100.1, 5e-324)),
    *(("max_tokens", value) for value in (0, MAX_LEN, 2**32 - 1)),
    *((name, value) for name in ("logprobs", "prompt_logprobs") for value in (21, 2**32 - 1)),
    *(("num_speculative_tokens", value) for value in (MAX_K + 1, 2**32 - 1)),
    *(("verification_mode", value) for value in (99, 2**31 - 1, -1)),
    *(("prediction", value) for value in ("a" * MAX_LEN, "a" * 20 * MAX_LEN)),
    *(("stop", value) for value in ([""], ["a", ""], ["x" * 257], ["a"] * 17)),
    *(("stop_token_ids", value) for value in ([VOCAB_SIZE], [0, 2**32 - 1], [1] * 65)),
]
# Every value of these fields is in range.
ALWAYS_IN_RANGE = {"top_k": (0, 2**32 - 1), "seed": (0, 2**64 - 1), "ignore_eos": (False, True)}

MALFORMED_PROMPTS = {
    "missing": ({}, "prompt"),
    "empty text": ({"text": ""}, "prompt.text"),
    "text too long": ({"text": "a" * MAX_LEN}, "prompt.text"),
    "no token ids": ({"token_ids": pb.TokenIds()}, "prompt.token_ids"),
    "out of vocabulary": (
        {"token_ids": pb.TokenIds(token_ids=[3, VOCAB_SIZE])},
        "prompt.token_ids",
    ),
    "huge token id": ({"token_ids": pb.TokenIds(token_ids=[2**32 - 1])}, "prompt.token_ids"),
    "too many token ids": (
        {"token_ids": pb.TokenIds(token_ids=[3] * MAX_LEN)},
        "prompt.token_ids",
    ),
    "nobody speaks": ({"conversation": pb.Conversation()}, "prompt.conversation"),
    "conversation too long": (
        {"conversation": pb.Conversation(messages=[pb.ChatMessage(content="a" * MAX_LEN)])},
        "prompt.conversation",
    ),
}


def test_no_field_of_the_parameters_is_forgotten_here():
    tried = {name for name, _ in MALFORMED_PARAMS} | set(ALWAYS_IN_RANGE)
    assert tried == {field.name for field in pb.GenerationParams.DESCRIPTOR.fields}


@pytest.mark.parametrize(("name", "value"), MALFORMED_PARAMS)
async def test_a_malformed_parameter_is_named(generation, name, value):
    request = pb.GenerateRequest(text="abc", params=pb.GenerationParams(**{name: value}))
    refusal = await refusal_of(read_to_end(generation.Generate(request, timeout=20)))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert list(refusal.violations) == [f"params.{name}"]
    assert refusal.violations[f"params.{name}"].startswith(("must", "each must", "has"))


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in ALWAYS_IN_RANGE.items() for value in values],
)
async def test_extreme_values_in_range_are_taken(generation, name, value):
    params = pb.GenerationParams(max_tokens=2, **{name: value})
    request = pb.GenerateRequest(text="abc", params=params)
    responses = await read_to_end(generation.Generate(request, timeout=20))
    assert responses[-1].HasField("finished")


@pytest.mark.parametrize("name", ["request_id", "tenant"])
async def test_a_name_that_is_too_long_is_named(generation, name):
    request = pb.GenerateRequest(text="abc", **{name: "n" * 129})
    refusal = await refusal_of(read_to_end(generation.Generate(request, timeout=20)))
    assert list(refusal.violations) == [name]


@pytest.mark.parametrize("kind", MALFORMED_PROMPTS)
async def test_a_malformed_prompt_is_named(generation, kind):
    prompt, field = MALFORMED_PROMPTS[kind]
    call = generation.Generate(pb.GenerateRequest(**prompt), timeout=20)
    refusal = await refusal_of(read_to_end(call))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert list(refusal.violations) == [field]


async def test_everything_that_is_wrong_is_told_at_once(generation):
    request = pb.GenerateRequest(
        request_id="r" * 200,
        tenant="t" * 200,
        token_ids=pb.TokenIds(token_ids=[VOCAB_SIZE]),
        params=pb.GenerationParams(
            temperature=nan,
            top_p=2,
            min_p=-1,
            repetition_penalty=0,
            max_tokens=0,
            logprobs=99,
            num_speculative_tokens=99,
            stop=[""],
            stop_token_ids=[VOCAB_SIZE],
        ),
    )
    refusal = await refusal_of(read_to_end(generation.Generate(request, timeout=20)))
    fields = ("temperature", "top_p", "min_p", "repetition_penalty", "max_tokens", "logprobs")
    more = ("num_speculative_tokens", "stop", "stop_token_ids")
    assert set(refusal.violations) == {
        "request_id",
        "tenant",
        "prompt.token_ids",
        *(f"params.{name}" for name in (*fields, *more)),
    }
    assert all(field in refusal.message for field in refusal.violations)


async def test_a_refused_request_leaves_nothing_behind(stack, generation):
    request = pb.GenerateRequest(text="abc", params=pb.GenerationParams(temperature=nan))
    await refusal_of(read_to_end(generation.Generate(request, timeout=20)))
    await until_nothing_is_held(stack)


async def test_the_longest_prompt_leaves_room_for_one_token(generation):
    request = pb.GenerateRequest(token_ids=pb.TokenIds(token_ids=[3] * (MAX_LEN - 1)))
    responses = await read_to_end(generation.Generate(request, timeout=20))
    assert responses[-1].finished.num_output_tokens == 1


class TestConversation:
    REQUEST = pb.GenerateRequest(
        conversation=pb.Conversation(messages=[pb.ChatMessage(role="user", content="abc")])
    )

    async def test_is_refused_by_a_model_without_a_chat_template(self, folder_with_template):
        refusal = await self.refusal_by(folder_with_template(None))
        assert "has no chat template" in refusal.violations["prompt.conversation"]

    async def test_is_refused_where_the_chat_template_refuses_it(self, folder_with_template):
        folder = folder_with_template("{{ raise_exception('speak up, ' + messages[0]['role']) }}")
        refusal = await self.refusal_by(folder)
        assert "speak up, user" in refusal.violations["prompt.conversation"]

    async def test_is_refused_in_few_words_however_many_the_template_makes(
        self, folder_with_template
    ):
        folder = folder_with_template("{{ raise_exception('né' * 100000) }}")
        refusal = await self.refusal_by(folder)
        assert "né" in refusal.violations["prompt.conversation"]
        assert refusal.violations["prompt.conversation"].endswith("…")

    async def refusal_by(self, folder):
        model = loaded(folder)
        async with running_stack(model) as stack:
            stub = stack.client._stubs[0]
            refusal = await refusal_of(read_to_end(stub.Generate(self.REQUEST, timeout=20)))
            tokenizing = pb.TokenizeRequest(conversation=self.REQUEST.conversation)
            assert await refusal_of(stub.Tokenize(tokenizing, timeout=20)) == refusal
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
        return refusal

    @pytest.fixture
    def folder_with_template(self, tiny_target_folder, tmp_path):
        def make(template):
            folder = tmp_path / "model"
            shutil.copytree(tiny_target_folder, folder)
            path = folder / "tokenizer_config.json"
            settings = json.loads(path.read_text()) | {"chat_template": template}
            path.write_text(json.dumps(settings))
            return folder

        return make


async def test_tokenize_wants_an_input(generation):
    refusal = await refusal_of(generation.Tokenize(pb.TokenizeRequest(), timeout=20))
    assert list(refusal.violations) == ["input"]


async def test_detokenize_names_token_ids_that_do_not_exist(generation):
    request = pb.DetokenizeRequest(token_ids=[3, VOCAB_SIZE])
    refusal = await refusal_of(generation.Detokenize(request, timeout=20))
    assert list(refusal.violations) == ["token_ids"]
