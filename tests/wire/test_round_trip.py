"""Any value survives the wire: in float32 where the message says float, else bit for bit."""

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import InvalidArgumentError, TierProtocolError
from forethought.generation import (
    ChatMessage,
    Finished,
    FinishReason,
    GenerationParams,
    GenerationRequest,
    JudgedToken,
    SpeculationStatistics,
    Started,
    Step,
    Token,
    TopLogprob,
    Verdict,
)
from forethought.rpc.codecs.generation.events import events_from_proto, response_to_proto
from forethought.rpc.codecs.generation.request import request_from_proto, request_to_proto
from forethought.rpc.codecs.load import load_from_proto, load_to_proto
from forethought.rpc.codecs.model_info import model_from_proto, model_to_proto
from forethought.rpc.codecs.sampling import sampling_from_proto, sampling_to_proto
from forethought.rpc.codecs.tier.draft import (
    draft_from_proto,
    draft_to_proto,
    speculate_from_proto,
    speculate_to_proto,
)
from forethought.rpc.codecs.tier.evidence import (
    evidence_from_proto,
    evidence_to_proto,
    verify_from_proto,
    verify_to_proto,
)
from forethought.rpc.codecs.tier.opening import (
    open_from_proto,
    open_to_proto,
    opened_from_proto,
    opened_to_proto,
)
from forethought.sampling.params import (
    MAX_REPETITION_PENALTY,
    MAX_SUPPORT,
    MIN_REPETITION_PENALTY,
    SamplingParams,
)
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Evidence,
    OutputToken,
    PositionEvidence,
    PositionLogprobs,
    TokenOrigin,
)
from forethought.tier import (
    DraftRound,
    DraftToVerify,
    EvidenceRound,
    ModelInfo,
    RoundTimings,
    SessionOpen,
    SessionOpened,
    SpeculateRound,
    TierLoad,
    VerifyRound,
)
from forethought.v1 import draft_pb2, generation_pb2, target_pb2
from tests.wire.plain import as_plain

VOCAB_SIZE = 2**32 - 1
LIMITS = ModelInfo("", "", "", VOCAB_SIZE, 2**32 - 1, "", "", 8)

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
token_id = st.integers(0, VOCAB_SIZE - 1)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
prob = st.floats(0, 1, width=32)
logprob = st.floats(-(2.0**60), 0, width=32)
some = {"max_size": 5}

timings = st.builds(RoundTimings, u64, u64, u64, u32)
model = st.builds(ModelInfo, text, text, text, u32, u32, text, text, u32)
sampling = st.builds(
    SamplingParams,
    temperature=st.floats(0, 100),
    top_k=u32,
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1),
    repetition_penalty=st.floats(MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY),
    seed=u64,
)
opening = st.builds(
    SessionOpen,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128),
    st.lists(token_id, min_size=1, max_size=20),
    sampling,
    text,
    text,
)


@st.composite
def drafted(draw) -> DraftedToken:
    """q as the draft tier makes it: multiples of 2**-24 that sum to 1."""
    support = draw(st.lists(token_id, unique=True, min_size=1, max_size=40))
    cuts = draw(
        st.lists(
            st.integers(1, 2**24 - 1),
            unique=True,
            min_size=len(support) - 1,
            max_size=len(support) - 1,
        )
    )
    quanta = np.diff([0, *sorted(cuts), 2**24])
    return DraftedToken(draw(st.sampled_from(support)), support, quanta / 2.0**24)


@st.composite
def to_verify(draw) -> DraftToVerify:
    support = draw(st.lists(token_id, unique=True, min_size=1, max_size=MAX_SUPPORT))
    return DraftToVerify(draw(st.sampled_from(support)), support)


@st.composite
def rounds(draw, kind: Any, **fields: Any) -> Any:
    committed = draw(st.lists(token_id, **some))
    position = draw(st.integers(max(1, len(committed)), 2**32 - 20))
    drawn = {name: draw(strategy) for name, strategy in fields.items()}
    return kind(round=draw(u64), position=position, committed_token_ids=committed, **drawn)


