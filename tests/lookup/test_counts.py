"""A counts session drafts what its table says of the end of its text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from forethought.counts.builder import BuildOptions, build_table
from forethought.generation import GenerationParams, GenerationRequest
from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness
from forethought.sampling.types import DraftedToken, VerificationMode, coupled_guess
from orchestrator.lookup.counts import CountsLookup
from tests.counts.corpora import corpus_of
from tests.lookup.sessions import a_session, after, found, guesses
from tests.stack import LoadedModel, generate, running_stack

TEXTS = [([before, 1], [2, 3, 4, 5, 6]) for before in (0, 3, 5, 7, 9)]
TABLE = build_table(corpus_of(*TEXTS, ([2], [9])), 10, BuildOptions(min_count=1))
LOOKUP = CountsLookup(TABLE, 0.0, 0.0)
TEXT = (0, 1)
K = 3
DRAWING = SamplingParams(temperature=1, seed=5)


def token_ids_of(draft: Sequence[DraftedToken]) -> list[int]:
    return [token.token_id for token in draft]


def test_at_temperature_0_every_guess_is_certain():
    draft = LOOKUP.draft(a_session(TEXT), K)
    assert token_ids_of(draft) == [2, 3, 4]
    for token in draft:
        assert list(token.support_token_ids) == [token.token_id]
        assert token.draft_probs.tolist() == [1.0]


def test_in_a_coupled_session_a_guess_comes_bare():
    session = a_session(TEXT, mode=VerificationMode.COUPLED)
    assert LOOKUP.draft(session, 1) == [coupled_guess(2)]


def drawn(sampling: SamplingParams, num_rounds: int = 400) -> list[Sequence[DraftedToken]]:
    session = a_session(TEXT, sampling=sampling)
    return [LOOKUP.draft(replace(session, round=number), K) for number in range(num_rounds)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_above_temperature_0_guesses_are_drawn_from_the_q_that_they_report(temperature):
    token_ids, counted = TABLE.distribution(TEXT)
    expected = np.array(counted) ** (1 / temperature)
    expected /= expected.sum()
    drafts = drawn(replace(DRAWING, temperature=temperature))
    firsts = [draft[0] for draft in drafts]
    for first in firsts:
        assert first.support_token_ids == token_ids
        assert first.draft_probs == pytest.approx(expected)
    observed = [sum(first.token_id == token for first in firsts) for token in token_ids]
    assert chisquare(observed, expected * len(firsts)).pvalue > 1e-4
    for draft in drafts:
        text = list(TEXT)
        for token in draft:
            assert token.support_token_ids == TABLE.distribution(text)[0]
            text.append(token.token_id)


def test_the_same_round_draws_the_same_guesses():
    first, again = drawn(DRAWING, 50), drawn(DRAWING, 50)
    assert list(map(token_ids_of, first)) == list(map(token_ids_of, again))


def test_where_a_drawn_draft_ends_does_not_depend_on_the_token_that_is_drawn_there():
    """Else q given that there is a guess would not be the q that is reported."""
    _, likeliest = TABLE.guess(TEXT)
    session = a_session(TEXT, sampling=DRAWING)
    for min_prob, has_guess in ((likeliest, True), (likeliest + 1e-6, False)):
        lookup = CountsLookup(TABLE, min_prob, min_prob)
        for number in range(50):
            assert bool(lookup.draft(replace(session, round=number), 1)) == has_guess


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_of_one_token_may_have_a_minimum_of_its_own(temperature):
    """Behind 0 and 1 the likeliest path is as likely as its first token, but for what the counts
    keep back for tokens that were never seen."""
    _, first = TABLE.guess(TEXT)
    session = a_session(TEXT, sampling=SamplingParams(temperature=temperature, seed=5))

    def num_guesses(min_prob: float, first_min_prob: float) -> set[int]:
        lookup = CountsLookup(TABLE, min_prob, first_min_prob)
        return {len(lookup.draft(replace(session, round=number), K)) for number in range(30)}

    assert num_guesses(first + 1e-6, first + 1e-6) == {0}
    assert num_guesses(first + 1e-6, first) == {1}
    assert max(num_guesses(0.0, first)) == K


def test_a_coupled_draft_is_what_a_target_with_these_counts_would_choose():
    token_ids, counted = TABLE.distribution(TEXT)
    probs = np.array(counted) / sum(counted)
    chosen = Counter()
    for seed in range(400):
        sampling = replace(DRAWING, seed=seed)
        session = a_session(TEXT, sampling=sampling, mode=VerificationMode.COUPLED)
        waits = [KeyedRandomness(seed, 0).exponential(2, token) for token in token_ids]
        best = token_ids[int(np.argmin(np.array(waits) / probs))]
        assert LOOKUP.draft(session, 1) == [coupled_guess(best)]
        chosen[best] += 1
    observed = [chosen[token] for token in token_ids]
    assert chisquare(observed, probs * 400).pvalue > 1e-4


def test_drafts_follow_the_committed_tokens():
    session = a_session(TEXT)
    assert guesses(LOOKUP, after(session, 2, 3), K) == [4, 5, 6]
    assert guesses(LOOKUP, after(session, 8), K) == []


def test_a_draft_ends_where_it_becomes_too_uncertain():
    (_, first), (_, second) = TABLE.guess(TEXT), TABLE.guess([*TEXT, 2])
    least = first * second
    assert found(CountsLookup(TABLE, least), TEXT, K) == [2, 3]
    assert found(CountsLookup(TABLE, least + 1e-6), TEXT, K) == [2]


async def test_the_counts_of_what_a_target_says_are_right_where_it_says_so_again(
    tiny_target: LoadedModel,
):
    prompt = [3, 4, 5]
    params = GenerationParams(
        max_tokens=40, temperature=0, num_speculative_tokens=4, ignore_eos=True
    )
    request = GenerationRequest(prompt, params)
    async with running_stack(tiny_target) as stack:
        said = (await generate(stack.client, request)).token_ids
    vocab_size = tiny_target.tokenizer.vocab_size
    table = build_table(
        corpus_of((prompt, said)), vocab_size, BuildOptions(max_context=8, min_count=1)
    )
    async with running_stack(tiny_target, lookups=[CountsLookup(table, 0.0)]) as stack:
        answer = await generate(stack.client, request)
    assert answer.token_ids == said
    (counts,) = answer.finished.speculation.proposers
    assert counts.proposer == "counts"
    assert answer.finished.speculation.acceptance_rate > 0.9
