"""Drafting ahead changes when a draft is made, never what it is."""

import asyncio
from collections.abc import Sequence

import pytest

from draft_service.model_proposer import ModelProposer, ModelSession
from forethought.engine.batching.limits import EngineLimits
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Draft, DraftedToken, LookaheadOutcome, VerificationMode
from forethought.tier import LookaheadCounts, SessionOpen, SpeculateRound
from tests.draft.test_model_proposer import assert_alike
from tests.stack import LoadedModel
from tests.waiting import until

PROMPT = (8, 2, 2, 6, 11, 3, 4, 5, 9)
K = 3
SHAPES = {
    "greedy": SamplingParams(temperature=0),
    "sampled": SamplingParams(seed=5),
    "penalty": SamplingParams(repetition_penalty=1.4, seed=6),
}


class Sessions:
    """One session that looks ahead, and one that does not."""

    def __init__(
        self,
        model: LoadedModel,
        sampling: SamplingParams,
        mode: VerificationMode,
        num_bets: int = 1,
    ) -> None:
        self.proposers = [model.proposer(4, EngineLimits(512)) for _ in range(2)]
        self.proposers[0].num_bets = num_bets
        opening = SessionOpen("s", PROMPT, sampling, mode=mode)
        self.ahead, self.plain = (proposer.open(opening) for proposer in self.proposers)

    async def ask(self, request: SpeculateRound) -> tuple[Draft, Draft]:
        ahead, _ = await self.ahead.propose(request)
        plain, _ = await self.plain.propose(request)
        return ahead, plain

    async def close(self) -> None:
        self.ahead.close()
        self.plain.close()
        for proposer in self.proposers:
            await proposer.close()


async def until_made(session: ModelSession) -> None:
    """Waits until nothing is left to draft ahead."""
    engine = session.proposer.engine
    await until(lambda: not engine._scheduler.num_jobs and not engine._thread.num_messages)


def ask(number: int, tokens: Sequence[int], committed: Sequence[int], k: int = K) -> SpeculateRound:
    return SpeculateRound(number, len(tokens), list(committed), k)


