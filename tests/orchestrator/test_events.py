"""What a generation says of itself: steps, statistics, usage and seed."""

from dataclasses import replace

import pytest

from forethought.generation import GenerationParams, GenerationRequest, Verdict
from forethought.sampling.types import TokenOrigin
from tests.stack import Answer, LoadedModel, Stack, generate, running_stack

PROMPT = [3, 5, 7]
PARAMS = GenerationParams(max_tokens=40, seed=3, ignore_eos=True, num_speculative_tokens=4)


def request(*, include_steps: bool = True, **changes) -> GenerationRequest:
    return GenerationRequest(PROMPT, replace(PARAMS, **changes), include_steps=include_steps)


async def watched(stack: Stack, **changes) -> Answer:
    return await generate(stack.client, request(**changes))


async def test_steps_tell_how_every_token_came_to_be(badly_drafting: Stack):
    answer = await watched(badly_drafting)
    position, told = len(PROMPT), []
    for number, step in enumerate(answer.steps):
        assert (step.round, step.position) == (number, position)
        verdicts = [token.verdict for token in step.drafted]
        num_accepted = verdicts.count(Verdict.ACCEPTED)
        # Accepted ones, then at most one that was rejected, then what was behind it.
        assert verdicts == (
            [Verdict.ACCEPTED] * num_accepted
            + [Verdict.REJECTED, *[Verdict.DROPPED] * len(verdicts)][: len(verdicts) - num_accepted]
        )
        is_bonus = num_accepted == len(verdicts)
        assert step.final.origin is (TokenOrigin.BONUS if is_bonus else TokenOrigin.RECOVERED)
        told += [
            (token.token_id, TokenOrigin.ACCEPTED, token.draft_prob, token.target_prob)
            for token in step.drafted[:num_accepted]
        ]
        told.append((step.final.token_id, step.final.origin, None, step.final.target_prob))
        position += num_accepted + 1
    assert told == [(t.token_id, t.origin, t.draft_prob, t.target_prob) for t in answer.tokens]
    assert {v.verdict for step in answer.steps for v in step.drafted} == set(Verdict)


async def test_steps_show_tokens_by_name(badly_drafting: Stack):
    answer = await watched(badly_drafting)
    text_of = badly_drafting.deployment.tokenizer.token_text
    for step in answer.steps:
        assert step.final_text == text_of(step.final.token_id)
        assert [t.text for t in step.drafted] == [text_of(t.token_id) for t in step.drafted]


async def test_statistics_are_the_sums_over_the_steps(badly_drafting: Stack):
    answer = await watched(badly_drafting)
    speculation, steps = answer.finished.speculation, answer.steps
    accepted = [
        [token.verdict is Verdict.ACCEPTED for token in step.drafted] + [False] * 4
        for step in steps
    ]
    assert speculation.num_rounds == len(steps)
    assert speculation.num_draft_tokens == sum(len(step.drafted) for step in steps)
    assert speculation.num_accepted_tokens == sum(map(sum, accepted))
    per_position = [sum(row[place] for row in accepted) for place in range(4)]
    shown = speculation.num_accepted_tokens_per_position
    assert [*shown, *[0] * (4 - len(shown))] == per_position
    assert speculation.num_draft_failures == 0
    assert speculation.speculation_ns == sum(step.speculation_ns for step in steps)
    assert speculation.verification_ns == sum(step.verification_ns for step in steps)
    assert speculation.rejection_ns == sum(step.rejection_ns for step in steps)
    assert speculation.mean_acceptance_length == pytest.approx(len(answer.tokens) / len(steps))
    times = (speculation.speculation_ns, speculation.verification_ns, speculation.rejection_ns)
    assert 0 < answer.finished.time_to_first_token_ns < answer.finished.total_ns
    assert sum(times) < answer.finished.total_ns


async def test_every_token_counts_as_accepted_or_as_the_end_of_a_round(badly_drafting: Stack):
    answer = await watched(badly_drafting)
    speculation, finished = answer.finished.speculation, answer.finished
    assert finished.num_output_tokens == len(answer.tokens) == PARAMS.max_tokens
    assert finished.num_prompt_tokens == answer.started.num_prompt_tokens == len(PROMPT)
    assert speculation.num_rounds + speculation.num_accepted_tokens == finished.num_output_tokens
    assert sum(speculation.num_accepted_tokens_per_position) == speculation.num_accepted_tokens


async def test_steps_come_only_when_asked_for_and_change_nothing(badly_drafting: Stack):
    assert (await watched(badly_drafting)).steps
    without = await watched(badly_drafting, include_steps=False)
    assert without.steps == []
    assert without.tokens == (await watched(badly_drafting)).tokens


async def test_without_speculation_every_token_is_a_bonus_token(badly_drafting: Stack):
    answer = await watched(badly_drafting, num_speculative_tokens=0)
    assert {token.origin for token in answer.tokens} == {TokenOrigin.BONUS}
    assert all(token.draft_prob is None for token in answer.tokens)
    assert all(step.drafted == () for step in answer.steps)
    speculation = answer.finished.speculation
    assert speculation.num_rounds == len(answer.tokens)
    assert speculation.num_draft_tokens == speculation.num_draft_failures == 0
    assert speculation.num_accepted_tokens_per_position == ()
    assert speculation.acceptance_rate is None
    assert speculation.mean_acceptance_length == 1


async def test_without_speculation_the_draft_tier_is_left_alone(badly_drafting: Stack):
    admitted = []
    admit = badly_drafting.proposer.open
    badly_drafting.proposer.open = lambda opening: admitted.append(opening) or admit(opening)
    await watched(badly_drafting, num_speculative_tokens=0, max_tokens=5)
    assert admitted == []
    await watched(badly_drafting, num_speculative_tokens=1, max_tokens=5)
    assert len(admitted) == 1


async def test_the_deployment_chooses_k_when_the_request_does_not(badly_drafting: Stack):
    answer = await watched(badly_drafting, num_speculative_tokens=None)
    default = badly_drafting.deployment.default_num_speculative_tokens
    assert max(len(step.drafted) for step in answer.steps) == default
    # The first round computes the prompt and does not wait for a draft.
    assert answer.steps[0].drafted == ()


@pytest.mark.parametrize("k", [0, 4])
async def test_a_seed_gives_the_same_tokens_again_and_another_one_others(
    tiny_target: LoadedModel, tiny_draft: LoadedModel, k: int
):
    answers = []
    for _ in range(2):
        # Nothing is left of the first run: other servers, other sessions.
        async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
            answers.append(await watched(stack, num_speculative_tokens=k))
            other = await watched(stack, num_speculative_tokens=k, seed=4)
    assert answers[0].tokens == answers[1].tokens
    assert [s.drafted for s in answers[0].steps] == [s.drafted for s in answers[1].steps]
    assert answers[0].token_ids != other.token_ids
    assert answers[0].started.seed == PARAMS.seed


async def test_a_seed_that_was_drawn_is_reported_and_repeats_the_text(badly_drafting: Stack):
    drawn = await watched(badly_drafting, seed=None)
    again = await watched(badly_drafting, seed=drawn.started.seed)
    other = await watched(badly_drafting, seed=None)
    assert again.tokens == drawn.tokens
    assert other.started.seed != drawn.started.seed
    assert other.started.session_id != drawn.started.session_id