@st.composite
def position_logprobs(draw) -> PositionLogprobs:
    top = draw(st.lists(st.tuples(token_id, logprob), **some))
    return PositionLogprobs(
        draw(st.lists(logprob, **some)),
        draw(logprob),
        [token_id for token_id, _ in top],
        [value for _, value in top],
    )


position_evidence = st.builds(
    PositionEvidence,
    st.lists(prob, **some).map(lambda values: np.array(values, dtype=np.float64)),
    st.floats(2.0**-20, 1, width=32),
    token_id,
    prob,
    token_id,
    st.none() | position_logprobs(),
)
draft_round = st.builds(
    DraftRound, u64, u32, st.lists(drafted(), **some).map(tuple).map(Draft), timings
)
evidence_round = st.builds(
    EvidenceRound, u64, u32, st.lists(position_evidence, **some).map(tuple).map(Evidence), timings
)

params = st.builds(
    GenerationParams,
    max_tokens=st.none() | u32,
    temperature=st.floats(allow_nan=False),
    top_k=u32,
    top_p=st.floats(allow_nan=False),
    min_p=st.floats(allow_nan=False),
    repetition_penalty=st.floats(allow_nan=False),
    seed=st.none() | u64,
    stop=st.lists(text, **some).map(tuple),
    stop_token_ids=st.lists(u32, **some).map(tuple),
    ignore_eos=st.booleans(),
    logprobs=st.none() | u32,
    num_speculative_tokens=st.none() | u32,
)
request = st.builds(
    GenerationRequest,
    text
    | st.lists(u32, **some)
    | st.lists(st.builds(ChatMessage, text, text), min_size=1, max_size=5),
    params,
    text,
    st.booleans(),
)
token = st.builds(
    Token,
    u32,
    u32,
    text,
    st.sampled_from(TokenOrigin),
    st.none() | prob,
    prob,
    st.none() | logprob,
    st.lists(st.builds(TopLogprob, u32, text, logprob), **some).map(tuple),
)
judged = st.builds(JudgedToken, u32, text, prob, prob, st.sampled_from(Verdict))
step = st.builds(
    Step,
    u64,
    u32,
    st.lists(judged, **some).map(tuple),
    # Its log-probabilities travel with the token, not with the step.
    st.builds(OutputToken, u32, st.sampled_from(TokenOrigin), st.none(), prob),
    text,
    u64,
    u64,
    u64,
)
statistics = st.builds(
    SpeculationStatistics, u32, u32, u32, st.lists(u32, **some).map(tuple), u32, u64, u64, u64
)
finished = st.builds(
    Finished, st.sampled_from(FinishReason), u32, u32, statistics, u64, u64, text, st.none() | u32
)


