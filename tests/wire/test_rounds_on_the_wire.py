"""A round is small, and what the draft tier drew from is what the orchestrator judges with."""

import numpy as np
import pytest
import torch

from forethought.engine.rows.draws import draw_drafts, measure
from forethought.engine.rows.filters import shape_logits
from forethought.rpc.codecs.tier.draft import draft_from_proto, draft_to_proto, speculate_to_proto
from forethought.rpc.codecs.tier.evidence import (
    evidence_from_proto,
    evidence_to_proto,
    verify_to_proto,
)
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Draft, Evidence
from forethought.tier import (
    DraftRound,
    DraftToVerify,
    EvidenceRound,
    RoundTimings,
    SpeculateRound,
    VerifyRound,
)
from forethought.v1 import draft_pb2, target_pb2

K, M, VOCAB_SIZE = 4, 32, 49_152
TIMINGS = RoundTimings(1_000_000, 20_000_000, 21_000_000, 1)
POSITION, ROUND = 4000, 1000


def logits(num_rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(num_rows, VOCAB_SIZE, generator=generator)


def make_draft(seed: int = 0, **shape: float) -> Draft:
    probs = shape_logits(logits(K, seed), SamplingParams(**shape))
    return Draft(tuple(draw_drafts(probs, M, [0.5] * K)))


def make_evidence(draft: Draft) -> Evidence:
    probs = shape_logits(logits(K + 1, 1), SamplingParams())
    supports = [*(token.support_token_ids for token in draft.tokens), ()]
    return Evidence(tuple(measure(probs, supports, [0.5] * (K + 1))))


def test_the_four_messages_of_a_round_take_less_than_4_kb(record_property):
    draft = make_draft()
    assert [len(token.support_token_ids) for token in draft.tokens] == [M] * K
    committed = [VOCAB_SIZE - 1] * (K + 1)  # as after a fully accepted round
    speculate = SpeculateRound(ROUND, POSITION, committed, K)
    to_verify = [DraftToVerify(t.token_id, t.support_token_ids) for t in draft.tokens]
    verify = VerifyRound(ROUND, POSITION, committed, to_verify)
    evidence = make_evidence(draft)

    messages = [
        draft_pb2.SpeculateRequest(round=speculate_to_proto(speculate)),
        draft_pb2.SpeculateResponse(
            draft=draft_to_proto(DraftRound(ROUND, POSITION, draft, TIMINGS))
        ),
        target_pb2.VerifyRequest(round=verify_to_proto(verify)),
        target_pb2.VerifyResponse(
            evidence=evidence_to_proto(EvidenceRound(ROUND, POSITION, evidence, TIMINGS))
        ),
    ]
    sizes = [message.ByteSize() for message in messages]
    print(f"bytes of a round with K = {K}, M = {M}: {sizes}, together {sum(sizes)}")  # noqa: T201
    record_property("bytes_per_round", sum(sizes))
    assert sum(sizes) < 4096


@pytest.mark.parametrize(
    "shape",
    [{}, {"temperature": 0.7}, {"temperature": 0}, {"top_p": 0.9}, {"top_k": 5, "min_p": 0.05}],
    ids=str,
)
def test_the_orchestrator_judges_with_the_very_q_that_was_drawn_from(shape):
    for seed in range(5):
        draft = make_draft(seed, **shape)
        message = draft_to_proto(DraftRound(ROUND, POSITION, draft, TIMINGS))
        received = draft_from_proto(draft_pb2.DraftRound.FromString(message.SerializeToString()))
        for sent, got in zip(draft.tokens, received.draft.tokens, strict=True):
            assert got.token_id == sent.token_id
            assert got.support_token_ids == sent.support_token_ids
            np.testing.assert_array_equal(got.draft_probs, sent.draft_probs)
            assert got.draft_probs.dtype == sent.draft_probs.dtype == np.float64


def test_the_twin_that_sends_q_as_the_softmax_made_it_does_not_survive_bit_for_bit():
    probs = shape_logits(logits(1, 0), SamplingParams())[0].double()
    top_probs = probs.topk(M).values
    q = (top_probs / top_probs.sum()).numpy()
    on_the_wire = q.astype(np.float32).astype(np.float64)
    assert not np.array_equal(on_the_wire / on_the_wire.sum(), q)


def test_target_probabilities_arrive_as_float32_and_still_sum_to_one():
    evidence = make_evidence(make_draft())
    message = evidence_to_proto(EvidenceRound(ROUND, POSITION, evidence, TIMINGS))
    received = evidence_from_proto(target_pb2.EvidenceRound.FromString(message.SerializeToString()))
    for sent, got in zip(evidence.positions, received.evidence.positions, strict=True):
        np.testing.assert_array_equal(got.target_probs, np.float32(sent.target_probs))
        assert got.target_probs.sum() + got.tail_mass == pytest.approx(1, abs=1e-6)
        assert (got.tail_token_id, got.greedy_token_id) == (
            sent.tail_token_id,
            sent.greedy_token_id,
        )
