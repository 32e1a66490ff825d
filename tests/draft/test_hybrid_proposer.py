"""A long match is drafted, the model guesses otherwise, and both know all committed tokens."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draft_service.__main__ import load_hybrid
from draft_service.hybrid_proposer import HybridProposer, HybridSession
from draft_service.settings import DraftSettings
from forethought.errors import CachePositionMismatchError, DrainingError, OverloadedError
from forethought.generation import GenerationParams, GenerationRequest
from forethought.lookup.suffix_proposer import SuffixOptions, SuffixProposer
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Draft, coupled_guess
from forethought.tier import (
    EngineWork,
    ModelInfo,
    RoundTimings,
    SessionOpen,
    SpeculateRound,
    TierLoad,
)
from tests.stack import LoadedModel, generate, running_stack

INFO = ModelInfo("h", "f", "v", 12, 1000, "", "", 16)
PROMPT = [1, 2, 3, 4, 1, 2]
OPENING = SessionOpen("s", PROMPT, SamplingParams(seed=5))
K = 3
NEVER = 9  # repeats nothing
TIMINGS = RoundTimings(queue_ns=5, forward_ns=7, total_ns=20, batch_size=3, num_batch_tokens=4)


@dataclass(eq=False)
class ScriptedSession:
    """A model's session that guesses 8s, and keeps the log that it was told."""

    log: list[int]
    num_reused_tokens: int = 2
    rounds: list[SpeculateRound] = field(default_factory=list)
    failure: Exception | None = None
    is_open: bool = True

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        start = request.position - len(request.committed_token_ids)
        assert 0 <= start <= len(self.log)
        self.rounds.append(request)
        if self.failure is not None:
            raise self.failure
        self.log[start:] = request.committed_token_ids
        guesses = (coupled_guess(8),) * request.num_speculative_tokens
        return Draft(guesses, "model"), TIMINGS

    def close(self) -> None:
        self.is_open = False


class ScriptedModel:
    """Opens scripted sessions."""

    name = "model"
    info = INFO

    def __init__(self) -> None:
        self.sessions: list[ScriptedSession] = []
        self.is_closed = False

    def open(self, opening: SessionOpen) -> ScriptedSession:
        self.sessions.append(ScriptedSession(list(opening.token_ids)))
        return self.sessions[-1]

    def load(self) -> TierLoad:
        return TierLoad(len(self.sessions), 11, 2)

    def work(self) -> EngineWork:
        return EngineWork(busy_ns=5)

    async def close(self) -> None:
        self.is_closed = True


def lookup(max_sessions: int = 8) -> SuffixProposer:
    return SuffixProposer(INFO, SuffixOptions(min_match=2, max_match=8, min_prob=0), max_sessions)


def open_session(token_ids: Sequence[int] = PROMPT) -> tuple[HybridSession, ScriptedSession]:
    model = ScriptedModel()
    session = HybridProposer(lookup(), model).open(replace(OPENING, token_ids=token_ids))
    return session, model.sessions[0]


async def propose(session: HybridSession, request: SpeculateRound) -> Draft:
    draft, _ = await session.propose(request)
    return draft


def ask(position: int, committed: Sequence[int] = (), k: int = K) -> SpeculateRound:
    return SpeculateRound(0, position, committed, k)


async def test_a_long_match_is_drafted_and_the_model_is_not_asked():
    session, model = open_session()
    draft = await propose(session, ask(6))
    assert (draft.token_ids, draft.proposer) == ([3, 4, 1], "suffix")
    assert model.rounds == []


async def test_without_a_long_match_the_model_drafts():
    session, model = open_session()
    draft = await propose(session, ask(7, [4]))  # 4 occurred, 2 4 did not
    assert (draft.token_ids, draft.proposer) == ([8, 8, 8], "model")
    assert model.rounds == [ask(7, [4])]