def over_the_wire(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


def assert_same(value: Any, message: Any, from_proto: Any) -> None:
    assert as_plain(from_proto(over_the_wire(message))) == as_plain(value)


@given(value=sampling)
def test_sampling_parameters(value):
    assert_same(value, sampling_to_proto(value), sampling_from_proto)


@given(value=model)
def test_models(value):
    assert_same(value, model_to_proto(value), model_from_proto)


@given(value=st.builds(TierLoad, u32, u64, u32))
def test_loads(value):
    assert_same(value, load_to_proto(value), load_from_proto)


@given(value=opening)
def test_openings(value):
    assert_same(value, open_to_proto(value), lambda m: open_from_proto(m, LIMITS))


@given(value=st.builds(SessionOpened, model, u32))
def test_answers_to_openings(value):
    assert_same(value, opened_to_proto(value), opened_from_proto)


@given(value=rounds(SpeculateRound, num_speculative_tokens=st.integers(0, 8)))
def test_rounds_of_speculation(value):
    message = speculate_to_proto(value)
    assert_same(value, message, lambda m: speculate_from_proto(m, LIMITS))


@given(value=draft_round)
def test_drafts(value):
    assert_same(value, draft_to_proto(value), draft_from_proto)


@given(
    value=rounds(
        VerifyRound,
        drafts=st.lists(to_verify(), max_size=4),
        num_logprobs=st.none() | st.integers(0, 20),
    )
)
def test_rounds_of_verification(value):
    message = verify_to_proto(value)
    assert_same(value, message, lambda m: verify_from_proto(m, LIMITS))


@settings(max_examples=50)
@given(value=evidence_round)
def test_evidence(value):
    assert_same(value, evidence_to_proto(value), evidence_from_proto)


@given(value=request)
def test_requests(value):
    assert_same(value, request_to_proto(value), request_from_proto)


@settings(max_examples=40)
@given(
    started=st.none() | st.builds(Started, text, u64, u32, text),
    a_step=st.none() | step,
    tokens=st.lists(token, **some),
    the_end=st.none() | finished,
)
def test_events_in_the_order_in_which_they_happened(started, a_step, tokens, the_end):
    events = [
        *filter(None, [started]),
        *filter(None, [a_step]),
        *tokens,
        *filter(None, [the_end]),
    ]
    message = response_to_proto(events)
    assert_same(events, message, lambda m: list(events_from_proto(m)))


@given(value=st.floats(0, 1))
def test_what_is_no_float32_is_rounded_to_the_nearest(value):
    rounded = struct.unpack("f", struct.pack("f", value))[0]
    sent = Token(0, 0, "", TokenOrigin.ACCEPTED, value, value, -value)
    message = over_the_wire(response_to_proto([sent]))
    (received,) = events_from_proto(message)
    assert (received.draft_prob, received.target_prob, received.logprob) == (
        rounded,
        rounded,
        -rounded,
    )


@given(weights=st.lists(st.floats(2.0**-20, 1, width=32), min_size=1, max_size=40))
def test_a_draft_distribution_is_the_numbers_received_over_their_sum(weights):
    """What another implementation of the draft tier may send."""
    message = draft_pb2.DraftRound(
        tokens=[
            draft_pb2.DraftedToken(
                token_id=0, support_token_ids=range(len(weights)), draft_probs=weights
            )
        ]
    )
    (received,) = draft_from_proto(over_the_wire(message)).draft.tokens
    np.testing.assert_array_equal(received.draft_probs, np.array(weights) / np.sum(weights))
    assert received.draft_probs.sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    "changes",
    [
        {"draft_probs": [0.5]},
        {"draft_probs": [0.5, 0.5, 0.5]},
        {"draft_probs": [1.0, 0.0]},
        {"draft_probs": [1.5, -0.5]},
        {"draft_probs": [math.nan, 0.5]},
        {"draft_probs": [math.inf, 0.5]},
        {"draft_probs": []},
        {"support_token_ids": [4, 4]},
        {"token_id": 6},
        {"support_token_ids": range(257), "draft_probs": [1] * 257},
    ],
)
def test_a_guess_without_a_distribution_is_refused(changes):
    good = {"token_id": 4, "support_token_ids": [4, 5], "draft_probs": [0.5, 0.5]}
    draft_from_proto(draft_pb2.DraftRound(tokens=[draft_pb2.DraftedToken(**good)]))
    broken = draft_pb2.DraftedToken(**good | changes)
    with pytest.raises(TierProtocolError):
        draft_from_proto(draft_pb2.DraftRound(tokens=[broken]))


