"""Who is asked for a draft, and in which order."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from forethought.generation import GenerationParams, GenerationRequest, Step
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Draft, DraftedToken, as_probabilities
from forethought.tier import ModelInfo, RoundTimings
from orchestrator.lookup.suffix import SuffixSession
from orchestrator.loop.round import Ask, Drafted
from orchestrator.loop.session import Session
from orchestrator.request.plan import PolicyKind
from orchestrator.tiers.lookup_first import LookupFirst, NoDraftTier
from tests.lookup.sessions import after
from tests.stack import LoadedModel, generate, running_stack

PROMPT = (3, 4, 5, 6, 3, 4)
SESSION = Session("s", PROMPT, 100, SamplingParams(temperature=0))
ASK = Ask(2)
OF_THE_TIER = Drafted(
    Draft((DraftedToken(9, [9], as_probabilities([1.0])),), "model"), RoundTimings(forward_ns=7)
)


@dataclass
class ScriptedTier(NoDraftTier):
    """Always guesses 9, or fails."""

    has_failed: bool = False
    asked: list[Ask] = field(default_factory=list)
    model: ModelInfo | None = None

    async def propose(self, session: Session, ask: Ask) -> Drafted:
        self.asked.append(ask)
        if self.has_failed or not ask.num_speculative_tokens:
            return Drafted(has_failed=self.has_failed)
        return OF_THE_TIER


def ids_of(drafted: Drafted) -> list[int]:
    return [token.token_id for token in drafted.draft.tokens]


async def test_the_tier_is_asked_only_where_nothing_is_found(tiny_target):
    tier = ScriptedTier()
    proposer = LookupFirst([tiny_target.suffix()], tier)
    found = await proposer.propose(SESSION, ASK)
    assert (ids_of(found), found.draft.proposer) == ([5, 6], "suffix")
    assert not tier.asked
    elsewhere = after(SESSION, 7)
    assert await proposer.propose(elsewhere, ASK) == OF_THE_TIER
    assert tier.asked == [ASK]


async def test_lookups_are_asked_in_their_order(tiny_target):
    session = replace(SESSION, token_ids=(3, 6, 9, 3, 6))  # which the counted text holds, too
    lookups = [tiny_target.counts(), tiny_target.suffix()]
    drafted = await LookupFirst(lookups, NoDraftTier()).propose(session, ASK)
    assert drafted.draft.proposer == "counts"
    drafted = await LookupFirst(lookups[::-1], NoDraftTier()).propose(session, ASK)
    assert drafted.draft.proposer == "suffix"


async def test_what_was_committed_in_rounds_without_a_draft_is_looked_up_too(tiny_target):
    proposer = LookupFirst([tiny_target.suffix()], NoDraftTier())
    await proposer.propose(SESSION, ASK)
    later = after(SESSION, 5, 7, 8)
    assert await proposer.propose(later, Ask(0)) == Drafted()
    assert ids_of(await proposer.propose(after(later, 4, 5, 7), ASK)) == [8, 4]


async def test_only_the_tier_fails(tiny_target):
    proposer = LookupFirst([tiny_target.suffix()], ScriptedTier(has_failed=True))
    assert await proposer.propose(after(SESSION, 7), ASK) == Drafted(has_failed=True)
    found = await proposer.propose(after(SESSION, 7, 4, 5), ASK)
    assert (ids_of(found), found.has_failed) == ([6, 3], False)


async def test_a_closed_session_is_forgotten(tiny_target):
    lookup = tiny_target.suffix()
    proposer = LookupFirst([lookup], NoDraftTier())
    await proposer.propose(SESSION, ASK)
    assert len(lookup.sessions) == 1
    proposer.close()
    assert not lookup.sessions


async def test_a_long_text_is_read_in_another_thread(tiny_target, monkeypatch):
    threads = []
    draft = SuffixSession.draft

    def watched(*arguments):
        threads.append(threading.current_thread())
        return draft(*arguments)

    monkeypatch.setattr(SuffixSession, "draft", watched)
    proposer = LookupFirst([tiny_target.suffix()], NoDraftTier())
    session = replace(SESSION, token_ids=(*PROMPT, *[9] * 3000, *PROMPT))
    for each in (session, after(session, 9)):
        assert ids_of(await proposer.propose(each, ASK))
    assert threads[0] is not threading.main_thread()
    assert threads[1] is threading.main_thread()


@pytest.mark.parametrize("policy", PolicyKind)
async def test_a_deployment_without_a_draft_tier_speculates_and_says_who_guessed(
    policy: PolicyKind, tiny_target: LoadedModel
) -> None:
    params = GenerationParams(max_tokens=40, temperature=0, ignore_eos=True)
    request = GenerationRequest(list(PROMPT), params, include_steps=True)
    plain = replace(request, params=replace(params, num_speculative_tokens=0))
    lookups = [tiny_target.suffix(), tiny_target.counts()]
    async with running_stack(tiny_target, policy=policy, lookups=lookups) as running:
        answer = await generate(running.client, request)
        expected = await generate(running.client, plain)
        assert running.tiers.draft is None
    assert answer.token_ids == expected.token_ids
    # How long the adaptive policy goes on with guesses that are wrong is its own matter.
    least = {"suffix", "counts"} if policy is PolicyKind.FIXED else {"suffix"}
    assert least <= proposers_of(answer.steps) <= {"suffix", "counts"}
    assert answer.finished.speculation.num_draft_failures == 0


def proposers_of(steps: Sequence[Step]) -> set[str]:
    return {step.proposer for step in steps if step.drafted}
