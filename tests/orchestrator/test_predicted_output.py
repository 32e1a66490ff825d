"""What a request predicts of its output becomes the draft where the output says it."""

from dataclasses import replace

import numpy as np
import pytest

from forethought.generation import PREDICTION
from forethought.sampling.types import TokenOrigin, VerificationMode
from orchestrator.loop.round import Ask, Drafted
from orchestrator.request.plan import PolicyKind
from orchestrator.tiers.lookup_first import NoDraftTier
from orchestrator.tiers.predicted_output import PredictedOutput, Prediction
from tests.lifecycle.requests import GREEDY, PROMPT, SEEDED, asking
from tests.lookup.sessions import after
from tests.lookup.test_lookup_first import SESSION
from tests.stack import MAX_K, generate, running_stack

COUPLED = replace(SEEDED, verification_mode=VerificationMode.COUPLED)
TWICE = (7, 1, 2, 8, 8, 1, 2, 9)


@pytest.mark.parametrize(
    ("predicted", "output", "guesses"),
    [
        ((1, 2, 3, 4, 5, 6), (1,), [2, 3, 4, 5]),
        ((1, 2, 3, 4, 5, 6), (1, 2), [3, 4, 5, 6]),
        ((1, 2, 3, 4, 5, 6), (9,), []),
        ((1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6), []),
        ((1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6, 7), []),
        ((1, 2, 3, 4, 5, 6), (1, 2, 9, 4), []),  # a single token says little
        ((1, 2, 3, 4, 5, 6, 7), (1, 2, 9, 4, 5), [6, 7]),
        ((1, 2, 3, 4, 5, 6, 7, 8), (9, 3, 4), [5, 6]),  # as many as match
        (TWICE, (3, 1, 2), [8, 8]),  # of equals the nearest place
        (TWICE, (3, 3, 3, 3, 3, 1, 2), [9]),
        (TWICE, (0, 8, 1, 2), [9]),  # and before that, the longest
        ((5,) * 6, (5, 5, 5), [5, 5, 5]),
        ((5,), (5, 5, 5), []),
    ],
)
def test_guesses_follow_what_the_end_of_the_output_repeats(predicted, output, guesses):
    prediction = Prediction(np.array(predicted, np.uint32), len(PROMPT), 4)
    assert prediction.guesses((*PROMPT, *output)) == guesses


def test_what_is_compared_of_a_long_output_is_its_end():
    text = tuple(range(100))
    prediction = Prediction(np.array(text, np.uint32), 0, 8)
    assert prediction.guesses((7,) * 9 + text[20:60]) == list(range(60, 68))


class ScriptedPolicy:
    expects_speculation = True

    def __init__(self):
        self.asked, self.learned = [], []

    def ask(self, session):
        self.asked.append(session)
        return Ask(1)

    def learn(self, judged):
        self.learned.append(judged)

    def close(self):
        self.asked.append("closed")


async def test_others_are_asked_and_taught_only_where_the_prediction_says_nothing():
    policy = ScriptedPolicy()
    prediction = Prediction(np.array([7, 8, 9, 5, 6], np.uint32), SESSION.position, 8)
    predicted = PredictedOutput(prediction, NoDraftTier(), policy)
    assert predicted.ask(SESSION) == Ask(1)  # the first round, of the prompt
    assert await predicted.propose(SESSION, Ask(1)) == Drafted()
    predicted.learn("plain")
    said = after(SESSION, 7, 8)
    ask = predicted.ask(said)
    assert ask == Ask(3)
    drafted = await predicted.propose(said, ask.within(3))
    assert [each.token_id for each in drafted.draft.tokens] == [9, 5]
    assert drafted.draft.proposer == PREDICTION
    predicted.learn("predicted")
    assert predicted.ask(after(said, 3)) == Ask(1)
    predicted.learn("other")
    predicted.close()
    assert policy.learned == ["plain", "other"]
    assert policy.asked == [SESSION, after(said, 3), "closed"]


@pytest.mark.parametrize("params", [GREEDY, COUPLED], ids=["greedy", "coupled"])
@pytest.mark.parametrize("policy", PolicyKind)
async def test_no_prediction_changes_the_text_and_a_right_one_is_accepted(
    tiny_target, tiny_draft, params, policy
):
    async with running_stack(tiny_target, tiny_draft.proposer(), policy=policy) as stack:
        plain = await generate(stack.client, asking(params))
        tokenizer = stack.deployment.tokenizer
        text = "".join(map(tokenizer.token_text, plain.token_ids))
        assert tokenizer.encode(text, add_special_tokens=False) == plain.token_ids
        wrong, half = text[::-1], f"{text[:20]}cc{text[20:]}"
        counts = {}
        for prediction in (text, wrong, half):
            answer = await generate(stack.client, asking(params, prediction=prediction))
            assert answer.text == plain.text
            counts[prediction] = answer.finished.speculation.of(PREDICTION)
    right = counts[text]
    assert right.num_accepted_tokens == right.num_draft_tokens > 0.6 * len(plain.token_ids)
    assert 0 < counts[half].num_accepted_tokens <= right.num_accepted_tokens


async def test_as_many_tokens_are_predicted_as_the_request_drafts(tiny_target):
    async with running_stack(tiny_target, policy=PolicyKind.ADAPTIVE) as stack:
        for k in (None, 2, 0):
            plain = await generate(stack.client, asking(num_speculative_tokens=0))
            answer = await generate(
                stack.client, asking(num_speculative_tokens=k, prediction=plain.text)
            )
            predicted = [each for each in answer.steps if each.proposer == PREDICTION]
            lengths = {len(each.drafted) for each in predicted}
            assert max(lengths, default=0) == (MAX_K if k is None else k)
            assert answer.text == plain.text
    assert {token.origin for token in answer.tokens} == {TokenOrigin.BONUS}
