"""From answers to a verdict. The deployments are distributions of three tokens after another."""

from dataclasses import replace

import numpy as np
import pytest

from forethought.probe.verdict import (
    Answers,
    Criteria,
    Obstacle,
    PromptAnswers,
    Verdict,
    judge_answers,
)

CRITERIA = Criteria(num_tokens=3, alpha=0.01, max_unseen_bias=0.25)
VOCABULARY = 4
STANDARD_ERRORS = 4


def answer(generator, num_samples, *, bias=0.0, num_drafted=None):
    """One arm: each token depends on the last one, and the third leans to token 0 by `bias`."""
    transitions = np.array([[4, 3, 2, 1], [1, 4, 3, 2], [2, 1, 4, 3], [3, 2, 1, 4]]) / 10
    columns = [generator.integers(VOCABULARY, size=num_samples)]
    for _ in range(2):
        draws = generator.random(num_samples)[:, None]
        columns.append((draws > transitions[columns[-1]].cumsum(axis=1)).sum(axis=1))
    columns[2] = np.where(generator.random(num_samples) < bias, 0, columns[2])
    outputs = tuple(tuple(map(int, row)) for row in np.stack(columns, axis=1))
    drafted = num_samples if num_drafted is None else num_drafted
    return Answers(outputs, num_draft_tokens=drafted, num_drafted_answers=drafted)


def answer_both(generator, num_samples=1000, **speculative):
    return PromptAnswers(
        answer(generator, num_samples, num_drafted=0), answer(generator, num_samples, **speculative)
    )


def judge(seed=0, num_prompts=2, criteria=CRITERIA, **options):
    generator = np.random.default_rng(seed)
    return judge_answers([answer_both(generator, **options) for _ in range(num_prompts)], criteria)


def test_the_whole_procedure_calls_lossless_deployments_biased_no_more_often_than_alpha():
    num_runs, alpha = 500, 0.1  # false alarms that can be counted
    criteria = replace(CRITERIA, alpha=alpha)
    verdicts = [judge(seed, num_samples=200, criteria=criteria).verdict for seed in range(num_runs)]
    error = (alpha * (1 - alpha) / num_runs) ** 0.5
    rate = verdicts.count(Verdict.BIASED) / num_runs
    assert 0 < rate < alpha + STANDARD_ERRORS * error


def test_a_bias_of_the_stated_size_is_found_with_the_stated_power():
    # `bias` moves 3/4 of it in total variation: a quarter would have been token 0 anyway.
    stated = judge(num_prompts=1, num_samples=1000).sensitivities[-1]
    assert stated.num_tokens == 3
    num_runs = 200
    verdicts = [
        judge(seed, num_prompts=1, num_samples=1000, bias=stated.bias / 0.75).verdict
        for seed in range(num_runs)
    ]
    assert verdicts.count(Verdict.BIASED) / num_runs > CRITERIA.power


def test_answers_that_agree_are_lossless_at_every_length_that_is_speculated():
    judgement = judge()
    assert judgement.verdict is Verdict.LOSSLESS
    assert judgement.reason == ""
    assert [(s.num_tokens, s.num_prompts) for s in judgement.sensitivities] == [(2, 2), (3, 2)]
    assert all(0 < s.bias < CRITERIA.max_unseen_bias for s in judgement.sensitivities)


def test_alpha_is_shared_by_all_prompts_and_lengths():
    judgement = judge()
    assert judgement.alpha_per_test == pytest.approx(CRITERIA.alpha / 6)
    assert [(test.prompt, test.num_tokens) for test in judgement.tests] == [
        (prompt, num_tokens) for prompt in (0, 1) for num_tokens in (1, 2, 3)
    ]


def test_a_bias_at_the_third_token_shows_at_three_tokens_and_not_before():
    judgement = judge(bias=0.4)
    assert judgement.verdict is Verdict.BIASED
    assert judgement.worst.num_tokens == 3
    for test in judgement.tests:
        assert (test.p_value < judgement.alpha_per_test) == (test.num_tokens == 3)


def test_where_nothing_was_drafted_nothing_is_said():
    judgement = judge(num_drafted=0)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason == "nothing was drafted"
    assert judgement.sensitivities == []


def test_arms_that_differ_are_biased_even_if_nothing_was_drafted():
    assert judge(bias=0.4, num_drafted=0).verdict is Verdict.BIASED


def test_fewer_drafted_answers_than_a_bias_would_need_are_inconclusive():
    judgement = judge(num_drafted=5)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason == Obstacle.SELDOM_DRAFTED.value


def test_too_few_samples_are_inconclusive():
    judgement = judge(num_samples=200, criteria=replace(CRITERIA, max_unseen_bias=0.1))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason == Obstacle.INSENSITIVE.value


def test_answers_that_are_all_different_are_inconclusive():
    outputs = tuple((index, index, index) for index in range(500))
    all_different = PromptAnswers(Answers(outputs), Answers(outputs, 500, 300, 500))
    judgement = judge_answers([all_different], CRITERIA)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason == Obstacle.RARE.value


def test_one_prompt_that_tells_something_is_enough_and_is_counted_alone():
    generator = np.random.default_rng(0)
    judgement = judge_answers(
        [answer_both(generator), answer_both(generator, num_drafted=0)], CRITERIA
    )
    assert judgement.verdict is Verdict.LOSSLESS
    assert {s.num_prompts for s in judgement.sensitivities} == {1}


def test_answers_that_never_vary_are_compared_too():
    same = Answers(((1, 2, 3),) * 500, 500, 500, 500)
    assert judge_answers([PromptAnswers(same, same)], CRITERIA).verdict is Verdict.LOSSLESS
    other = Answers(((1, 2, 3),) * 400 + ((1, 2, 4),) * 100, 500, 500, 500)
    assert judge_answers([PromptAnswers(same, other)], CRITERIA).verdict is Verdict.BIASED
