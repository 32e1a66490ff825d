"""Whatever a target answers, the orchestrator refuses it, or makes valid output of it."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import TierProtocolError
from forethought.rpc.codecs.tier.evidence import evidence_from_proto
from forethought.rpc.codecs.tier.evidence_check import check_evidence
from forethought.sampling.judges import JUDGES
from forethought.sampling.randomness import KeyedRandomness
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Outcome,
    VerificationMode,
    as_probabilities,
    coupled_guess,
)
from forethought.tier import DraftToVerify, VerifyRound
from forethought.v1.target_pb2 import EvidenceRound, PositionEvidence, PositionLogprobs
from tests.orchestrator.test_remote_tiers import TARGET

VOCAB_SIZE, HIDDEN_SIZE, POSITION, ROUND = TARGET.vocab_size, 2, 9, 4
MODEL = replace(TARGET, hidden_size=HIDDEN_SIZE)
SUPPORTS = ([3, 4, 5], [7])
DRAFTS = {
    mode: Draft(
        (
            DraftedToken(4, SUPPORTS[0], as_probabilities([0.5, 0.25, 0.25])),
            DraftedToken(7, SUPPORTS[1], as_probabilities([1.0])),
        )
    )
    for mode in (VerificationMode.REJECTION, VerificationMode.BLOCK)
} | {VerificationMode.COUPLED: Draft((coupled_guess(4), coupled_guess(7)))}
MODES = pytest.mark.parametrize("mode", VerificationMode)


def asked(mode: VerificationMode, num_logprobs: int | None = 2) -> VerifyRound:
    drafts = [DraftToVerify(t.token_id, t.support_token_ids) for t in DRAFTS[mode].tokens]
    return VerifyRound(ROUND, POSITION, [], drafts, num_logprobs, wants_hidden_states=True)


def honest(mode: VerificationMode) -> EvidenceRound:
    """What a good target would answer."""
    answer = EvidenceRound(round=ROUND, position=POSITION)
    for drafted in (*DRAFTS[mode].tokens, None):
        size = len(drafted.support_token_ids) if drafted else 0
        answer.positions.append(
            PositionEvidence(
                target_probs=[0.5 / max(size, 1)] * size,
                tail_mass=0.5 if size else 1,
                tail_token_id=20,
                tail_token_prob=0.25,
                greedy_token_id=20,
                logprobs=PositionLogprobs(
                    support_logprobs=[-2] * size,
                    tail_token_logprob=-1.5,
                    top_token_ids=[20, 21],
                    top_logprobs=[-1.5, -1.75],
                ),
            )
        )
    states = answer.hidden_states
    states.first_position, states.num_positions, states.hidden_size = POSITION - 1, 3, HIDDEN_SIZE
    states.element_type = 1
    states.data = np.ones((3, HIDDEN_SIZE), dtype="<f2").tobytes()
    return answer


def judged(answer: EvidenceRound, mode: VerificationMode, seed: int = 0) -> Outcome:
    received = evidence_from_proto(EvidenceRound.FromString(answer.SerializeToString()))
    check_evidence(received, asked(mode), MODEL)
    randomness = KeyedRandomness(seed, ROUND)
    return JUDGES[mode](DRAFTS[mode], received.evidence, randomness, POSITION)


def assert_valid(outcome: Outcome) -> None:
    assert 1 <= len(outcome.tokens) <= 3
    for token in outcome.tokens:
        assert 0 <= token.token_id < VOCAB_SIZE
        assert 0 < token.target_prob <= 1.001
        assert math.isfinite(token.logprob)
        assert token.logprob <= 0.001
        assert all(top_id < VOCAB_SIZE for top_id, _ in token.top_logprobs)
        assert all(value <= 0.001 for _, value in token.top_logprobs)


@MODES
def test_honest_evidence_is_taken(mode: VerificationMode):
    for seed in range(20):
        assert_valid(judged(honest(mode), mode, seed))


FLOATS = st.sampled_from(
    [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e-30, 0.1, 0.5, 1.0, 7.0, 50.0]
)
UINTS = st.sampled_from([0, 1, 2, 3, 20, VOCAB_SIZE - 1, VOCAB_SIZE, 2**31, 2**32 - 1])
KINDS = {FieldDescriptor.TYPE_FLOAT: FLOATS, FieldDescriptor.TYPE_BYTES: st.binary(max_size=16)}


def places(message: Message, found: list[tuple[Message, Any]]) -> list[tuple[Message, Any]]:
    """Every field of a message, and of those inside it."""
    for field in message.DESCRIPTOR.fields:
        found.append((message, field))
        if field.message_type is not None:
            value = getattr(message, field.name)
            for inner in value if field.is_repeated else [value]:
                places(inner, found)
    return found


def forge(draw: Callable[[Any], Any], message: Message, field: Any) -> None:
    """Changes a field, or its number of values."""
    values = KINDS.get(field.type, UINTS)
    if field.is_repeated:
        repeated = getattr(message, field.name)
        change = draw(st.sampled_from(["drop", "repeat", "value"]))
        if change == "repeat":
            repeated.MergeFrom(list(repeated[:1]))
        elif change == "drop" or field.message_type is not None:
            del repeated[-1:]
        elif len(repeated):
            repeated[draw(st.integers(0, len(repeated) - 1))] = draw(values)
    elif field.message_type is not None or draw(st.booleans()):
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_ENUM:
        setattr(message, field.name, draw(st.integers(0, 3)))
    else:
        setattr(message, field.name, draw(values))


@MODES
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_forged_evidence_is_refused_or_makes_valid_output(mode: VerificationMode, data):
    answer = honest(mode)
    for _ in range(data.draw(st.integers(1, 3))):
        forge(data.draw, *data.draw(st.sampled_from(places(answer, []))))
    try:
        outcome = judged(answer, mode, data.draw(st.integers(0, 2**64 - 1)))
    except TierProtocolError:
        return
    assert_valid(outcome)


def changed(change: Callable[[EvidenceRound], Any], mode: VerificationMode) -> EvidenceRound:
    answer = honest(mode)
    change(answer)
    return answer


FORGERIES: dict[str, Callable[[EvidenceRound], Any]] = {
    "another round": lambda a: setattr(a, "round", ROUND + 1),
    "another position": lambda a: setattr(a, "position", POSITION + 1),
    "an entry too few": lambda a: a.positions.pop(),
    "an entry too many": lambda a: a.positions.add(tail_mass=1, tail_token_prob=1),
    "a tail token beyond the vocabulary": lambda a: setattr(
        a.positions[0], "tail_token_id", VOCAB_SIZE
    ),
    "a bonus token beyond the vocabulary": lambda a: setattr(
        a.positions[2], "tail_token_id", 2**32 - 1
    ),
    "a greedy token beyond the vocabulary": lambda a: setattr(
        a.positions[0], "greedy_token_id", VOCAB_SIZE
    ),
    "a tail token of the support": lambda a: setattr(a.positions[0], "tail_token_id", 4),
    "a tail token of more than 1": lambda a: setattr(a.positions[0], "tail_token_prob", 7),
    "a tail token likelier than the tail": lambda a: setattr(
        a.positions[0], "tail_token_prob", 0.75
    ),
    "a tail token without probability": lambda a: setattr(a.positions[0], "tail_token_prob", 0),
    "a tail token of NaN": lambda a: setattr(a.positions[0], "tail_token_prob", math.nan),
    "a negative tail token": lambda a: setattr(a.positions[0], "tail_token_prob", -0.1),
    "a tail of NaN": lambda a: setattr(a.positions[0], "tail_mass", math.nan),
    "a sum of 50": lambda a: a.positions[0].target_probs.__setitem__(0, 50),
    "a sum of 1.1": lambda a: setattr(a.positions[0], "tail_mass", 0.6),
    "a sum of 0.5": lambda a: setattr(a.positions[2], "tail_mass", 0.5),
    "a negative probability": lambda a: (
        a.positions[1].target_probs.__setitem__(0, -0.5),
        setattr(a.positions[1], "tail_mass", 1.5),
    ),
    "a probability of NaN": lambda a: a.positions[0].target_probs.__setitem__(0, math.nan),
    "a bonus with a support": lambda a: a.positions[2].target_probs.append(0),
    "a support too long": lambda a: a.positions[1].target_probs.append(0),
    "no log-probabilities": lambda a: a.positions[0].ClearField("logprobs"),
    "a log-probability too few": lambda a: a.positions[0].logprobs.support_logprobs.pop(),
    "a log-probability too many": lambda a: a.positions[2].logprobs.support_logprobs.append(-1),
    "a log-probability of NaN": lambda a: setattr(
        a.positions[0].logprobs, "tail_token_logprob", math.nan
    ),
    "a log-probability above 0": lambda a: a.positions[1].logprobs.support_logprobs.__setitem__(
        0, 3
    ),
    "top tokens beyond the vocabulary": lambda a: a.positions[0].logprobs.top_token_ids.__setitem__(
        1, VOCAB_SIZE
    ),
    "a top token too few": lambda a: (
        a.positions[0].logprobs.top_token_ids.pop(),
        a.positions[0].logprobs.top_logprobs.pop(),
    ),
    "a top log-probability too many": lambda a: a.positions[0].logprobs.top_logprobs.append(-9),
    "no hidden states": lambda a: a.ClearField("hidden_states"),
    "hidden states of another size": lambda a: (
        setattr(a.hidden_states, "hidden_size", 1),
        setattr(a.hidden_states, "data", bytes(6)),
    ),
    "hidden states of NaN": lambda a: setattr(
        a.hidden_states, "data", np.full(6, math.nan, dtype="<f2").tobytes()
    ),
    "hidden states of other positions": lambda a: setattr(a.hidden_states, "first_position", 9),
}


@MODES
@pytest.mark.parametrize("forgery", FORGERIES)
def test_evidence_that_no_target_could_give_is_refused(forgery: str, mode: VerificationMode):
    with pytest.raises(TierProtocolError):
        judged(changed(FORGERIES[forgery], mode), mode)


@MODES
def test_log_probabilities_that_nobody_asked_for_are_refused(mode: VerificationMode):
    received = evidence_from_proto(honest(mode))
    with pytest.raises(TierProtocolError, match="not asked for"):
        check_evidence(received, asked(mode, num_logprobs=None), MODEL)


@MODES
@pytest.mark.parametrize("miss", [-5e-4, 5e-4])
def test_sums_may_miss_1_by_rounding(mode: VerificationMode, miss: float):
    answer = honest(mode)
    answer.positions[0].tail_mass += miss
    assert_valid(judged(answer, mode))


@MODES
def test_at_temperature_0_one_token_has_all_probability(mode: VerificationMode):
    received = evidence_from_proto(honest(mode))
    with pytest.raises(TierProtocolError, match="temperature 0"):
        check_evidence(received, asked(mode), MODEL, is_greedy=True)
