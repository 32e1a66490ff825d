"""The loop with actors in place of the tiers: what it asks, and what it makes of answers."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness, Randomness
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Evidence,
    Outcome,
    OutputToken,
    TokenOrigin,
    as_probabilities,
)
from forethought.tier import EvidenceRound, RoundTimings
from orchestrator.loop.decode_loop import DecodingStrategy, decode
from orchestrator.loop.round import Ask, Drafted, Round
from orchestrator.loop.session import Session
from orchestrator.policy.choice import FixedPolicy

PROMPT = (7, 8, 9)


@dataclass
class Actors:
    """Proposer, verifier, judge and policy in one, playing from a script and noting all calls."""

    wanted: Sequence[int]  # K of each round, the last one for ever
    acceptances: Sequence[int]  # accepted tokens of each round, at most as many as were drafted
    shortfall: int = 0  # how many tokens fewer than asked are drafted
    asked: list[tuple[Session, int]] = field(default_factory=list)
    verified: list[tuple[Session, Draft]] = field(default_factory=list)
    judged: list[tuple[Draft, Evidence, Randomness, int]] = field(default_factory=list)

    hints: list[bool] = field(default_factory=list)  # that the next round is plain
    learned: list[Round] = field(default_factory=list)
    expects_speculation: bool = True

    def ask(self, session: Session) -> Ask:
        return Ask(self.wanted[min(session.round, len(self.wanted) - 1)])

    def learn(self, judged: Round) -> None:
        self.learned.append(judged)

    async def propose(self, session: Session, ask: Ask) -> Drafted:
        self.asked.append((session, ask.num_speculative_tokens))
        num_drafted = max(0, ask.num_speculative_tokens - self.shortfall)
        certain = as_probabilities([1.0])
        return Drafted(
            Draft(tuple(DraftedToken(50 + i, [50 + i], certain) for i in range(num_drafted)))
        )

    async def verify(
        self, session: Session, draft: Draft, *, next_is_plain: bool = False
    ) -> EvidenceRound:
        self.verified.append((session, draft))
        self.hints.append(next_is_plain)
        return EvidenceRound(session.round, session.position, Evidence(()), RoundTimings())

    def judge(
        self, draft: Draft, evidence: Evidence, randomness: Randomness, position: int
    ) -> Outcome:
        script = self.acceptances[len(self.judged) % len(self.acceptances)]
        self.judged.append((draft, evidence, randomness, position))
        kept = draft.token_ids[: min(script, len(draft))]
        accepted = [OutputToken(token_id, TokenOrigin.ACCEPTED, 1.0, 1.0) for token_id in kept]
        return Outcome((*accepted, OutputToken(99, TokenOrigin.BONUS, None, 1.0)))

    @property
    def strategy(self) -> DecodingStrategy:
        return DecodingStrategy(self, self, self.judge, self)


def new_session(max_tokens: int) -> Session:
    return Session("s", PROMPT, len(PROMPT) + max_tokens, SamplingParams(seed=42))


async def run(actors: Actors, max_tokens: int) -> list[Round]:
    async with aclosing(decode(new_session(max_tokens), actors.strategy)) as rounds:
        return [judged async for judged in rounds]


def committed(rounds: Sequence[Round]) -> list[int]:
    return [token.token_id for judged in rounds for token in judged.outcome.tokens]


@given(
    wanted=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    acceptances=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    shortfall=st.integers(0, 3),
    max_tokens=st.integers(1, 40),
)
async def test_the_room_is_filled_exactly_whatever_is_drafted_and_accepted(
    wanted, acceptances, shortfall, max_tokens
):
    actors = Actors(wanted, acceptances, shortfall)
    rounds = await run(actors, max_tokens)
    assert len(committed(rounds)) == max_tokens

    token_ids = PROMPT
    for number, (judged, (session, k)) in enumerate(zip(rounds, actors.asked, strict=True)):
        assert session is judged.session
        assert session.round == number
        assert session.token_ids == token_ids
        # A round commits up to K + 1 tokens.
        assert judged.ask.num_speculative_tokens == k <= session.room - 1
        assert k == min(actors.ask(session).num_speculative_tokens, session.room - 1)
        token_ids = (*token_ids, *(token.token_id for token in judged.outcome.tokens))


async def test_each_step_gets_what_the_one_before_it_made():
    actors = Actors(wanted=[3], acceptances=[1, 3])
    rounds = await run(actors, 12)
    for judged, (session, draft), (seen, evidence, randomness, position) in zip(
        rounds, actors.verified, actors.judged, strict=True
    ):
        assert session is judged.session
        assert draft is seen is judged.draft
        assert evidence is judged.evidence
        assert randomness == KeyedRandomness(42, session.round)
        assert position == session.position == len(session.token_ids)


async def test_nothing_but_the_outcome_is_committed():
    actors = Actors(wanted=[3], acceptances=[1])
    rounds = await run(actors, 4)
    assert committed(rounds) == [50, 99, 50, 99]
    assert rounds[1].session.token_ids == (*PROMPT, 50, 99)


async def test_without_drafts_a_round_commits_one_token():
    actors = Actors(wanted=[0], acceptances=[0])
    rounds = await run(actors, 5)
    assert [len(judged.outcome.tokens) for judged in rounds] == [1] * 5
    assert all(len(judged.draft) == 0 for judged in rounds)


@pytest.mark.parametrize(("k", "hints"), [(0, [True, True, True, False]), (3, [False] * 2)])
async def test_the_target_hears_that_the_next_round_is_plain_if_there_is_one(k, hints):
    actors = Actors(wanted=[], acceptances=[3])
    strategy = replace(actors.strategy, policy=FixedPolicy(k))
    async with aclosing(decode(new_session(4), strategy)) as rounds:
        assert [judged.ask.next_is_plain async for judged in rounds] == hints
    assert actors.hints == hints


async def test_without_room_no_step_is_taken():
    actors = Actors(wanted=[3], acceptances=[0])
    assert await run(actors, 0) == []
    assert actors.asked == []


async def test_the_loop_takes_no_step_ahead_of_its_caller():
    actors = Actors(wanted=[2], acceptances=[2])
    async with aclosing(decode(new_session(100), actors.strategy)) as rounds:
        await anext(rounds)
        await anext(rounds)
    assert len(actors.asked) == len(actors.judged) == 2


@pytest.mark.parametrize(("number", "k"), [(0, 0), (1, 5), (2, 5)])
def test_the_fixed_policy_drafts_in_every_round_but_the_first(number, k):
    session = Session("s", PROMPT, 100, SamplingParams(), round=number)
    assert FixedPolicy(5).ask(session) == Ask(k)
