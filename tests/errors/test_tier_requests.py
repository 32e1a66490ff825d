"""The tiers' streams: what is malformed is named, what is out of turn refused, and all is freed."""

from math import nan

import pytest

from forethought.engine.cache import hidden_tail
from forethought.v1 import common_pb2, draft_pb2, target_pb2
from tests.errors.conftest import MAX_K, MAX_LEN, VOCAB_SIZE
from tests.errors.refusals import converse, refusal_of
from tests.waiting import until_nothing_is_held

SAMPLING = common_pb2.SamplingParams(temperature=1, top_p=1, repetition_penalty=1)
PROMPT = [3, 4, 5]


def opening(**changes):
    fields = {"session_id": "s", "token_ids": PROMPT, "sampling": SAMPLING} | changes
    return common_pb2.SessionOpen(**fields)


def sampling(**changes):
    message = common_pb2.SamplingParams()
    message.CopyFrom(SAMPLING)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


class DraftTier:
    """Messages of the draft tier's stream."""

    def __init__(self, stack):
        self.method = stack.draft_stub.Speculate

    def open(self, **changes):
        return draft_pb2.SpeculateRequest(open=opening(**changes))

    def round(self, **changes):
        fields = {"round": 1, "position": 3, "num_speculative_tokens": 2} | changes
        return draft_pb2.SpeculateRequest(round=draft_pb2.SpeculateRound(**fields))

    def nothing(self):
        return draft_pb2.SpeculateRequest()


class TargetTier:
    """Messages of the target tier's stream."""

    def __init__(self, stack):
        self.method = stack.target_stub.Verify

    def open(self, **changes):
        return target_pb2.VerifyRequest(open=opening(**changes))

    def round(self, **changes):
        fields = {"round": 1, "position": 3} | changes
        return target_pb2.VerifyRequest(round=target_pb2.VerifyRound(**fields))

    def nothing(self):
        return target_pb2.VerifyRequest()


@pytest.fixture(params=[DraftTier, TargetTier], ids=["draft", "target"])
def tier(request, stack):
    return request.param(stack)


@pytest.fixture
def target(stack):
    return TargetTier(stack)


@pytest.fixture
def draft(stack):
    return DraftTier(stack)


async def refused(tier, *messages):
    return await refusal_of(converse(tier.method, messages))


MALFORMED_OPENINGS = {
    "no session id": ({"session_id": ""}, "open.session_id"),
    "long session id": ({"session_id": "s" * 129}, "open.session_id"),
    "no tokens": ({"token_ids": []}, "open.token_ids"),
    "too many tokens": ({"token_ids": [3] * (MAX_LEN + 1)}, "open.token_ids"),
    "out of vocabulary": ({"token_ids": [VOCAB_SIZE]}, "open.token_ids"),
    "huge token id": ({"token_ids": [2**32 - 1]}, "open.token_ids"),
    "unknown mode": ({"verification_mode": 99}, "open.verification_mode"),
    "long tenant": ({"tenant": "t" * 129}, "open.tenant"),
    "temperature": ({"sampling": sampling(temperature=nan)}, "open.sampling.temperature"),
    "top_p": ({"sampling": sampling(top_p=0)}, "open.sampling.top_p"),
    "min_p": ({"sampling": sampling(min_p=nan)}, "open.sampling.min_p"),
    "penalty": (
        {"sampling": sampling(repetition_penalty=-1)},
        "open.sampling.repetition_penalty",
    ),
}
MALFORMED_ROUNDS = {
    "position 0": ({"position": 0}, "round.position"),
    "position beyond the model": ({"position": MAX_LEN + 1}, "round.position"),
    "position 2**32 - 1": ({"position": 2**32 - 1}, "round.position"),
    "more tokens than the position": (
        {"position": 3, "committed_token_ids": [3] * 4},
        "round.position",
    ),
    "out of vocabulary": (
        {"position": 4, "committed_token_ids": [VOCAB_SIZE]},
        "round.committed_token_ids",
    ),
}


@pytest.mark.parametrize("kind", MALFORMED_OPENINGS)
async def test_a_malformed_opening_is_named(tier, kind):
    changes, field = MALFORMED_OPENINGS[kind]
    refusal = await refused(tier, tier.open(**changes))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert list(refusal.violations) == [field]


@pytest.mark.parametrize("kind", MALFORMED_ROUNDS)
async def test_a_malformed_round_is_named(tier, kind):
    changes, field = MALFORMED_ROUNDS[kind]
    refusal = await refused(tier, tier.open(), tier.round(**changes))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert list(refusal.violations) == [field]


async def test_all_malformed_sampling_parameters_are_named_at_once(tier):
    malformed = common_pb2.SamplingParams(temperature=-1, min_p=2)
    refusal = await refused(tier, tier.open(sampling=malformed))
    names = ("temperature", "top_p", "min_p", "repetition_penalty")
    assert set(refusal.violations) == {f"open.sampling.{name}" for name in names}


async def test_sampling_parameters_have_no_defaults_between_the_tiers(tier):
    message = tier.open()
    message.open.ClearField("sampling")
    refusal = await refused(tier, message)
    assert set(refusal.violations) == {"open.sampling.top_p", "open.sampling.repetition_penalty"}


