"""The token log of a lookup session follows the committed tokens, back and forth."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draft_service.settings import DraftSettings
from forethought.errors import CachePositionMismatchError, OverloadedError
from forethought.lookup.ngram_proposer import NgramProposer, NgramSession
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Draft
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound, TierLoad
from tests.waiting import NOTHING_HELD

INFO = ModelInfo("n", "", "v", 10, 1000, "", "", 16)
PROMPT = [1, 2, 3, 1, 2]
TOKENS = st.lists(st.integers(0, 3), max_size=6)


def open_session(token_ids=PROMPT, min_match=1, max_match=8) -> NgramSession:
    proposer = NgramProposer(INFO, min_match, max_match)
    return proposer.open(SessionOpen("s", token_ids, SamplingParams()))


async def propose(session: NgramSession, request: SpeculateRound) -> Draft:
    draft, _ = await session.propose(request)
    return draft


def ask(position: int, committed=(), k: int = 4) -> SpeculateRound:
    return SpeculateRound(0, position, committed, k)


async def test_every_guess_is_certain():
    draft = await propose(open_session(), ask(5))
    assert draft.token_ids == [3, 1, 2, 3]
    for token in draft.tokens:
        assert token.support_token_ids == [token.token_id]
        assert token.draft_probs.tolist() == [1.0]


async def test_committed_tokens_are_looked_up_too():
    session = open_session()
    assert (await propose(session, ask(7, [8, 1], k=1))).token_ids == [2]
    assert (await propose(session, ask(8, [2], k=1))).token_ids == [8]


async def test_a_lower_position_rolls_back():
    session = open_session()
    await propose(session, ask(8, [8, 9, 1]))
    assert (await propose(session, ask(6, [3], k=2))).token_ids == [1, 2]
    assert (await propose(session, ask(5))).token_ids == [3, 1, 2, 3]


async def test_the_same_round_again_gets_the_same_draft():
    session = open_session()
    assert await propose(session, ask(7, [3, 1])) == await propose(session, ask(7, [3, 1]))


@given(prompt=TOKENS.filter(len), rounds=st.lists(st.tuples(TOKENS, TOKENS, st.integers(0, 9))))
async def test_after_any_commits_and_rollbacks_the_draft_is_that_of_a_new_session(prompt, rounds):
    session = open_session(prompt)
    known = list(prompt)
    for commit, again, back in rounds:
        await propose(session, ask(len(known) + len(commit), commit))
        known += commit
        # Goes back, never before the first token, and on again with other tokens.
        known = known[: max(1, len(known) - back)] + again
        draft = await propose(session, ask(len(known), again))
        assert draft.token_ids == (await propose(open_session(known), ask(len(known)))).token_ids


@pytest.mark.parametrize(("position", "committed"), [(6, []), (8, [1, 2]), (100, [1]), (1, [1, 2])])
async def test_a_round_beyond_what_is_known_is_refused(position, committed):
    session = open_session()
    with pytest.raises(CachePositionMismatchError):
        await propose(session, ask(position, committed))
    # Nothing was changed by that.
    assert (await propose(session, ask(5))).token_ids == [3, 1, 2, 3]


async def test_nothing_is_drafted_where_only_shorter_runs_than_min_match_repeat():
    assert (await propose(open_session(min_match=2), ask(5))).token_ids == [3, 1, 2, 3]
    assert len(await propose(open_session(min_match=3), ask(5))) == 0


async def test_no_tokens_are_drafted_when_none_are_asked_for():
    session = open_session()
    assert len(await propose(session, ask(6, [3], k=0))) == 0
    assert (await propose(session, ask(6, k=1))).token_ids == [1]


async def test_a_lookup_session_reuses_nothing_and_is_forgotten_when_it_closes():
    proposer = NgramProposer(INFO, 1, 8)
    session = proposer.open(SessionOpen("s", PROMPT, SamplingParams()))
    assert session.num_reused_tokens == 0
    await propose(session, ask(5))
    assert proposer.load() == TierLoad(num_sessions=1, num_cached_tokens=0, num_queued_jobs=0)
    session.close()
    session.close()
    assert proposer.load() == NOTHING_HELD


def test_no_more_sessions_are_open_than_the_tier_takes():
    proposer = NgramProposer(INFO, 1, 8, max_sessions=2)
    first, _ = (proposer.open(SessionOpen("s", PROMPT, SamplingParams())) for _ in range(2))
    with pytest.raises(OverloadedError):
        proposer.open(SessionOpen("s", PROMPT, SamplingParams()))
    first.close()
    proposer.open(SessionOpen("s", PROMPT, SamplingParams()))


async def test_a_long_text_is_searched_in_another_thread_and_found_all_the_same(monkeypatch):
    threads = []
    look_up = NgramSession.look_up

    def watched(self: NgramSession, request: SpeculateRound) -> Draft:
        threads.append(threading.current_thread())
        return look_up(self, request)

    monkeypatch.setattr(NgramSession, "look_up", watched)
    long = [*PROMPT, *[9] * 70_000, *PROMPT[:2]]
    session = open_session(long)
    assert (await propose(session, ask(len(long)))).token_ids == [9, 9, 9, 9]
    assert (await propose(open_session(), ask(5))).token_ids == [3, 1, 2, 3]
    assert threads[0] is not threading.main_thread()
    assert threads[1] is threading.main_thread()


def test_settings_under_which_nothing_is_ever_found_are_refused(capsys):
    with pytest.raises(SystemExit):
        DraftSettings.from_command_line(["--model", "m", "--ngram-min-match", "17"])
    assert "--ngram-max-match: must" in capsys.readouterr().err
