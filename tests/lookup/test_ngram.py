"""An ngram session drafts what followed the last time in all that its session has committed."""

from hypothesis import given
from hypothesis import strategies as st

from forethought.sampling.types import VerificationMode, coupled_guess
from orchestrator.lookup.ngram import NgramLookup
from tests.lookup.sessions import a_session, after, found, guesses

PROMPT = [1, 2, 3, 1, 2]
TOKENS = st.lists(st.integers(0, 3), max_size=6)
LOOKUP = NgramLookup(min_match=1, max_match=8)


def test_every_guess_is_certain():
    session = a_session(PROMPT)
    draft = LOOKUP.open(session).draft(session, 4)
    assert [token.token_id for token in draft] == [3, 1, 2, 3]
    for token in draft:
        assert list(token.support_token_ids) == [token.token_id]
        assert token.draft_probs.tolist() == [1.0]


def test_in_a_coupled_session_a_guess_comes_bare():
    session = a_session(PROMPT, mode=VerificationMode.COUPLED)
    assert LOOKUP.open(session).draft(session, 1) == [coupled_guess(3)]


def test_committed_tokens_are_looked_up_too():
    session = a_session(PROMPT)
    lookup = LOOKUP.open(session)
    session = after(session, 8, 1)
    assert guesses(lookup, session, 1) == [2]
    assert guesses(lookup, after(session, 2), 1) == [8]


@given(prompt=TOKENS.filter(len), rounds=st.lists(TOKENS))
def test_after_any_rounds_the_draft_is_that_of_a_new_session(prompt, rounds):
    session = a_session(prompt)
    lookup = LOOKUP.open(session)
    for committed in rounds:
        session = after(session, *committed)
        assert guesses(lookup, session) == found(LOOKUP, session.token_ids)


def test_nothing_is_drafted_where_only_shorter_runs_than_min_match_repeat():
    assert found(NgramLookup(2, 8), PROMPT) == [3, 1, 2, 3]
    assert found(NgramLookup(3, 8), PROMPT) == []


def test_a_long_text_is_searched_in_another_thread():
    session = a_session(PROMPT)
    assert not LOOKUP.open(session).is_slow(session)
    long = a_session([*PROMPT, *[9] * 70_000, *PROMPT[:2]])
    lookup = LOOKUP.open(long)
    assert lookup.is_slow(long)
    assert guesses(lookup, long) == [9, 9, 9, 9]