async def test_the_model_is_told_all_that_was_committed_since_it_was_asked():
    session, model = open_session()
    assert (await propose(session, ask(8, [3, 4]))).proposer == "suffix"
    assert (await propose(session, ask(10, [1, 2]))).proposer == "suffix"
    assert (await propose(session, ask(11, [NEVER]))).proposer == "model"
    assert model.rounds == [ask(11, [3, 4, 1, 2, NEVER])]
    await propose(session, ask(12, [NEVER]))
    assert model.rounds[1] == ask(12, [NEVER])


async def test_a_round_without_guesses_brings_both_up_to_date():
    session, model = open_session()
    await propose(session, ask(8, [3, 4], k=0))
    assert model.rounds == [ask(8, [3, 4], k=0)]
    assert (await propose(session, ask(8))).proposer == "suffix"


TOKENS = st.lists(st.integers(0, 3), max_size=5)


@given(rounds=st.lists(st.tuples(TOKENS, st.integers(0, 9), st.integers(0, K)), max_size=12))
async def test_whenever_the_model_is_asked_it_knows_all_that_is_committed(rounds):
    session, model = open_session()
    known = list(PROMPT)
    for committed, back, k in rounds:
        known = known[: max(1, len(known) - back)] + committed
        num_rounds = len(model.rounds)
        draft = await propose(session, ask(len(known), committed, k))
        assert (len(model.rounds) > num_rounds) == (draft.proposer == "model")
        if draft.proposer == "model":
            assert model.log == known


async def test_what_a_failed_round_told_the_model_is_told_again():
    session, model = open_session()
    await propose(session, ask(8, [3, 4]))
    model.failure = DrainingError("no")
    with pytest.raises(DrainingError):
        await propose(session, ask(9, [NEVER]))
    model.failure = None
    await propose(session, ask(10, [NEVER]))
    assert model.log == [*PROMPT, 3, 4, NEVER, NEVER]


async def test_a_round_beyond_what_is_known_is_refused_and_changes_nothing():
    session, model = open_session()
    with pytest.raises(CachePositionMismatchError):
        await propose(session, ask(9, [1]))
    await propose(session, ask(7, [NEVER]))
    assert model.log == [*PROMPT, NEVER]


async def test_timings_are_those_of_whoever_worked():
    session, _ = open_session()
    _, looked_up = await session.propose(ask(6))
    assert looked_up.forward_ns == looked_up.total_ns > 0
    assert looked_up.num_batch_tokens == 0
    _, asked = await session.propose(ask(7, [NEVER]))
    assert (asked.queue_ns, asked.batch_size, asked.num_batch_tokens) == (5, 3, 4)
    assert asked.forward_ns > TIMINGS.forward_ns
    assert asked.total_ns >= asked.forward_ns - TIMINGS.forward_ns


async def test_a_hybrid_is_its_model_to_others_and_closes_both():
    model, looking = ScriptedModel(), lookup()
    proposer = HybridProposer(looking, model)
    session = proposer.open(OPENING)
    assert (proposer.name, proposer.info) == ("hybrid", INFO)
    assert proposer.load() == TierLoad(1, 11, 2)
    assert proposer.work() == EngineWork(busy_ns=5)
    assert session.num_reused_tokens == 2
    session.close()
    assert not model.sessions[0].is_open
    assert looking.load().num_sessions == 0
    await proposer.close()
    assert model.is_closed


async def test_a_session_that_the_lookup_refuses_is_not_left_on_the_model():
    model = ScriptedModel()
    with pytest.raises(OverloadedError):
        HybridProposer(lookup(max_sessions=0), model).open(OPENING)
    assert not model.sessions[0].is_open


@pytest.fixture
async def hybrid(tiny_draft: LoadedModel) -> AsyncIterator[HybridProposer]:
    proposer = tiny_draft.hybrid(min_match=2)
    yield proposer
    await proposer.close()


