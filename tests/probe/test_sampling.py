"""Who is asked what, and when. The deployment is a fake that answers with the request's seed."""

import asyncio
from dataclasses import replace

import pytest

from forethought.bench.prompts import PromptFileError
from forethought.errors import InvalidArgumentError, OverloadedError
from forethought.generation import (
    ChatMessage,
    Finished,
    FinishReason,
    GenerationParams,
    SpeculationStatistics,
    Token,
)
from forethought.probe.prompts import DEFAULT_PROMPTS, load_prompts
from forethought.probe.sampling import Sampling, sample_both_arms
from forethought.sampling.types import TokenOrigin

PARAMS = GenerationParams(max_tokens=2, seed=2**64 - 3, num_speculative_tokens=4)


class Client:
    """Remembers the requests; drafts one token where K is not 0."""

    def __init__(self, failures=()):
        self.requests = []
        self.failures = list(failures)
        self.num_open = self.most_open = 0

    async def generate(self, request, *, timeout_s=None):
        self.requests.append(request)
        if self.failures:
            raise self.failures.pop(0)
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        for _ in range(5):
            await asyncio.sleep(0)
        self.num_open -= 1
        for index, token_id in enumerate((request.params.seed % 1000, 7)):
            yield Token(index, token_id, f"<{token_id}>", TokenOrigin.BONUS, None, 0.5)
        drafted = int(request.params.num_speculative_tokens != 0)
        speculation = SpeculationStatistics(num_draft_tokens=drafted, num_draft_failures=drafted)
        yield Finished(FinishReason.LENGTH, 1, 2, speculation, 1, 1)


def sampling(**changes):
    settings = {"num_samples": 5, "concurrency": 4, "timeout_s": 1}
    return Sampling(["a", "b"], PARAMS, **{**settings, **changes})


async def sample(client, **changes):
    return await sample_both_arms(client, sampling(**changes), lambda _: None)


async def test_both_arms_answer_each_prompt_equally_often_and_differ_in_k_alone():
    client = Client()
    samples = await sample(client)
    assert len(client.requests) == sampling().num_requests == 20
    for of_prompt in samples.answers:
        assert len(of_prompt.plain.token_ids) == len(of_prompt.speculative.token_ids) == 5
    kinds = {(r.prompt, replace(r.params, seed=0)) for r in client.requests}
    speculative = replace(PARAMS, seed=0)
    plain = replace(speculative, num_speculative_tokens=0)
    assert kinds == {(prompt, params) for prompt in "ab" for params in (plain, speculative)}


async def test_no_two_requests_of_any_arm_share_a_seed():
    client = Client()
    await sample(client)
    seeds = [request.params.seed for request in client.requests]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < 2**64


async def test_arms_take_turns_and_the_first_one_changes():
    client = Client()
    await sample(client, concurrency=1)
    arms = [(r.prompt, r.params.num_speculative_tokens) for r in client.requests[:8]]
    assert arms == [("a", 0), ("a", 4), ("b", 0), ("b", 4), ("a", 4), ("a", 0), ("b", 4), ("b", 0)]


async def test_so_many_requests_are_under_way_and_no_more():
    client = Client()
    await sample(client)
    assert client.most_open == 4


async def test_speculation_is_added_up_by_arm_and_prompt():
    samples = await sample(Client())
    for of_prompt in samples.answers:
        assert of_prompt.plain.num_draft_tokens == 0
        speculative = of_prompt.speculative
        assert speculative.num_draft_tokens == speculative.num_drafted_answers == 5
        assert speculative.num_draft_failures == 5
    assert samples.texts[7] == "<7>"


async def test_the_deployments_own_k_is_left_to_it():
    client = Client()
    params = GenerationParams(max_tokens=2, seed=0)
    await sample_both_arms(client, Sampling(["a"], params, 1, 1, 1), lambda _: None)
    assert [request.params.num_speculative_tokens for request in client.requests] == [0, None]


async def test_a_full_deployment_is_asked_again_for_the_same_sample():
    client = Client([OverloadedError("no room", retry_after_s=0)] * 3)
    samples = await sample(client, concurrency=1)
    assert len({request.params.seed for request in client.requests[:4]}) == 1
    assert len(samples.answers[0].plain.token_ids) == 5


async def test_a_deployment_that_stays_full_is_an_error():
    client = Client([OverloadedError("no room", retry_after_s=2)])
    with pytest.raises(OverloadedError):
        await sample(client, timeout_s=1)


async def test_any_other_refusal_ends_the_sampling():
    client = Client([InvalidArgumentError({"params.top_p": "must be at most 1"})])
    with pytest.raises(InvalidArgumentError):
        await sample(client, concurrency=1)
    assert len(client.requests) == 1


def test_lines_of_a_file_are_users_messages_or_plain_text(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("one\n\ntwo\n")
    assert load_prompts(file, raw=True) == ["one", "two"]
    assert load_prompts(file, raw=False) == [
        [ChatMessage("user", "one")],
        [ChatMessage("user", "two")],
    ]
    with pytest.raises(PromptFileError, match="No such file"):
        load_prompts(tmp_path / "none.txt", raw=True)


def test_the_default_prompts_are_plain_texts():
    assert load_prompts(None, raw=False) == list(DEFAULT_PROMPTS)