@pytest.mark.parametrize("waits", [True, False], ids=["made", "in the making"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_won_bet_gives_the_draft_that_would_have_been_made(tiny_draft, shape, waits):
    sampling = SHAPES[shape]
    sessions = Sessions(tiny_draft, sampling, VerificationMode.REJECTION)
    tokens, committed = list(PROMPT), list[int]()
    for number in range(1, 6):
        ahead, plain = await sessions.ask(ask(number, tokens, committed))
        assert_alike(ahead, plain)
        assert ahead.lookahead is (
            LookaheadOutcome.HIT if number > 1 and waits else ahead.lookahead
        )
        if waits:
            await until_made(sessions.ahead)
        drafted = [*tokens, *ahead.token_ids]
        committed = [*ahead.token_ids, await likeliest(sessions, drafted, sampling)]
        tokens += committed
    await sessions.close()


async def likeliest(sessions: Sessions, tokens: list[int], sampling: SamplingParams) -> int:
    """The likeliest token of q, which is first in its support."""
    opening = SessionOpen("other", tokens, sampling)
    other = sessions.proposers[1].open(opening)
    draft, _ = await other.propose(SpeculateRound(9, len(tokens), [], 1))
    other.close()
    return draft.tokens[0].support_token_ids[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_accepted", range(K + 1))
async def test_a_lost_bet_gives_the_draft_that_would_have_been_made(
    tiny_draft, shape, num_accepted
):
    sampling = SHAPES[shape]
    sessions = Sessions(tiny_draft, sampling, VerificationMode.REJECTION)
    tokens, committed = list(PROMPT), list[int]()
    for number in range(1, 5):
        ahead, plain = await sessions.ask(ask(number, tokens, committed))
        assert_alike(ahead, plain)
        if number > 1:
            assert ahead.lookahead is LookaheadOutcome.MISS
        await until_made(sessions.ahead)
        drafted = [*tokens, *ahead.token_ids]
        expected = await likeliest(sessions, drafted, sampling)
        other = 5 if expected != 5 or num_accepted < K else 6
        committed = [*ahead.token_ids[:num_accepted], other]
        tokens += committed
    await sessions.close()


async def test_in_a_coupled_session_the_bet_is_on_the_choice_of_the_shared_noise(tiny_draft):
    sampling = SamplingParams(seed=11)
    sessions = Sessions(tiny_draft, sampling, VerificationMode.COUPLED)
    tokens, committed = list(PROMPT), list[int]()
    for number in range(1, 6):
        ahead, plain = await sessions.ask(ask(number, tokens, committed))
        assert ahead.token_ids == plain.token_ids
        assert number == 1 or ahead.lookahead is LookaheadOutcome.HIT
        await until_made(sessions.ahead)
        # What the target chooses if it is the draft's own model.
        after = [*tokens, *ahead.token_ids]
        other = sessions.proposers[1].open(
            SessionOpen("other", after, sampling, mode=VerificationMode.COUPLED)
        )
        bonus, _ = await other.propose(SpeculateRound(99, len(after), [], 1))
        other.close()
        committed = [*ahead.token_ids, *bonus.token_ids]
        tokens += committed
    await sessions.close()


@pytest.mark.parametrize("k", [1, K, 2 * K])
async def test_a_request_for_fewer_or_more_tokens_than_were_made_gets_what_it_asked_for(
    tiny_draft, k
):
    sessions = Sessions(tiny_draft, SHAPES["greedy"], VerificationMode.REJECTION)
    first, _ = await sessions.ask(ask(1, PROMPT, []))
    await until_made(sessions.ahead)
    drafted = [*PROMPT, *first.token_ids]
    committed = [*first.token_ids, await likeliest(sessions, drafted, SHAPES["greedy"])]
    tokens = [*PROMPT, *committed]
    ahead, plain = await sessions.ask(ask(2, tokens, committed, k))
    assert ahead.lookahead is LookaheadOutcome.HIT
    assert len(ahead) == k
    assert_alike(ahead, plain)
    assert ahead.num_wasted_tokens == max(K - k, 0)
    await sessions.close()


async def test_hits_misses_and_wasted_tokens_are_counted(tiny_draft):
    sessions = Sessions(tiny_draft, SHAPES["greedy"], VerificationMode.REJECTION)
    first, _ = await sessions.ask(ask(1, PROMPT, []))
    await until_made(sessions.ahead)
    drafted = [*PROMPT, *first.token_ids]
    committed = [*first.token_ids, await likeliest(sessions, drafted, SHAPES["greedy"])]
    tokens = [*PROMPT, *committed]
    second, _ = await sessions.ask(ask(2, tokens, committed))
    await until_made(sessions.ahead)
    rejected = (second.token_ids[0] + 1) % 12
    third, _ = await sessions.ask(ask(3, [*tokens, rejected], [rejected]))
    assert (second.lookahead, third.lookahead) == (LookaheadOutcome.HIT, LookaheadOutcome.MISS)
    wasted = K + 1  # the bonus token, and the guesses behind it
    assert third.num_wasted_tokens == wasted
    assert sessions.proposers[0].lookahead == LookaheadCounts(1, 1, wasted)
    await until_made(sessions.ahead)
    sessions.ahead.close()
    assert sessions.proposers[0].lookahead == LookaheadCounts(1, 1, 2 * wasted)
    await sessions.close()


@pytest.mark.parametrize("shape", ["sampled", "penalty"])
@pytest.mark.parametrize("num_accepted", range(K))
async def test_with_more_bets_a_guess_may_be_replaced_by_its_runner_up(
    tiny_draft, shape, num_accepted
):
    sampling = SHAPES[shape]
    sessions = Sessions(tiny_draft, sampling, VerificationMode.REJECTION, num_bets=K + 1)
    tokens, committed = list(PROMPT), list[int]()
    for number in range(1, 6):
        ahead, plain = await sessions.ask(ask(number, tokens, committed))
        assert_alike(ahead, plain)
        assert number == 1 or ahead.lookahead is LookaheadOutcome.HIT
        await until_made(sessions.ahead)
        committed = [*ahead.token_ids[:num_accepted], runner_up(ahead.tokens[num_accepted])]
        tokens += committed
    sessions.proposers[0].engine.check()
    await sessions.close()


@pytest.mark.parametrize("num_bets", [1, 2, 4])
async def test_bets_leave_nothing_behind(tiny_draft, num_bets):
    sessions = Sessions(tiny_draft, SHAPES["sampled"], VerificationMode.REJECTION, num_bets)
    proposer = sessions.proposers[0]
    tokens, committed = list(PROMPT), list[int]()
    for number in range(1, 4):
        ahead, _ = await sessions.ask(ask(number, tokens, committed))
        committed = [*ahead.token_ids[: number % K], 5]
        tokens += committed
    sessions.ahead.close()
    await until(lambda: not proposer.load().num_sessions)
    await until(lambda: not list(proposer.engine._scheduler.sequences))
    proposer.engine.check()
    await sessions.close()


def runner_up(guess: DraftedToken) -> int:
    """The likeliest token of q that was not guessed."""
    return next(each for each in guess.support_token_ids if each != guess.token_id)


async def test_nothing_is_drafted_beyond_the_length_of_the_model(tiny_draft):
    sessions = Sessions(tiny_draft, SHAPES["greedy"], VerificationMode.REJECTION)
    longest = sessions.proposers[0].info.max_model_len
    tokens = [*PROMPT, *[5] * (longest - K - 1 - len(PROMPT))]
    first, _ = await sessions.ask(ask(1, tokens, tokens[len(PROMPT) :]))
    await until_made(sessions.ahead)
    drafted = [*tokens, *first.token_ids]
    committed = [*first.token_ids, await likeliest(sessions, drafted, SHAPES["greedy"])]
    ahead, plain = await sessions.ask(ask(2, [*tokens, *committed], committed))
    assert len(ahead) == len(plain) == 0
    await sessions.close()


async def test_who_waits_comes_before_what_is_drafted_ahead(tiny_draft):
    """With as many sessions as there is work, nothing is drafted ahead in their passes."""
    proposer: ModelProposer = tiny_draft.proposer(4, EngineLimits(512))
    proposer.num_bets = 1
    passes: list[tuple[int, int]] = []
    guess = proposer.engine._runner._finish

    def note(rounds, logits):
        passes.append((len(rounds), sum(each.is_ahead for each in rounds)))
        return guess(rounds, logits)

    proposer.engine._runner._finish = note
    sessions = [proposer.open(SessionOpen(f"s{i}", PROMPT, SHAPES["sampled"])) for i in range(4)]
    for number in range(1, 4):
        await asyncio.gather(
            *(session.propose(SpeculateRound(number, len(PROMPT), [], K)) for session in sessions)
        )
    for session in sessions:
        await until_made(session)
        session.close()
    await proposer.close()
    assert any(num_ahead for _, num_ahead in passes)
    assert all(num_ahead in (0, num_rounds) for num_rounds, num_ahead in passes)