@pytest.mark.parametrize(
    "changes",
    [
        {"target_probs": [-0.5, 1]},
        {"target_probs": [math.nan, 0.5]},
        {"target_probs": [math.inf, 0.5]},
        {"tail_mass": -0.1},
        {"tail_mass": math.nan},
        {"tail_mass": math.inf},
        {"target_probs": [0, 0], "tail_mass": 0},
    ],
)
def test_evidence_that_is_no_distribution_is_refused(changes):
    good = {"target_probs": [0.25, 0.25], "tail_mass": 0.5}
    evidence_from_proto(target_pb2.EvidenceRound(positions=[target_pb2.PositionEvidence(**good)]))
    broken = target_pb2.PositionEvidence(**good | changes)
    with pytest.raises(TierProtocolError):
        evidence_from_proto(target_pb2.EvidenceRound(positions=[broken]))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"max_tokens": -1}, "params.max_tokens"),
        ({"max_tokens": 2**32}, "params.max_tokens"),
        ({"max_tokens": 1.5}, "params.max_tokens"),
        ({"temperature": "hot"}, "params.temperature"),
        ({"top_k": -1}, "params.top_k"),
        ({"seed": -1}, "params.seed"),
        ({"logprobs": -1}, "params.logprobs"),
        ({"num_speculative_tokens": -1}, "params.num_speculative_tokens"),
        ({"stop": ["\ud800"]}, "params.stop"),
        ({"stop": 3}, "params.stop"),
        ({"stop": "###"}, "params.stop"),
        ({"stop_token_ids": [-1]}, "params.stop_token_ids"),
    ],
)
def test_what_fits_no_message_is_refused_by_name_before_it_is_sent(changes, field):
    with pytest.raises(InvalidArgumentError) as refused:
        request_to_proto(GenerationRequest("x", GenerationParams(**changes)))
    assert set(refused.value.violations) == {field}


@pytest.mark.parametrize("prompt", [[-1], [2**32], "\ud800"])
def test_a_prompt_that_fits_no_message_is_refused(prompt):
    with pytest.raises(InvalidArgumentError) as refused:
        request_to_proto(GenerationRequest(prompt))
    assert set(refused.value.violations) == {"prompt"}


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        ([1, "2"], "prompt.token_ids"),
        ([1.0], "prompt.token_ids"),
        (["hello"], "prompt.token_ids"),
        (b"hello", "prompt.token_ids"),
        ([ChatMessage("user", "hello"), 1], "prompt"),
        ([1, ChatMessage("user", "hello")], "prompt"),
    ],
)
def test_a_prompt_of_something_else_is_refused_and_not_cut(prompt, field):
    with pytest.raises(InvalidArgumentError) as refused:
        request_to_proto(GenerationRequest(prompt))
    assert set(refused.value.violations) == {field}


def test_token_ids_may_be_whole_numbers_of_any_type():
    for prompt in (np.array([3, 4]), [np.int64(3), 4], (np.uint8(3), np.int32(4))):
        message = request_to_proto(GenerationRequest(prompt))
        assert list(message.token_ids.token_ids) == [3, 4]


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": [generation_pb2.GeneratedToken(origin=9)]},
        {"step": generation_pb2.SpeculationStep(final_origin=9)},
        {
            "step": generation_pb2.SpeculationStep(
                final_origin=1, drafted=[generation_pb2.JudgedToken(verdict=9)]
            )
        },
        {"finished": generation_pb2.GenerationFinished(finish_reason=9)},
    ],
)
def test_a_name_that_only_newer_servers_know_is_an_error_that_says_so(changes):
    with pytest.raises(TierProtocolError, match="9, which this client does not know"):
        list(events_from_proto(generation_pb2.GenerateResponse(**changes)))


def test_a_request_without_a_prompt_is_refused():
    with pytest.raises(InvalidArgumentError):
        request_from_proto(generation_pb2.GenerateRequest())


def test_parameters_that_are_not_set_have_the_defaults_of_the_protos_comments():
    message = generation_pb2.GenerateRequest(text="x")
    assert request_from_proto(message) == GenerationRequest("x", GenerationParams())


def test_a_zero_is_told_from_a_value_that_is_not_set():
    zero = GenerationParams(
        max_tokens=0, temperature=0, top_p=0, repetition_penalty=0, seed=0, logprobs=0
    )
    value = GenerationRequest("x", zero)
    assert_same(value, request_to_proto(value), request_from_proto)
