"""Hidden states are what the head multiplies, at the positions that were asked for, and asking for
them changes no logits.
"""

from collections.abc import AsyncIterator, Sequence
from copy import copy

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from forethought.engine.batching.limits import EngineLimits
from forethought.engine.batching.scheduler import SchedulerOptions
from forethought.engine.cache.hidden_tail import HiddenTail
from forethought.engine.hf.transformers_model import TransformersModel
from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.packed import SequencePart, pack
from forethought.rpc.codecs.tier.evidence import evidence_from_proto, verify_to_proto
from forethought.rpc.codecs.tier.opening import open_to_proto
from forethought.sampling.hidden_states import HiddenStates
from forethought.sampling.params import SamplingParams
from forethought.tier import DraftToVerify, SessionOpen, VerifyRound
from target_service.servicer import TargetServicer, VerificationSession
from tests.stack import LoadedModel

TEXT = [2 + (3 * place + place * place) % 10 for place in range(60)]
IN_CHUNKS = EngineLimits(64, scheduler=SchedulerOptions(max_tokens=16))


@pytest.fixture(scope="module")
def reference(tiny_target: LoadedModel) -> "Reference":
    return Reference(tiny_target)


class Reference:
    """The final hidden states of transformers' own model."""

    def __init__(self, loaded: LoadedModel) -> None:
        folder = loaded.files.folder
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    @torch.no_grad()
    def __call__(self, token_ids: Sequence[int]) -> torch.Tensor:
        """[T, hidden] of a text."""
        output = self.model.model(input_ids=torch.tensor([list(token_ids)]))
        return output.last_hidden_state[0]


@pytest.fixture(params=["lean", "transformers"])
def model(
    request: pytest.FixtureRequest, tiny_target: LoadedModel, reference: Reference
) -> CausalModel:
    if request.param == "lean":
        return copy(tiny_target.model)
    folder = tiny_target.files.folder
    own = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return TransformersModel(own, 256)


def test_a_pass_gives_out_what_the_head_multiplies(model: CausalModel, reference: Reference):
    """Of sequences that want none, some, and more than they have scored."""
    wants = [(5, 3, 0), (7, 0, 7), (20, 1, 6), (4, 4, 2), (9, 0, 0)]  # tokens, scored, wanted
    parts, expected = [], []
    for index, (num_tokens, num_logits, num_wanted) in enumerate(wants):
        tokens = TEXT[index:][:num_tokens]
        blocks = (2 * index, 2 * index + 1)
        parts.append(SequencePart(tokens, 0, blocks, num_logits, num_wanted))
        expected.append(reference(tokens)[num_tokens - num_wanted :])
    model.allocate(2 * len(parts))
    plain = model.forward(pack(parts))
    logits, states = model.forward_with_states(pack(parts))
    assert torch.equal(logits, plain)
    torch.testing.assert_close(states.float(), torch.cat(expected), atol=1e-4, rtol=1e-4)
    assert states.shape[1] == model.hidden_size


def test_a_pass_that_nobody_asks_anything_of_is_the_pass_that_it_was(tiny_target: LoadedModel):
    assert pack([SequencePart(TEXT[:5], 0, (0,), 1)]).hidden_rows is None


class Target:
    """Sessions of one target."""

    def __init__(self, loaded: LoadedModel, limits: EngineLimits) -> None:
        self.servicer = TargetServicer(copy(loaded.model), loaded.info, limits)

    def open(self, token_ids: Sequence[int], num_wanted: int) -> VerificationSession:
        opening = SessionOpen("s", token_ids, SamplingParams(), num_prompt_hidden_states=num_wanted)
        return self.servicer._open(open_to_proto(opening))

    async def states(
        self,
        session: VerificationSession,
        number: int,
        position: int,
        committed: Sequence[int] = (),
        guesses: Sequence[int] = (),
        *,
        wants: bool = True,
    ) -> HiddenStates | None:
        drafts = [DraftToVerify(guess, [guess]) for guess in guesses]
        request = VerifyRound(number, position, committed, drafts, wants_hidden_states=wants)
        answer = await session.answer(verify_to_proto(request))
        return evidence_from_proto(answer.evidence).evidence.hidden_states


