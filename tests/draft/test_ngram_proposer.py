"""The token log of a lookup session follows the committed tokens, back and forth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draft_service.ngram_proposer import NgramProposer, NgramSession
from draft_service.settings import DraftSettings
from forethought.errors import CachePositionMismatchError
from forethought.sampling.params import SamplingParams
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound

INFO = ModelInfo("n", "", "v", 10, 1000, "", "", 16)
PROMPT = [1, 2, 3, 1, 2]
TOKENS = st.lists(st.integers(0, 3), max_size=6)


def open_session(token_ids=PROMPT, min_match=1, max_match=8) -> NgramSession:
    proposer = NgramProposer(INFO, min_match, max_match)
    return proposer.open(SessionOpen("s", token_ids, SamplingParams()))


def ask(position: int, committed=(), k: int = 4) -> SpeculateRound:
    return SpeculateRound(0, position, committed, k)


def test_every_guess_is_certain():
    draft = open_session().propose(ask(5))
    assert draft.token_ids == [3, 1, 2, 3]
    for token in draft.tokens:
        assert token.support_token_ids == [token.token_id]
        assert token.draft_probs.tolist() == [1.0]


def test_committed_tokens_are_looked_up_too():
    session = open_session()
    assert session.propose(ask(7, [8, 1], k=1)).token_ids == [2]
    assert session.propose(ask(8, [2], k=1)).token_ids == [8]


def test_a_lower_position_rolls_back():
    session = open_session()
    session.propose(ask(8, [8, 9, 1]))
    assert session.propose(ask(6, [3], k=2)).token_ids == [1, 2]
    assert session.propose(ask(5)).token_ids == [3, 1, 2, 3]


def test_the_same_round_again_gets_the_same_draft():
    session = open_session()
    assert session.propose(ask(7, [3, 1])) == session.propose(ask(7, [3, 1]))


@given(prompt=TOKENS.filter(len), rounds=st.lists(st.tuples(TOKENS, TOKENS, st.integers(0, 9))))
def test_after_any_commits_and_rollbacks_the_draft_is_that_of_a_new_session(prompt, rounds):
    session = open_session(prompt)
    known = list(prompt)
    for commit, again, back in rounds:
        session.propose(ask(len(known) + len(commit), commit))
        known += commit
        # Goes back, never before the first token, and on again with other tokens.
        known = known[: max(1, len(known) - back)] + again
        draft = session.propose(ask(len(known), again))
        assert draft.token_ids == open_session(known).propose(ask(len(known))).token_ids


@pytest.mark.parametrize(("position", "committed"), [(6, []), (8, [1, 2]), (100, [1]), (1, [1, 2])])
def test_a_round_beyond_what_is_known_is_refused(position, committed):
    session = open_session()
    with pytest.raises(CachePositionMismatchError):
        session.propose(ask(position, committed))
    # Nothing was changed by that.
    assert session.propose(ask(5)).token_ids == [3, 1, 2, 3]


def test_nothing_is_drafted_where_only_shorter_runs_than_min_match_repeat():
    assert open_session(min_match=2).propose(ask(5)).token_ids == [3, 1, 2, 3]
    assert len(open_session(min_match=3).propose(ask(5))) == 0


def test_no_tokens_are_drafted_when_none_are_asked_for():
    session = open_session()
    assert len(session.propose(ask(6, [3], k=0))) == 0
    assert session.propose(ask(6, k=1)).token_ids == [1]


def test_a_lookup_session_holds_nothing_in_memory_that_must_be_freed():
    session = open_session()
    assert not session.prefill(512)
    session.release()
    assert session.num_cached_tokens == 0


def test_settings_under_which_nothing_is_ever_found_are_refused(capsys):
    with pytest.raises(SystemExit):
        DraftSettings.from_command_line(["--model", "m", "--ngram-min-match", "17"])
    assert "ngram_max_match" in capsys.readouterr().err
