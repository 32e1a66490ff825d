"""A draft ends before the first place where the model is too uncertain, and nowhere else.

`tests/exactness/test_stopping_drafts.py` shows that this is exact.
"""

from collections.abc import Sequence

import pytest

from draft_service.model_proposer import ModelProposer
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import LookaheadOutcome, VerificationMode
from forethought.tier import SessionOpen, SpeculateRound
from tests.draft.test_lookahead import Sessions, ask, until_made
from tests.draft.test_model_proposer import assert_alike
from tests.engine.token_pool import whole_pass
from tests.stack import LoadedModel

PROMPT = [3, 5, 7, 5, 2]
K = 6
SHAPES = {
    "greedy": SamplingParams(temperature=0),
    "sampled": SamplingParams(seed=5),
    "shaped": SamplingParams(temperature=0.7, top_k=3, repetition_penalty=1.4, seed=6),
}
every_shape = pytest.mark.parametrize("shape", SHAPES)


async def drafted(
    proposer: ModelProposer, sampling: SamplingParams, mode: VerificationMode
) -> list[list[int]]:
    """The guesses of some rounds, each from an opening of its own."""
    guesses = []
    for number in range(12):
        tokens = [*PROMPT, number % 10 + 2]
        session = proposer.open(SessionOpen("s", tokens, sampling, mode=mode))
        draft, _ = await session.propose(SpeculateRound(number, len(tokens), [], K))
        guesses.append(draft.token_ids)
        session.close()
    await proposer.close()
    return guesses


def first_uncertain(model: LoadedModel, number: int, guesses: Sequence[int], least: float) -> int:
    """The place of the first guess whose distribution, unshaped, has no token so likely."""
    tokens = [*PROMPT, number % 10 + 2]
    for place in range(K):
        logits = whole_pass(model.model, [*tokens, *guesses[:place]], 1)
        if logits.softmax(dim=-1).max() < least:
            return place
    return K


@every_shape
@pytest.mark.parametrize("mode", [VerificationMode.REJECTION, VerificationMode.COUPLED])
async def test_a_draft_is_the_one_without_the_rule_up_to_the_first_doubt(
    tiny_draft: LoadedModel, shape: str, mode: VerificationMode
):
    whole = await drafted(tiny_draft.proposer(), SHAPES[shape], mode)
    doubting = tiny_draft.proposer()
    doubting.min_prob = 0.35
    cut = await drafted(doubting, SHAPES[shape], mode)
    lengths = [first_uncertain(tiny_draft, *each, 0.35) for each in enumerate(whole)]
    assert cut == [guesses[:length] for guesses, length in zip(whole, lengths, strict=True)]
    assert len(set(lengths)) > 1


@every_shape
async def test_looking_ahead_makes_the_same_drafts(tiny_draft: LoadedModel, shape: str):
    """Also behind a draft that ended for doubts, of which the last guess is fed already."""
    sessions = Sessions(tiny_draft, SHAPES[shape], VerificationMode.REJECTION)
    for proposer in sessions.proposers:
        proposer.min_prob = 0.3
    tokens, committed, outcomes, lengths = [8, 2, 2, 6, 11, 3, 4, 5, 9], [], [], []
    for number in range(1, 25):
        ahead, plain = await sessions.ask(ask(number, tokens, committed, k=4))
        assert_alike(ahead, plain)
        await until_made(sessions.ahead)
        outcomes.append(ahead.lookahead)
        lengths.append(len(ahead))
        made = sessions.ahead._bets
        expected = made[0]._next.request.committed_token_ids if made else [5]
        committed = list(expected) if number % 4 else [*ahead.token_ids, 6]
        tokens += committed
    assert LookaheadOutcome.HIT in outcomes
    assert len(set(lengths)) > 2
    await sessions.close()