@pytest.fixture
async def target(tiny_target: LoadedModel) -> AsyncIterator[Target]:
    target = Target(tiny_target, IN_CHUNKS)
    yield target
    await target.servicer.close()


def assert_are(states: HiddenStates | None, reference: Reference, text: Sequence[int]) -> None:
    assert states is not None
    expected = reference(text)[states.first_position : states.end]
    np.testing.assert_allclose(states.rows, expected.numpy(), atol=5e-3)
    assert states.end == len(text)


@pytest.mark.parametrize("length", [1, 2, 16, 17, 18, 40])
@pytest.mark.parametrize("num_wanted", [1, 5, 16, 100])
async def test_the_first_evidence_brings_the_tail_of_the_prompt(
    target: Target, reference: Reference, length: int, num_wanted: int
):
    session = target.open(TEXT[:length], num_wanted)
    states = await target.states(session, 0, length, guesses=[3, 4])
    assert_are(states, reference, [*TEXT[:length], 3, 4])
    assert states.first_position == max(length - 1 - num_wanted, 0)


async def test_of_a_prompt_in_the_cache_there_is_what_was_computed(
    target: Target, reference: Reference
):
    first = target.open(TEXT[:40], 100)
    await target.states(first, 0, 40)
    first.close()
    second = target.open([*TEXT[:40], 5, 6], 100)
    states = await target.states(second, 0, 42)
    assert_are(states, reference, [*TEXT[:40], 5, 6])
    assert states.first_position == 32


async def test_each_round_brings_its_own_positions_whatever_became_of_the_last(
    target: Target, reference: Reference
):
    session = target.open(TEXT[:20], 4)
    text = TEXT[:20]
    await target.states(session, 0, 20)
    committed = [3]
    for number, num_accepted in enumerate([0, 2, 3, 1], start=1):
        text = [*text, *committed]
        guesses = [number + 1, number + 2, number + 3]
        states = await target.states(session, number, len(text), committed, guesses)
        assert_are(states, reference, [*text, *guesses])
        assert states.first_position == len(text) - 1
        committed = [*guesses[:num_accepted], 9]


async def test_rounds_that_want_none_get_none_and_others_what_is_theirs(
    target: Target, reference: Reference
):
    session = target.open(TEXT[:20], 4)
    assert await target.states(session, 0, 20, wants=False) is None
    states = await target.states(session, 1, 21, [4], [5])
    assert_are(states, reference, [*TEXT[:20], 4, 5])
    assert states.first_position == 20


async def test_a_session_that_lost_its_blocks_brings_them_again(
    target: Target, reference: Reference
):
    session = target.open(TEXT[:20], 4)
    await target.states(session, 0, 20)
    session._sequence.release()
    states = await target.states(session, 1, 22, [4, 5], [6])
    assert_are(states, reference, [*TEXT[:20], 4, 5, 6])
    assert states.first_position <= 21


async def test_an_earlier_position_than_the_last_is_answered_whole(
    target: Target, reference: Reference
):
    session = target.open(TEXT[:20], 4)
    await target.states(session, 0, 20)
    states = await target.states(session, 1, 10, guesses=[6])
    assert_are(states, reference, [*TEXT[:10], 6])
    assert states.first_position <= 9


def test_what_half_precision_cannot_hold_is_a_number_all_the_same():
    tail = HiddenTail(0)
    tail.take(0, torch.tensor([[1e6, -1e6, 1.0]]))
    states = tail.hand_over(1)
    assert states is not None
    assert states.rows.tolist() == [[65504, -65504, 1]]