@pytest.mark.parametrize("messages", ["round", "nothing", "open open", "open nothing"])
async def test_a_message_out_of_turn_is_refused(stack, tier, messages):
    refusal = await refused(tier, *(getattr(tier, name)() for name in messages.split()))
    assert refusal.code == "INVALID_ARGUMENT"
    assert list(refusal.violations) == ["message"]
    await until_nothing_is_held(stack)


async def test_a_position_beyond_what_is_known_asks_for_a_new_opening(stack, tier):
    refusal = await refused(tier, tier.open(), tier.round(position=9, committed_token_ids=[3]))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "CACHE_POSITION_MISMATCH")
    await until_nothing_is_held(stack)


async def test_too_many_tokens_to_draft_are_refused(draft):
    refusal = await refused(draft, draft.open(), draft.round(num_speculative_tokens=MAX_K + 1))
    assert list(refusal.violations) == ["round.num_speculative_tokens"]


GUESS = target_pb2.DraftToVerify(token_id=3, support_token_ids=[3])
MALFORMED_DRAFTS = {
    "no support": ([target_pb2.DraftToVerify(token_id=3)], "round.drafts[0].support_token_ids"),
    "twice the same": (
        [GUESS, target_pb2.DraftToVerify(token_id=3, support_token_ids=[3, 4, 4])],
        "round.drafts[1].support_token_ids",
    ),
    "without the drafted token": (
        [target_pb2.DraftToVerify(token_id=3, support_token_ids=[4, 5])],
        "round.drafts[0].support_token_ids",
    ),
    "out of vocabulary": (
        [target_pb2.DraftToVerify(token_id=3, support_token_ids=[3, VOCAB_SIZE])],
        "round.drafts[0].support_token_ids",
    ),
    "too large": (
        [target_pb2.DraftToVerify(token_id=3, support_token_ids=range(300))],
        "round.drafts[0].support_token_ids",
    ),
    "too many": ([GUESS] * (MAX_K + 1), "round.drafts"),
}


@pytest.mark.parametrize("kind", MALFORMED_DRAFTS)
async def test_a_malformed_draft_is_named(target, kind):
    drafts, field = MALFORMED_DRAFTS[kind]
    refusal = await refused(target, target.open(), target.round(drafts=drafts))
    assert (refusal.code, list(refusal.violations)) == ("INVALID_ARGUMENT", [field])


async def test_drafts_beyond_the_models_length_are_refused(target):
    refusal = await refused(
        target,
        target.open(token_ids=[3] * MAX_LEN),
        target.round(position=MAX_LEN, drafts=[GUESS]),
    )
    assert list(refusal.violations) == ["round.drafts"]


async def test_too_many_logprobs_are_refused(target):
    refusal = await refused(target, target.open(), target.round(num_logprobs=21))
    assert list(refusal.violations) == ["round.num_logprobs"]


async def test_the_last_position_of_the_model_is_measured(target):
    answers = await converse(
        target.method,
        [target.open(token_ids=[3] * MAX_LEN), target.round(position=MAX_LEN, num_logprobs=20)],
    )
    assert len(answers[1].evidence.positions) == 1


@pytest.mark.parametrize(
    "extreme", [{"repetition_penalty": 0.01}, {"temperature": 100, "top_k": 1, "top_p": 5e-324}]
)
async def test_sampling_parameters_next_to_zero_are_no_internal_error(target, extreme):
    opened = target.open(token_ids=list(range(VOCAB_SIZE)), sampling=sampling(**extreme))
    _, answer = await converse(target.method, [opened, target.round(position=VOCAB_SIZE)])
    assert answer.evidence.positions[0].tail_mass == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
async def test_rounds_and_seeds_of_64_bits_are_taken_and_repeat(tier, seed):
    messages = [
        tier.open(sampling=sampling(seed=seed)),
        *(tier.round(round=number) for number in (2**64 - 1, 0, 2**64 - 1)),
    ]
    _, first, _, again = await converse(tier.method, messages)
    for answer in (first, again):
        getattr(answer, answer.WhichOneof("message")).ClearField("timings")
    assert first == again


async def test_a_repeated_round_gets_the_stored_answer(tier):
    _, first, again = await converse(tier.method, [tier.open(), tier.round(), tier.round()])
    assert first == again  # timings included, so nothing was computed


async def test_hidden_states_are_handed_over_as_far_as_a_message_goes(target, monkeypatch):
    monkeypatch.setattr(hidden_tail, "MAX_BYTES", 8 * 2 * 32)
    opened = target.open(token_ids=[3] * 40, num_prompt_hidden_states=2**32 - 1)
    rounds = [
        target.round(position=40, wants_hidden_states=True),
        target.round(position=80, committed_token_ids=[3] * 40, wants_hidden_states=True),
    ]
    for number, each in enumerate(rounds):
        each.round.round = number
    _, *answers = await converse(target.method, [opened, *rounds])
    for answer, position in zip(answers, (40, 80), strict=True):
        states = answer.evidence.hidden_states
        assert (states.num_positions, states.first_position) == (8, position - 8)