async def test_the_real_model_drafts_as_if_it_had_been_asked_every_time(hybrid, tiny_draft):
    session = hybrid.open(OPENING)
    known, drafted_by = list(PROMPT), []
    for number, committed in enumerate([[3, 4], [1, 2], [5], [7, 7], [11], [4, 1, 2], [10]]):
        known += committed
        request = SpeculateRound(number, len(known), committed, K)
        draft = await propose(session, request)
        drafted_by.append(draft.proposer)
        if draft.proposer == "model":
            alone = tiny_draft.proposer()
            fresh = alone.open(replace(OPENING, token_ids=known))
            expected = await propose(fresh, replace(request, committed_token_ids=()))
            assert draft.token_ids == expected.token_ids
            await alone.close()
    assert set(drafted_by) == {"suffix", "model"}


async def test_statistics_tell_apart_who_drafted(tiny_target):
    params = GenerationParams(
        max_tokens=80, temperature=0, num_speculative_tokens=4, ignore_eos=True
    )
    async with running_stack(tiny_target, tiny_target.hybrid(min_match=3)) as stack:
        request = GenerationRequest(PROMPT, params, include_steps=True)
        answer = await generate(stack.client, request)
    speculation = answer.finished.speculation
    counts = {each.proposer: each for each in speculation.proposers}
    assert set(counts) == {"suffix", "model"}
    assert counts["model"].num_accepted_tokens == counts["model"].num_draft_tokens
    for name, count in counts.items():
        steps = [step for step in answer.steps if step.drafted and step.proposer == name]
        assert len(steps) == count.num_rounds
        assert sum(len(step.drafted) for step in steps) == count.num_draft_tokens


async def test_sessions_side_by_side_do_not_mix(hybrid):
    async def speak(first: int) -> list[list[int]]:
        prompt = [first, 2, 3, first, 2]
        session = hybrid.open(replace(OPENING, token_ids=prompt))
        drafts = [await propose(session, ask(5)), await propose(session, ask(6, [first]))]
        session.close()
        return [draft.token_ids for draft in drafts]

    alone = [await speak(first) for first in (4, 5, 6)]
    assert await asyncio.gather(*(speak(first) for first in (4, 5, 6))) == alone
    assert [drafts[0][:2] for drafts in alone] == [[3, 4], [3, 5], [3, 6]]


@pytest.mark.parametrize(
    ("kind", "num_needed"), [("suffix", 4), ("suffix", 5), ("ngram", 4), ("ngram", 5)]
)
async def test_settings_choose_the_lookup_and_how_long_a_match_it_needs(
    kind, num_needed, tiny_draft_folder
):
    settings = DraftSettings(
        model=str(tiny_draft_folder),
        proposer="hybrid",
        hybrid_lookup=kind,
        hybrid_min_match=num_needed,
        dtype="float32",
        device="cpu",
        num_threads=1,
        kv_memory="1MiB",
    )
    proposer = load_hybrid(settings)
    tokens = [2, 3, 4, 5, 6, 2, 3, 4, 5]  # four at the end have been there before
    session = proposer.open(replace(OPENING, token_ids=tokens))
    draft = await propose(session, ask(len(tokens), k=1))
    assert draft.proposer == (kind if num_needed == 4 else "model")
    session.close()
    await proposer.close()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--suffix-min-match", "33"], "--suffix-max-match: must"),
        (["--hybrid-min-match", "33"], "--hybrid-min-match 33: must"),
        (["--hybrid-lookup", "ngram", "--hybrid-min-match", "17"], "ngram_max_match"),
        (["--suffix-min-prob", "1.5"], "--suffix-min-prob 1.5: must"),
        (["--suffix-memory", "-1"], "--suffix-memory -1: must"),
    ],
)
def test_settings_under_which_nothing_is_ever_found_are_refused(arguments, complaint, capsys):
    with pytest.raises(SystemExit):
        DraftSettings.from_command_line(["--model", "m", *arguments])
    assert complaint in capsys.readouterr().err
