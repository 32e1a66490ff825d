"""A counts session drafts what its table says of the end of its log, alone and behind others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from draft_service.__main__ import LOADERS, attach
from draft_service.hybrid_proposer import HybridProposer
from draft_service.settings import DraftSettings
from forethought.counts.builder import BuildOptions, build_table
from forethought.counts.file import Counts, write_counts
from forethought.errors import (
    CachePositionMismatchError,
    ModelReferenceError,
    OverloadedError,
    VocabularyMismatchError,
)
from forethought.generation import GenerationParams, GenerationRequest
from forethought.lookup.counts_proposer import CountsProposer, CountsSession
from forethought.lookup.suffix_proposer import SuffixOptions, SuffixProposer
from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness
from forethought.sampling.types import Draft, VerificationMode, coupled_guess
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound, TierLoad
from tests.counts.corpora import corpus_of
from tests.stack import LoadedModel, generate, running_stack
from tests.waiting import NOTHING_HELD

INFO = ModelInfo("c", "", "v", 10, 1000, "", "", 16)
TEXTS = [([before, 1], [2, 3, 4, 5, 6]) for before in (0, 3, 5, 7, 9)]
TABLE = build_table(corpus_of(*TEXTS, ([2], [9])), 10, BuildOptions(min_count=1))
OPENING = SessionOpen("s", [0, 1], SamplingParams(temperature=0, seed=5))
K = 3


def open_session(
    token_ids: Sequence[int] = (0, 1),
    min_prob: float = 0.0,
    mode: VerificationMode = VerificationMode.REJECTION,
) -> CountsSession:
    opening = replace(OPENING, token_ids=token_ids, mode=mode)
    return CountsProposer(INFO, TABLE, min_prob).open(opening)


async def propose(session, request: SpeculateRound) -> Draft:
    draft, _ = await session.propose(request)
    return draft


def ask(position: int, committed: Sequence[int] = (), k: int = K) -> SpeculateRound:
    return SpeculateRound(0, position, committed, k)


async def test_every_guess_is_certain_and_says_who_made_it():
    draft = await propose(open_session(), ask(2))
    assert (draft.token_ids, draft.proposer) == ([2, 3, 4], "counts")
    for token in draft.tokens:
        assert token.support_token_ids == [token.token_id]
        assert token.draft_probs.tolist() == [1.0]


async def test_in_a_coupled_session_a_guess_comes_bare():
    draft = await propose(open_session(mode=VerificationMode.COUPLED), ask(2, k=1))
    assert draft.tokens == (coupled_guess(2),)


DRAWING = SamplingParams(temperature=1, seed=5)


async def drawn(
    text: Sequence[int], sampling: SamplingParams, num_rounds: int = 400
) -> list[Draft]:
    opening = replace(OPENING, token_ids=text, sampling=sampling)
    session = CountsProposer(INFO, TABLE, 0.0).open(opening)
    rounds = (SpeculateRound(number, len(text), (), K) for number in range(num_rounds))
    return [await propose(session, request) for request in rounds]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
async def test_above_temperature_0_guesses_are_drawn_from_the_q_that_they_report(temperature):
    token_ids, counted = TABLE.distribution([0, 1])
    expected = np.array(counted) ** (1 / temperature)
    expected /= expected.sum()
    drafts = await drawn([0, 1], replace(DRAWING, temperature=temperature))
    firsts = [draft.tokens[0] for draft in drafts]
    for first in firsts:
        assert first.support_token_ids == token_ids
        assert first.draft_probs == pytest.approx(expected)
    observed = [sum(first.token_id == token for first in firsts) for token in token_ids]
    assert chisquare(observed, expected * len(firsts)).pvalue > 1e-4
    for draft in drafts:
        text = [0, 1]
        for token in draft.tokens:
            assert token.support_token_ids == TABLE.distribution(text)[0]
            text.append(token.token_id)


async def test_the_same_round_draws_the_same_guesses():
    first, again = await drawn([0, 1], DRAWING, 50), await drawn([0, 1], DRAWING, 50)
    assert [draft.token_ids for draft in first] == [draft.token_ids for draft in again]


async def test_where_a_drawn_draft_ends_does_not_depend_on_the_token_that_is_drawn_there():
    """Else q given that there is a guess would not be the q that is reported."""
    _, likeliest = TABLE.guess([0, 1])
    opening = replace(OPENING, sampling=DRAWING)
    for min_prob, has_guess in ((likeliest, True), (likeliest + 1e-6, False)):
        session = CountsProposer(INFO, TABLE, min_prob).open(opening)
        for number in range(50):
            draft = await propose(session, SpeculateRound(number, 2, (), 1))
            assert bool(draft.tokens) == has_guess


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_draft_of_one_token_may_have_a_minimum_of_its_own(temperature):
    """Behind 0 and 1 the likeliest path is as likely as its first token, but for what the counts
    keep back for tokens that were never seen."""
    _, first = TABLE.guess([0, 1])
    opening = replace(OPENING, sampling=SamplingParams(temperature=temperature, seed=5))

    async def num_guesses(min_prob: float, first_min_prob: float | None) -> set[int]:
        proposer = CountsProposer(INFO, TABLE, min_prob, first_min_prob=first_min_prob)
        session = proposer.open(opening)
        drafts = [await propose(session, SpeculateRound(n, 2, (), K)) for n in range(30)]
        return {len(draft) for draft in drafts}

    assert await num_guesses(first + 1e-6, None) == {0}
    assert await num_guesses(first + 1e-6, first + 1e-6) == {0}
    assert await num_guesses(first + 1e-6, first) == {1}
    assert max(await num_guesses(0.0, first)) == K


async def test_a_coupled_draft_is_what_a_target_with_these_counts_would_choose():
    token_ids, counted = TABLE.distribution([0, 1])
    probs = np.array(counted) / sum(counted)
    opening = replace(OPENING, mode=VerificationMode.COUPLED)
    chosen = Counter()
    for seed in range(400):
        sampling = replace(DRAWING, seed=seed)
        session = CountsProposer(INFO, TABLE, 0.0).open(replace(opening, sampling=sampling))
        draft = await propose(session, ask(2, k=1))
        waits = [KeyedRandomness(seed, 0).exponential(2, token) for token in token_ids]
        best = token_ids[int(np.argmin(np.array(waits) / probs))]
        assert draft.tokens == (coupled_guess(best),)
        chosen[best] += 1
    observed = [chosen[token] for token in token_ids]
    assert chisquare(observed, probs * 400).pvalue > 1e-4


async def test_drafts_follow_the_committed_tokens_back_and_forth():
    session = open_session()
    assert (await propose(session, ask(4, [2, 3]))).token_ids == [4, 5, 6]
    assert (await propose(session, ask(4, [8, 4], k=1))).token_ids == [5]
    assert (await propose(session, ask(3, [8]))).token_ids == []
    with pytest.raises(CachePositionMismatchError):
        await propose(session, ask(5, [1]))


async def test_a_draft_ends_where_it_becomes_too_uncertain():
    (_, first), (_, second) = TABLE.guess([0, 1]), TABLE.guess([0, 1, 2])
    least = first * second
    assert (await propose(open_session(min_prob=least), ask(2))).token_ids == [2, 3]
    assert (await propose(open_session(min_prob=least + 1e-6), ask(2))).token_ids == [2]


async def test_a_session_is_forgotten_when_it_closes():
    proposer = CountsProposer(INFO, TABLE, 0.0, max_sessions=1)
    session = proposer.open(OPENING)
    assert proposer.load() == TierLoad(num_sessions=1, num_cached_tokens=0, num_queued_jobs=0)
    with pytest.raises(OverloadedError):
        proposer.open(OPENING)
    session.close()
    assert proposer.load() == NOTHING_HELD


async def test_behind_a_lookup_counts_draft_where_that_finds_nothing():
    lookup = SuffixProposer(INFO, SuffixOptions(min_match=2, max_match=8, min_prob=0))
    session = HybridProposer(lookup, CountsProposer(INFO, TABLE, 0.0)).open(OPENING)
    first = await propose(session, ask(2))
    assert (first.proposer, first.token_ids) == ("counts", [2, 3, 4])
    second = await propose(session, ask(6, [7, 7, 0, 1]))
    assert (second.proposer, second.token_ids) == ("suffix", [7, 7, 0])
    third = await propose(session, ask(7, [3]))
    assert (third.proposer, third.token_ids) == ("counts", [4, 5, 6])


@pytest.fixture
def counts_file(tmp_path: Path, tiny_draft: LoadedModel) -> Path:
    path = tmp_path / "x.counts"
    write_counts(path, Counts(TABLE, tiny_draft.tokenizer.fingerprint, 5))
    return path


def settings(folder: Path, *arguments: str) -> DraftSettings:
    engine = ("--dtype", "float32", "--device", "cpu", "--num-threads", "1", "--kv-memory", "1MiB")
    return DraftSettings.from_command_line(["--model", str(folder), *engine, *arguments])


@pytest.mark.parametrize(
    ("arguments", "drafts_by"),
    [
        (["--proposer", "counts"], ("counts", "counts", "counts")),
        (["--proposer", "hybrid", "--hybrid-fallback", "counts"], ("suffix", "counts", "counts")),
        (
            ["--proposer", "hybrid", "--hybrid-fallback", "counts+model"],
            ("suffix", "counts", "model"),
        ),
    ],
)
async def test_settings_choose_what_stands_behind_what(
    arguments: list[str],
    drafts_by: tuple[str, ...],
    counts_file: Path,
    tiny_draft_folder: Path,
):
    chosen = settings(tiny_draft_folder, *arguments, "--counts-file", str(counts_file))
    proposer = LOADERS[chosen.proposer](chosen)
    texts = [[5, 6, 7, 8, 9, 5, 6, 7, 8, 9], [0, 1], [0, 8]]  # found, counted, and neither
    for text, drafted_by in zip(texts, drafts_by, strict=True):
        session = proposer.open(replace(OPENING, token_ids=text))
        assert (await propose(session, ask(len(text)))).proposer == drafted_by
        session.close()
    if "model" not in drafts_by:
        assert attach(proposer, chosen) is None
    await proposer.close()


def test_a_file_of_another_vocabulary_or_none_is_refused_at_start(
    counts_file: Path, tmp_path: Path, tiny_draft_folder: Path
):
    arguments = ("--proposer", "counts", "--counts-file")
    missing = settings(tiny_draft_folder, *arguments, str(tmp_path / "none"))
    with pytest.raises(ModelReferenceError, match="cannot read counts"):
        LOADERS["counts"](missing)
    write_counts(counts_file, Counts(TABLE, "0" * 32, 5))
    with pytest.raises(VocabularyMismatchError):
        LOADERS["counts"](settings(tiny_draft_folder, *arguments, str(counts_file)))


@pytest.mark.parametrize(
    "arguments",
    [["--proposer", "counts"], ["--proposer", "hybrid", "--hybrid-fallback", "counts"]],
)
def test_counts_from_nowhere_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        DraftSettings.from_command_line(["--model", "m", *arguments])
    assert "--counts-file: must name the file" in capsys.readouterr().err


async def test_the_counts_of_what_a_target_says_are_right_where_it_says_so_again(
    tiny_target: LoadedModel,
):
    prompt = [3, 4, 5]
    params = GenerationParams(
        max_tokens=40, temperature=0, num_speculative_tokens=4, ignore_eos=True
    )
    request = GenerationRequest(prompt, params)
    async with running_stack(tiny_target, tiny_target.ngram()) as stack:
        said = (await generate(stack.client, request)).token_ids
    vocab_size = tiny_target.tokenizer.vocab_size
    table = build_table(
        corpus_of((prompt, said)), vocab_size, BuildOptions(max_context=8, min_count=1)
    )
    async with running_stack(tiny_target, CountsProposer(tiny_target.info, table, 0.0)) as stack:
        answer = await generate(stack.client, request)
    assert answer.token_ids == said
    (counts,) = answer.finished.speculation.proposers
    assert counts.proposer == "counts"
    assert answer.finished.speculation.acceptance_rate > 0.9
