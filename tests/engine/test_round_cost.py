"""A round costs what is new in it, however long the context is."""

import pytest
import torch

from draft_service.model_proposer import ModelProposer
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.cache.seen_tokens import SeenTokens
from forethought.engine.cache.sequence import CachedSequence
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Evidence
from forethought.tier import DraftToVerify, ModelInfo, SessionOpen, SpeculateRound, VerifyRound
from target_service.verifier import Verification, verify
from tests.engine.ledger import MAX_LEN, VOCAB_SIZE, LedgerModel, a_sequence
from tests.engine.token_pool import compute

INFO = ModelInfo("ledger", "", "", VOCAB_SIZE, MAX_LEN, "float32", "cpu", 8)
PROMPT = [1, 2, 3] * 20
either_penalty = pytest.mark.parametrize("penalty", [1.0, 1.1])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each change to a count has touched."""
    changes: list[int] = []
    change = SeenTokens._change

    def watched(self: SeenTokens, token_ids: list[int], by: int) -> None:
        changes.append(len(token_ids))
        change(self, token_ids, by)

    monkeypatch.setattr(SeenTokens, "_change", watched)
    return changes


@pytest.fixture
def refuse_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    def copies(self: CachedSequence) -> list[int]:
        raise AssertionError("copies the whole log")

    monkeypatch.setattr(CachedSequence, "token_ids", property(copies))


@either_penalty
async def test_drafting_never_goes_through_the_whole_context_again(penalty, counted, request):
    model = LedgerModel()
    proposer = ModelProposer(model, INFO, VOCAB_SIZE, max_support=4, limits=EngineLimits(16))
    session = proposer.open(SessionOpen("s", PROMPT, SamplingParams(repetition_penalty=penalty)))
    await session.propose(SpeculateRound(1, len(PROMPT), (), 4))
    assert counted == ([] if penalty == 1 else [len(PROMPT)])
    counted.clear()
    model.num_computed.clear()
    request.getfixturevalue("refuse_copies")
    await session.propose(SpeculateRound(2, len(PROMPT) + 2, (4, 5), 4))
    await session.propose(SpeculateRound(3, len(PROMPT) + 1, (6,), 4))
    await proposer.close()
    assert sum(counted) == (0 if penalty == 1 else 2 + 2 + 1)
    assert max(model.num_computed) <= 2


@either_penalty
def test_verifying_never_goes_through_the_whole_context_again(penalty, counted, request):
    sampling = SamplingParams(repetition_penalty=penalty)
    model = LedgerModel()
    model.allocate(16)
    sequence = a_sequence(PROMPT)
    drafts = (DraftToVerify(4, (4, 5)), DraftToVerify(6, (6,)))

    def verified(round_: VerifyRound) -> Evidence:
        work = Verification(sequence, round_, sampling)
        work.begin()
        return verify([work], compute(model, sequence, work.num_logits))[0]

    verified(VerifyRound(1, len(PROMPT), (), drafts))
    assert counted == ([] if penalty == 1 else [len(PROMPT)])
    counted.clear()
    request.getfixturevalue("refuse_copies")
    verified(VerifyRound(2, len(PROMPT) + 2, (4, 7), drafts))
    assert sum(counted) == (0 if penalty == 1 else 2)
    assert model.num_computed == [len(PROMPT) + 2, 1 + 2]


def test_a_token_is_seen_until_its_last_place_is_taken_back():
    seen = SeenTokens(VOCAB_SIZE, "cpu")
    seen.add([5, 1, 5])
    seen.remove([5])
    assert seen.token_ids.tolist() == [1, 5]
    seen.remove([5])
    assert seen.token_ids.tolist() == [1]
    seen.remove([1])
    assert seen.token_ids.tolist() == []
    assert seen.token_ids.dtype == torch.long
