"""The target computes a plain round before it is asked for, and nobody can tell but by the time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from copy import copy

import numpy as np
import pytest

from forethought.engine.batching.limits import EngineLimits
from forethought.engine.model.packed import PackedPass
from forethought.rpc.codecs.tier.evidence import evidence_from_proto, verify_to_proto
from forethought.rpc.codecs.tier.opening import open_to_proto
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Evidence, VerificationMode
from forethought.tier import DraftToVerify, SessionOpen, VerifyRound
from target_service.servicer import TargetServicer, VerificationSession
from tests.stack import LoadedModel
from tests.waiting import until

PROMPT = [2 + (3 * place + place * place) % 10 for place in range(20)]


class Target:
    """Sessions of one target, and the passes that it has made."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.passes: list[list[int]] = []
        model = copy(loaded.model)

        def counted(forward):
            def counting(packed: PackedPass):
                self.passes.append(list(packed.token_ids))
                return forward(packed)

            return counting

        model.forward = counted(model.forward)
        model.forward_with_states = counted(model.forward_with_states)
        self.servicer = TargetServicer(model, loaded.info, EngineLimits(64))

    def open(
        self,
        mode: VerificationMode = VerificationMode.REJECTION,
        prompt: Sequence[int] = PROMPT,
        **sampling: float,
    ) -> "Talk":
        opening = SessionOpen("s", prompt, SamplingParams(seed=7, **sampling), mode=mode)
        return Talk(self.servicer._open(open_to_proto(opening)), list(prompt))

    async def num_computed(self) -> int:
        """Tokens that passes were made over: all that is begun by now is computed once another
        session had some rounds after it."""
        other = self.open(prompt=[2, 2, 2])
        for _ in range(4):
            await other.ask(hint=False)
            other.commit(2)
        other.session.close()
        return sum(map(len, self.passes)) - 6

    async def has_computed(self, token_id: int) -> None:
        """Returns when a pass has been made over this token alone."""
        await until(lambda: self.passes[-1] == [token_id])


class Talk:
    """A session, as an orchestrator holds it that commits what is drawn."""

    def __init__(self, session: VerificationSession, prompt: list[int]) -> None:
        self.session = session
        self.tokens = prompt
        self._num_told = len(prompt)
        self._number = 0

    async def ask(self, *, hint: bool, guesses: Sequence[int] = (), states: bool = False):
        drafts = [DraftToVerify(guess, [guess]) for guess in guesses]
        request = VerifyRound(
            self._number,
            len(self.tokens),
            self.tokens[self._num_told :],
            drafts,
            wants_hidden_states=states,
            next_is_plain=hint,
        )
        self._number += 1
        self._num_told = len(self.tokens)
        answer = await self.session.answer(verify_to_proto(request))
        return evidence_from_proto(answer.evidence).evidence

    def commit(self, *token_ids: int) -> None:
        self.tokens += token_ids

    async def next_token(self, *, hint: bool) -> int:
        """A plain round."""
        evidence = await self.ask(hint=hint)
        self.commit(drawn(evidence))
        return self.tokens[-1]


def drawn(evidence: Evidence) -> int:
    return evidence.positions[0].tail_token_id


@pytest.fixture
async def target(tiny_target: LoadedModel) -> AsyncIterator[Target]:
    target = Target(tiny_target)
    yield target
    await target.servicer.close()


@pytest.mark.parametrize("mode", VerificationMode)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_texts_are_those_of_rounds_that_are_asked_for(target, mode, temperature):
    hinted, plain = (target.open(mode, temperature=temperature) for _ in range(2))
    for _ in range(30):
        assert await hinted.next_token(hint=True) == await plain.next_token(hint=False)


async def test_the_pass_is_made_before_the_round_is_asked_for_and_not_again(target):
    talk = target.open()
    for _ in range(3):
        await target.has_computed(await talk.next_token(hint=True))
    num_passes = len(target.passes)
    await talk.next_token(hint=False)
    assert len(target.passes) == num_passes


@pytest.mark.parametrize("is_computed", [True, False])
@pytest.mark.parametrize("states", [True, False])
async def test_any_other_round_may_follow(target, is_computed, states):
    """Guesses where none were expected, and another token than the one that was drawn."""
    hinted, plain = target.open(), target.open()
    for guesses, replacement in ([3, 4], None), ([], 5), ([6], 7), ([], None):
        for talk in hinted, plain:
            evidence = await talk.ask(hint=talk is hinted, states=states)
            token_id = drawn(evidence)
            if is_computed and talk is hinted:
                await target.has_computed(token_id)
            talk.commit(token_id if replacement is None else replacement)
        ours, theirs = [
            await talk.ask(hint=False, guesses=guesses, states=states) for talk in (hinted, plain)
        ]
        for mine, its in zip(ours.positions, theirs.positions, strict=True):
            assert mine.target_probs == pytest.approx(its.target_probs)
            assert mine.tail_token_id == its.tail_token_id
        assert (ours.hidden_states is not None) == states
        if ours.hidden_states is not None and theirs.hidden_states is not None:
            assert ours.hidden_states.end == theirs.hidden_states.end
            own = ours.hidden_states.rows[-len(theirs.hidden_states.rows) :]
            # The tiny model's attention is torch's, which rounds by the pass.
            np.testing.assert_allclose(own, theirs.hidden_states.rows, rtol=2e-3, atol=1e-4)
        for talk in hinted, plain:
            talk.commit(9)


async def test_nothing_is_begun_where_it_is_not_said_or_the_round_had_guesses(target):
    talk = target.open()
    await talk.ask(hint=False)
    talk.commit(3)
    await talk.ask(hint=True, guesses=[4])
    assert await target.num_computed() == len(PROMPT) + 2  # the token and the guess


async def test_nothing_is_begun_beyond_the_models_last_position(target, caplog):
    max_len = target.servicer.info.max_model_len
    talk = target.open(prompt=[3] * (max_len - 1))
    last = await talk.next_token(hint=True)
    await target.has_computed(last)
    await talk.next_token(hint=True)
    assert await target.num_computed() == max_len
    assert not caplog.records


async def test_a_session_that_ends_leaves_nothing_behind(target):
    for _ in range(20):
        talk = target.open()
        await talk.next_token(hint=True)
        talk.session.close()
    await until(lambda: target.servicer.engine.load().num_sessions == 0)
    assert target.servicer.engine.load().num_queued_jobs == 0
    target.servicer.engine.check()


async def test_sessions_that_are_computed_ahead_share_their_passes(target):
    talks = [target.open(prompt=[*PROMPT, 3 + index]) for index in range(4)]
    for talk in talks:
        await talk.next_token(hint=False)
    begin = len(target.passes)
    for _ in range(10):
        await asyncio.gather(*(talk.next_token(hint=True) for talk in talks))
    sizes = [len(each) for each in target.passes[begin:]]
    assert sum(sizes) / len(sizes) > 1.5
