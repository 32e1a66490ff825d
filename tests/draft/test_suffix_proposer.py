"""A suffix session drafts what brute force finds in its tokens, back and forth; tenants apart."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import CachePositionMismatchError, OverloadedError
from forethought.generation import GenerationParams, GenerationRequest
from forethought.lookup.suffix_proposer import SuffixOptions, SuffixProposer, SuffixSession
from forethought.lookup.tenant_memory import TenantMemory
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Draft, VerificationMode, coupled_guess
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound, TierLoad
from tests.draft.suffix_reference import by_brute_force
from tests.stack import LoadedModel, generate, running_stack
from tests.waiting import NOTHING_HELD, until

INFO = ModelInfo("s", "", "v", 10, 1000, "", "", 16)
PROMPT = [1, 2, 3, 1, 2]
K = 4
TOKENS = st.lists(st.integers(0, 3), max_size=6)
FAR = SuffixOptions(min_match=1, max_match=8, min_prob=0)  # as far as K
REMEMBERING = SuffixOptions(min_match=1, max_match=8, min_prob=0, memory_tokens=1000)


def open_session(
    token_ids: Sequence[int] = PROMPT,
    options: SuffixOptions = FAR,
    mode: VerificationMode = VerificationMode.REJECTION,
) -> SuffixSession:
    return SuffixProposer(INFO, options).open(opening(token_ids, mode=mode))


def opening(
    token_ids: Sequence[int] = PROMPT,
    tenant: str = "",
    mode: VerificationMode = VerificationMode.REJECTION,
) -> SessionOpen:
    return SessionOpen("s", token_ids, SamplingParams(), mode=mode, tenant=tenant)


async def propose(session: SuffixSession, request: SpeculateRound) -> Draft:
    draft, _ = await session.propose(request)
    return draft


def ask(position: int, committed: Sequence[int] = (), k: int = K) -> SpeculateRound:
    return SpeculateRound(0, position, committed, k)


async def say(proposer: SuffixProposer, tenant: str, output: Sequence[int]) -> None:
    """A session from its opening to its end."""
    session = proposer.open(opening([0], tenant))
    await propose(session, ask(1 + len(output), output, k=0))
    session.close()


async def hear(proposer: SuffixProposer, tenant: str, token_ids: Sequence[int]) -> list[int]:
    """What a new session would be drafted."""
    session = proposer.open(opening(token_ids, tenant))
    return (await propose(session, ask(len(token_ids)))).token_ids


async def test_every_guess_is_certain_and_says_who_made_it():
    draft = await propose(open_session(), ask(5))
    assert draft.token_ids == [3, 1, 2, 3]
    assert draft.proposer == "suffix"
    for token in draft.tokens:
        assert token.support_token_ids == [token.token_id]
        assert token.draft_probs.tolist() == [1.0]


async def test_in_a_coupled_session_a_guess_comes_bare():
    draft = await propose(open_session(mode=VerificationMode.COUPLED), ask(5, k=2))
    assert draft.tokens == (coupled_guess(3), coupled_guess(1))


@given(prompt=TOKENS.filter(len), rounds=st.lists(st.tuples(TOKENS, TOKENS, st.integers(0, 9))))
async def test_after_any_commits_and_rollbacks_the_draft_is_that_of_brute_force(prompt, rounds):
    session = open_session(prompt)
    known = list(prompt)
    for commit, again, back in rounds:
        await propose(session, ask(len(known) + len(commit), commit))
        known += commit
        # Goes back, never before the first token, and on again with other tokens.
        known = known[: max(1, len(known) - back)] + again
        draft = await propose(session, ask(len(known), again))
        assert draft.token_ids == by_brute_force(known, known, K, 8, 0)


async def test_the_same_round_again_gets_the_same_draft_and_reads_nothing_anew():
    session = open_session()
    first = await propose(session, ask(7, [3, 1]))
    automaton = session._automaton
    assert await propose(session, ask(7, [3, 1])) == first
    assert session._automaton is automaton


@pytest.mark.parametrize(("position", "committed"), [(6, []), (8, [1, 2]), (100, [1]), (1, [1, 2])])
async def test_a_round_beyond_what_is_known_is_refused(position, committed):
    session = open_session()
    with pytest.raises(CachePositionMismatchError):
        await propose(session, ask(position, committed))
    # Nothing was changed by that.
    assert (await propose(session, ask(5))).token_ids == [3, 1, 2, 3]


async def test_nothing_is_drafted_where_only_shorter_runs_than_min_match_repeat():
    assert (await propose(open_session(options=SuffixOptions(2, 8, 0)), ask(5))).token_ids
    assert not (await propose(open_session(options=SuffixOptions(3, 8, 0)), ask(5))).token_ids


async def test_a_draft_ends_where_it_becomes_too_uncertain():
    options = SuffixOptions(min_match=1, max_match=8, min_prob=0.5)
    # A match of two tokens: 2/3 for one guess, 2/4 for two.
    assert (await propose(open_session(options=options), ask(5))).token_ids == [3, 1]


async def test_a_long_text_is_read_in_another_thread_and_found_all_the_same(monkeypatch):
    threads = []
    look_up = SuffixSession.look_up

    def watched(self: SuffixSession, request: SpeculateRound) -> Draft:
        threads.append(threading.current_thread())
        return look_up(self, request)

    monkeypatch.setattr(SuffixSession, "look_up", watched)
    long = [*PROMPT, *[9] * 3_000, *PROMPT[:2]]
    session = open_session(long)
    assert (await propose(session, ask(len(long)))).token_ids == [9, 9, 9, 9]
    assert (await propose(session, ask(len(long) + 1, [3]))).token_ids == [1, 2, 9, 9]
    assert threads[0] is not threading.main_thread()
    assert threads[1] is threading.main_thread()


async def test_a_suffix_session_is_forgotten_when_it_closes():
    proposer = SuffixProposer(INFO, FAR, max_sessions=1)
    session = proposer.open(opening())
    assert session.num_reused_tokens == 0
    assert proposer.load() == TierLoad(num_sessions=1, num_cached_tokens=0, num_queued_jobs=0)
    with pytest.raises(OverloadedError):
        proposer.open(opening())
    session.close()
    session.close()
    assert proposer.load() == NOTHING_HELD


async def test_what_a_tenant_was_told_is_drafted_for_it_again():
    proposer = SuffixProposer(INFO, REMEMBERING)
    await say(proposer, "a", [5, 6, 7, 8])
    assert await hear(proposer, "a", [9, 5, 6]) == [7, 8]


async def test_tenants_never_see_each_others_outputs():
    proposer = SuffixProposer(INFO, REMEMBERING)
    await say(proposer, "a", [5, 6, 7, 8])
    await say(proposer, "b", [5, 6, 3, 4])
    assert await hear(proposer, "a", [9, 5, 6]) == [7, 8]
    assert await hear(proposer, "b", [9, 5, 6]) == [3, 4]
    for other in ("", "c", "A", "a "):
        assert await hear(proposer, other, [9, 5, 6]) == []


async def test_only_outputs_are_remembered_and_only_once_their_session_has_ended():
    proposer = SuffixProposer(INFO, REMEMBERING)
    session = proposer.open(opening([5, 6, 7], "a"))
    await propose(session, ask(5, [8, 9]))
    assert await hear(proposer, "a", [0, 8]) == []
    session.close()
    session.close()
    assert await hear(proposer, "a", [0, 8]) == [9]
    assert await hear(proposer, "a", [0, 5, 6]) == []
    assert len(proposer.memory._by_age) == 1


async def test_without_a_memory_nothing_is_remembered():
    proposer = SuffixProposer(INFO, FAR)
    await say(proposer, "a", [5, 6, 7, 8])
    assert await hear(proposer, "a", [9, 5, 6]) == []
    assert proposer.memory.num_tokens == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ([6, 3, 0, 5, 6], [7, 8]),  # two tokens in memory, one here
        ([5, 6, 3, 0, 5, 6], [3, 0, 5, 6]),  # as many in both: here
        ([9, 5, 6, 3, 9, 5, 6], [3, 9, 5, 6]),  # three here
    ],
)
async def test_the_longer_match_of_session_and_memory_wins(text, expected):
    proposer = SuffixProposer(INFO, REMEMBERING)
    await say(proposer, "a", [5, 6, 7, 8])
    assert await hear(proposer, "a", text) == expected


async def test_no_draft_goes_beyond_the_end_of_a_remembered_output():
    proposer = SuffixProposer(INFO, REMEMBERING)
    await say(proposer, "a", [5, 6, 7])
    await say(proposer, "a", [8, 9])
    assert await hear(proposer, "a", [5, 6]) == [7]
    assert await hear(proposer, "a", [6, 7]) == []


async def test_through_the_whole_stack_a_tenant_gets_its_own_words_drafted_and_no_others(
    tiny_target: LoadedModel,
):
    proposer = SuffixProposer(tiny_target.info, replace(REMEMBERING, memory_tokens=10_000))
    params = GenerationParams(
        max_tokens=40, temperature=0, num_speculative_tokens=K, ignore_eos=True
    )
    texts, accepted = [], []
    async with running_stack(tiny_target, proposer) as stack:
        for tenant in ("a", "b", "a", "b"):
            answer = await generate(
                stack.client, GenerationRequest([7, 3, 11, 4, 9], params, tenant=tenant)
            )
            texts.append(answer.token_ids)
            accepted.append(answer.finished.speculation.num_accepted_tokens)
            await until(lambda: proposer.load() == NOTHING_HELD)
    assert texts == [texts[0]] * 4
    first_a, first_b, second_a, second_b = accepted
    assert first_b == first_a < second_a == second_b


OUTPUTS = st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 9), max_size=40)))


@settings(max_examples=50)
@given(outputs=OUTPUTS, max_tokens=st.integers(0, 400))
def test_memory_is_bounded_and_its_books_are_right(outputs, max_tokens):
    memory = TenantMemory(max_tokens, max_match=4)
    for tenant, output in outputs:
        memory.remember(tenant, output)
        chapters = [each for own in memory._chapters.values() for each in own]
        assert memory.num_tokens == sum(16 + len(chapter) for chapter in chapters) <= max_tokens
        assert len(chapters) == len(memory._by_age)
        assert all(memory._chapters.values())


def test_the_oldest_is_forgotten_first_whoever_said_it():
    memory = TenantMemory(8 * 40, max_match=4)
    memory.remember("a", [5, 6, 7])
    for index in range(20):
        memory.remember("b", [100 + index] * 20)
        if index == 5:
            assert memory.continuation("a", [5, 6], 1, 0) == (2, [7])
    assert memory.continuation("a", [5, 6], 1, 0) == (0, [])
    assert memory.continuation("b", [100, 100], 1, 0) == (0, [])
    assert memory.continuation("b", [119, 119], 1, 0) == (2, [119])


def test_of_an_output_without_room_the_end_is_remembered():
    memory = TenantMemory(8 * 40, max_match=4)
    memory.remember("a", list(range(100)))
    assert memory.continuation("a", [10, 11], 1, 0) == (0, [])
    assert memory.continuation("a", [97, 98], 2, 0) == (2, [99])


def test_of_equal_matches_the_newest_output_counts():
    memory = TenantMemory(8 * 20, max_match=4)  # a chapter for each
    memory.remember("a", [5, 6, 7])
    memory.remember("a", [5, 6, 8])
    assert len(memory._by_age) == 2
    assert memory.continuation("a", [5, 6], 1, 0) == (2, [8])
