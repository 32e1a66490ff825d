"""A suffix session drafts what brute force finds in its tokens and predictions; tenants apart."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.generation import GenerationParams, GenerationRequest
from forethought.sampling.types import VerificationMode, coupled_guess
from orchestrator.lookup import suffix
from orchestrator.lookup.suffix import SuffixLookup, SuffixOptions
from orchestrator.lookup.tenant_memory import TenantMemory
from tests.lookup.sessions import a_session, after, found, guesses
from tests.lookup.suffix_reference import by_brute_force
from tests.stack import LoadedModel, generate, running_stack
from tests.waiting import until

PROMPT = [1, 2, 3, 1, 2]
K = 4
TOKENS = st.lists(st.integers(0, 3), max_size=6)
FAR = SuffixOptions(min_match=1, max_match=8, min_prob=0)  # as far as K
REMEMBERING = replace(FAR, memory_tokens=1000)


def say(lookup: SuffixLookup, tenant: str, output: Sequence[int]) -> None:
    """A session from its opening to its end."""
    session = a_session([0], tenant=tenant)
    opened = lookup.open(session)
    opened.draft(after(session, *output), 1)
    opened.close()


def hear(lookup: SuffixLookup, tenant: str, token_ids: Sequence[int]) -> list[int]:
    """What a new session would be drafted."""
    session = a_session(token_ids, tenant=tenant)
    return guesses(lookup.open(session), session)


def test_every_guess_is_certain():
    session = a_session(PROMPT)
    draft = SuffixLookup(FAR).open(session).draft(session, K)
    assert [token.token_id for token in draft] == [3, 1, 2, 3]
    for token in draft:
        assert list(token.support_token_ids) == [token.token_id]
        assert token.draft_probs.tolist() == [1.0]


def test_in_a_coupled_session_a_guess_comes_bare():
    session = a_session(PROMPT, mode=VerificationMode.COUPLED)
    draft = SuffixLookup(FAR).open(session).draft(session, 2)
    assert draft == [coupled_guess(3), coupled_guess(1)]


@given(prompt=TOKENS.filter(len), rounds=st.lists(TOKENS))
def test_after_any_rounds_the_draft_is_that_of_brute_force(prompt, rounds):
    session = a_session(prompt)
    opened = SuffixLookup(FAR).open(session)
    for committed in rounds:
        session = after(session, *committed)
        known = list(session.token_ids)
        assert guesses(opened, session) == by_brute_force(known, known, K, 8, 0)


def test_the_same_round_again_gets_the_same_draft():
    session = a_session(PROMPT)
    opened = SuffixLookup(FAR).open(session)
    session = after(session, 3, 1)
    assert guesses(opened, session) == guesses(opened, session) != []


def test_nothing_is_drafted_where_only_shorter_runs_than_min_match_repeat():
    assert found(SuffixLookup(SuffixOptions(2, 8, 0)), PROMPT)
    assert not found(SuffixLookup(SuffixOptions(3, 8, 0)), PROMPT)


def test_a_draft_ends_where_it_becomes_too_uncertain():
    options = SuffixOptions(min_match=1, max_match=8, min_prob=0.5)
    # A match of two tokens: 2/3 for one guess, 2/4 for two.
    assert found(SuffixLookup(options), PROMPT) == [3, 1]


def test_a_long_text_is_read_in_another_thread():
    session = a_session([*PROMPT, *[9] * 3_000, *PROMPT[:2]])
    opened = SuffixLookup(FAR).open(session)
    assert opened.is_slow(session)
    assert guesses(opened, session) == [9, 9, 9, 9]
    session = after(session, 3)
    assert not opened.is_slow(session)
    assert guesses(opened, session) == [1, 2, 9, 9]


def test_all_sessions_together_read_no_more_tokens_than_they_may(monkeypatch):
    monkeypatch.setattr(suffix, "MAX_TOKENS", 100)
    monkeypatch.setattr(suffix, "_MANY_TOKENS", 10)
    lookup = SuffixLookup(FAR)
    long, other = a_session([3] * 90), a_session([5] * 20)
    first, second = lookup.open(long), lookup.open(other)
    assert guesses(first, long)
    assert guesses(second, other) == []
    first.close()
    assert guesses(second, other) == [5] * K


def test_a_suffix_session_is_forgotten_when_it_closes():
    lookup = SuffixLookup(FAR)
    opened = lookup.open(a_session(PROMPT))
    assert lookup.sessions == {opened}
    opened.close()
    opened.close()
    assert not lookup.sessions


def test_what_a_tenant_was_told_is_drafted_for_it_again():
    lookup = SuffixLookup(REMEMBERING)
    say(lookup, "a", [5, 6, 7, 8])
    assert hear(lookup, "a", [9, 5, 6]) == [7, 8]


def test_tenants_never_see_each_others_outputs():
    lookup = SuffixLookup(REMEMBERING)
    say(lookup, "a", [5, 6, 7, 8])
    say(lookup, "b", [5, 6, 3, 4])
    assert hear(lookup, "a", [9, 5, 6]) == [7, 8]
    assert hear(lookup, "b", [9, 5, 6]) == [3, 4]
    for other in ("", "c", "A", "a "):
        assert hear(lookup, other, [9, 5, 6]) == []


def test_only_outputs_are_remembered_and_only_once_their_session_has_ended():
    lookup = SuffixLookup(REMEMBERING)
    session = a_session([5, 6, 7], tenant="a")
    opened = lookup.open(session)
    opened.draft(after(session, 8, 9), 1)
    assert hear(lookup, "a", [0, 8]) == []
    opened.close()
    opened.close()
    assert hear(lookup, "a", [0, 8]) == [9]
    assert hear(lookup, "a", [0, 5, 6]) == []
    assert len(lookup.memory._by_age) == 1


def test_without_a_memory_nothing_is_remembered():
    lookup = SuffixLookup(FAR)
    say(lookup, "a", [5, 6, 7, 8])
    assert hear(lookup, "a", [9, 5, 6]) == []
    assert lookup.memory.num_tokens == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ([6, 3, 0, 5, 6], [7, 8]),  # two tokens in memory, one here
        ([5, 6, 3, 0, 5, 6], [3, 0, 5, 6]),  # as many in both: here
        ([9, 5, 6, 3, 9, 5, 6], [3, 9, 5, 6]),  # three here
    ],
)
def test_the_longer_match_of_session_and_memory_wins(text, expected):
    lookup = SuffixLookup(REMEMBERING)
    say(lookup, "a", [5, 6, 7, 8])
    assert hear(lookup, "a", text) == expected


def test_no_draft_goes_beyond_the_end_of_a_remembered_output():
    lookup = SuffixLookup(REMEMBERING)
    say(lookup, "a", [5, 6, 7])
    say(lookup, "a", [8, 9])
    assert hear(lookup, "a", [5, 6]) == [7]
    assert hear(lookup, "a", [6, 7]) == []


async def test_through_the_whole_stack_a_tenant_gets_its_own_words_drafted_and_no_others(
    tiny_target: LoadedModel,
):
    lookup = SuffixLookup(replace(REMEMBERING, memory_tokens=10_000))
    params = GenerationParams(
        max_tokens=40, temperature=0, num_speculative_tokens=K, ignore_eos=True
    )
    texts, accepted = [], []
    async with running_stack(tiny_target, lookups=[lookup]) as stack:
        for tenant in ("a", "b", "a", "b"):
            answer = await generate(
                stack.client, GenerationRequest([7, 3, 11, 4, 9], params, tenant=tenant)
            )
            texts.append(answer.token_ids)
            accepted.append(answer.finished.speculation.num_accepted_tokens)
            await until(lambda: not lookup.sessions)
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
