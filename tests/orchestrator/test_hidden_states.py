"""The orchestrator asks for hidden states where a draft needs them, keeps those of accepted tokens,
and hands on what the draft has not been told.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
import torch
from transformers import AutoModelForCausalLM

from draft_service.feature_proposer import FeatureSession
from forethought.compatibility import foreign_hidden_states
from forethought.errors import TierProtocolError
from forethought.generation import GenerationParams, GenerationRequest
from forethought.rpc.codecs.model_info import model_to_proto
from forethought.rpc.codecs.tier.hidden_states import hidden_states_to_proto
from forethought.sampling.hidden_states import HiddenStates, joined
from forethought.sampling.types import Draft, Outcome, OutputToken, TokenOrigin
from forethought.tier import HiddenStatesNeed, ModelInfo
from forethought.v1 import draft_pb2
from orchestrator.loop.round import Ask
from orchestrator.tiers.remote_verifier import WantedEvidence
from tests.orchestrator.test_remote_tiers import (
    ONE,
    SESSION,
    TARGET,
    ScriptedTier,
    drafted,
    evidence,
    lost,
    proposer,
    verifier,
    verify_opened,
)
from tests.stack import LoadedModel, generate, running_stack

GIVING = replace(TARGET, weights_fingerprint="w", hidden_size=1)
NEEDING = ModelInfo(
    "f", "f", "v", 50, 100, "int4", "cpu", 8, hidden_states_need=HiddenStatesNeed("w", 1)
)
WANTED = WantedEvidence(hidden_states=lambda: True)


def states(start: int, end: int) -> HiddenStates:
    """Whose numbers are their positions."""
    return HiddenStates(start, np.arange(start, end, dtype=np.float16)[:, None])


def committing(num_accepted: int) -> Outcome:
    accepted = OutputToken(9, TokenOrigin.ACCEPTED, 1.0, 1.0)
    return Outcome((*[accepted] * num_accepted, ONE))


def opened_by(model: ModelInfo) -> draft_pb2.SpeculateResponse:
    response = draft_pb2.SpeculateResponse()
    response.opened.model.CopyFrom(model_to_proto(model))
    return response


def evidence_with(brought: HiddenStates, number: int, position: int):
    response = evidence(number, position)
    response.evidence.hidden_states.CopyFrom(hidden_states_to_proto(brought))
    return response


@pytest.mark.parametrize("num_accepted", range(4))
def test_a_session_keeps_the_states_of_accepted_tokens_and_of_no_others(num_accepted: int):
    session = replace(SESSION, hidden_states=states(0, 2))  # t0 and t1 of three tokens
    after = session.commit(committing(num_accepted), states(2, 6))  # t2 and three guesses
    assert after.hidden_states.first_position == 0
    assert after.hidden_states.rows[:, 0].tolist() == list(range(3 + num_accepted))
    assert after.hidden_states.end == after.position - 1


def test_it_keeps_the_latest_as_many_as_it_may():
    session = replace(SESSION, hidden_states=states(0, 2), max_hidden_states=3)
    after = session.commit(committing(2), states(2, 6))
    assert after.hidden_states.rows[:, 0].tolist() == [2, 3, 4]


def test_states_behind_a_gap_replace_those_before_it():
    assert joined(states(0, 3), states(4, 6)).rows[:, 0].tolist() == [4, 5]
    assert joined(states(0, 3), states(2, 4)).rows[:, 0].tolist() == [0, 1, 2, 3]
    assert joined(states(2, 4), states(0, 3)).rows[:, 0].tolist() == [0, 1, 2]
    assert joined(None, states(1, 2)).end == joined(states(1, 2), None).end == 2
    assert joined(None, None) is None


async def test_a_draft_is_told_each_state_once_and_after_a_loss_all_that_there_are():
    tier = ScriptedTier(
        [opened_by(NEEDING), drafted(1, 4, 30), drafted(2, 5, 30), lost()],
        [opened_by(NEEDING), drafted(3, 6, 30)],
    )
    remote = proposer(tier, target=GIVING)
    remote.start(SESSION)
    session = SESSION.commit(committing(0), states(1, 3))
    for _ in range(2):
        await remote.propose(session, Ask(1))
        session = session.commit(committing(0), states(session.position - 1, session.position))
    assert len((await remote.propose(session, Ask(1))).draft) == 0  # lost
    for _ in range(100):
        if (await remote.propose(session, Ask(1))).draft.tokens:
            break
        await asyncio.sleep(0)
    told = [
        (message.round.hidden_states.first_position, message.round.hidden_states.num_positions)
        for call in tier.calls
        for message in call.sent[1:]
    ]
    assert told == [(1, 2), (3, 1), (4, 1), (1, 4)]


async def test_a_draft_that_needs_none_is_told_none():
    tier = ScriptedTier([opened_by(GIVING), drafted(1, 4, 30)])
    remote = proposer(tier, target=GIVING)
    remote.start(SESSION)
    await remote.propose(SESSION.commit(committing(0), states(1, 3)), Ask(1))
    assert not tier.calls[0].sent[1].round.HasField("hidden_states")


async def test_the_target_is_asked_for_the_tail_when_it_opens_and_for_each_round():
    tier = ScriptedTier([verify_opened(), evidence_with(states(0, 3), 0, 3)])
    remote = verifier(tier, GIVING, wanted=WANTED)
    brought = (await remote.verify(SESSION, Draft())).evidence.hidden_states
    assert brought.rows[:, 0].tolist() == [0, 1, 2]
    opening, asked = tier.calls[0].sent
    assert opening.open.num_prompt_hidden_states == 128
    assert asked.round.wants_hidden_states


async def test_a_target_that_takes_over_is_asked_for_no_more_than_is_missing():
    tier = ScriptedTier(
        [verify_opened(), evidence_with(states(0, 3), 0, 3), lost()],
        [verify_opened(), evidence_with(states(3, 4), 1, 4)],
    )
    remote = verifier(tier, GIVING, wanted=WANTED)
    brought = (await remote.verify(SESSION, Draft())).evidence.hidden_states
    later = SESSION.commit(committing(0), brought)
    await remote.verify(later, Draft())
    assert tier.calls[1].sent[0].open.num_prompt_hidden_states == 0


@pytest.mark.parametrize("brought", [states(0, 2), states(0, 4), states(3, 4)])
async def test_states_of_other_positions_are_a_fault_of_the_target(brought: HiddenStates):
    tier = ScriptedTier([verify_opened(), evidence_with(brought, 0, 3)])
    with pytest.raises(TierProtocolError, match="hidden states"):
        await verifier(tier, GIVING, wanted=WANTED).verify(SESSION, Draft())


@pytest.mark.parametrize(
    "target",
    [
        replace(GIVING, weights_fingerprint="x"),
        replace(GIVING, hidden_size=2),
        replace(GIVING, hidden_size=0),
    ],
    ids=["other weights", "another size", "gives none"],
)
async def test_a_draft_of_another_target_is_done_without_for_good(target: ModelInfo):
    assert foreign_hidden_states(NEEDING, target)
    tier = ScriptedTier([opened_by(NEEDING)])
    remote = proposer(tier, target=target)
    with structlog.testing.capture_logs() as logs:
        remote.start(SESSION)
        for _ in range(3):
            assert len((await remote.propose(SESSION, Ask(1))).draft) == 0
    assert not remote.wants_hidden_states
    assert remote.mismatch is None
    assert [log["reason"] for log in logs if log["event"] == "draft_lost"] == [
        "HIDDEN_STATES_MISMATCH"
    ]


@pytest.mark.parametrize("fingerprint", ["w", "m"])
def test_a_draft_may_name_its_target_with_or_without_the_number_format(fingerprint: str):
    draft = replace(NEEDING, hidden_states_need=HiddenStatesNeed(fingerprint, 1))
    assert not foreign_hidden_states(draft, GIVING)
    assert not foreign_hidden_states(replace(draft, hidden_states_need=None), TARGET)


@pytest.mark.parametrize("num_prompt_tokens", [1, 2, 17, 150])
async def test_what_reaches_the_draft_is_the_targets_own(
    tiny_target: LoadedModel, tiny_feature_folder: Path, num_prompt_tokens: int, monkeypatch
):
    told: list[HiddenStates] = []
    inner = FeatureSession.propose

    async def listening(session, request):
        told.append(request.hidden_states)
        return await inner(session, request)

    monkeypatch.setattr(FeatureSession, "propose", listening)
    prompt = [2 + (5 * place + place * place) % 10 for place in range(num_prompt_tokens)]
    params = GenerationParams(max_tokens=30, seed=4, num_speculative_tokens=3, ignore_eos=True)
    proposer = tiny_target.feature(tiny_feature_folder).proposer()
    async with running_stack(tiny_target, proposer) as stack:
        answer = await generate(stack.client, GenerationRequest(prompt, params))
    assert answer.finished.speculation.num_accepted_tokens > 0
    model = AutoModelForCausalLM.from_pretrained(tiny_target.files.folder, dtype=torch.float32)
    with torch.no_grad():
        text = torch.tensor([[*prompt, *answer.token_ids]])
        expected = model.model(input_ids=text).last_hidden_state[0].numpy()
    assert told[0].first_position == max(num_prompt_tokens - 128, 0)
    for before, states in zip([None, *told], told, strict=False):
        assert before is None or states.first_position == before.end
        np.testing.assert_allclose(
            states.rows, expected[states.first_position : states.end], atol=5e-3
        )
