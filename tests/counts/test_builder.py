"""A table says what plain dictionaries say, and the same each time."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.counts.builder import BuildOptions, build_table
from tests.counts.corpora import corpus_of
from tests.counts.reference import contexts_by_dictionaries, guesses_by_dictionary

VOCAB_SIZE = 5
TOKENS = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=12)
SAMPLES = st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=6).filter(
    lambda samples: any(answer for _, answer in samples)
)
OPTIONS = st.builds(
    BuildOptions,
    max_context=st.integers(1, 4),
    min_count=st.integers(1, 2),
    max_guesses=st.sampled_from([1, 2, VOCAB_SIZE]),
    min_prob=st.sampled_from([0.0, 0.1, 0.4]),
    min_change=st.sampled_from([0.0, 0.1, 0.3]),
)
ALL = BuildOptions(min_count=1, min_prob=0)
HALF_STEP = 0.5 / 255 + 1e-9  # of the probabilities in a table


@given(samples=SAMPLES, options=OPTIONS)
def test_every_text_gets_the_guess_that_plain_dictionaries_make(samples, options):
    corpus = corpus_of(*samples)
    table = build_table(corpus, VOCAB_SIZE, options)
    kept = contexts_by_dictionaries(corpus, options)
    assert len(table) == len(kept)
    texts = [*kept, *((0, *context) for context in kept), *product(range(VOCAB_SIZE), repeat=3)]
    for text in texts:
        found = table.distribution(text)
        expected = guesses_by_dictionary(kept, text[-options.max_context :])
        assert (found is None) == (table.guess(text) is None) == (expected is None)
        if found is not None:
            token_ids, probs = found
            # What is too unlikely for a number of 8 bits is left out.
            assert token_ids == [token for token, _ in expected][: len(token_ids)]
            assert probs == pytest.approx(
                [prob for _, prob in expected][: len(probs)], abs=HALF_STEP
            )
            assert all(prob < 2 * HALF_STEP for _, prob in expected[len(probs) :])
            assert table.guess(text) == (token_ids[0], probs[0])


def test_the_same_texts_make_the_same_table():
    corpus = zipf_corpus()
    first, second = (build_table(corpus, 1000, BuildOptions()) for _ in range(2))
    assert first == second


def test_the_answers_alone_are_counted_after_what_their_prompts_end_with():
    table = build_table(corpus_of(([1, 2, 3], [4])), VOCAB_SIZE, ALL)
    assert table.guess([3])[0] == 4
    assert table.guess([2]) is None
    assert table.guess([]) is None


def test_a_context_never_reaches_back_into_another_sample():
    table = build_table(corpus_of(([], [1, 2]), ([], [3])), VOCAB_SIZE, ALL)
    assert table.guess([1])[0] == 2
    assert table.guess([2]) is None


def test_what_came_more_often_is_surer():
    often = build_table(corpus_of(*[([1], [2])] * 9), VOCAB_SIZE, ALL)
    once = build_table(corpus_of(([1], [2]), ([3], [4])), VOCAB_SIZE, ALL)
    assert often.guess([1])[0] == once.guess([1])[0] == 2
    assert often.guess([1])[1] > once.guess([1])[1]


def test_only_so_many_contexts_are_kept_those_that_occurred_most():
    corpus = corpus_of(*[([1], [2])] * 3, ([2], [3]), ([3], [4]))
    table = build_table(
        corpus, VOCAB_SIZE, BuildOptions(max_context=1, min_count=1, max_contexts=1)
    )
    assert len(table) == 1
    assert table.guess([1])[0] == 2


def test_a_table_of_nothing_guesses_nothing():
    table = build_table(corpus_of(([], [1])), VOCAB_SIZE, ALL)
    assert len(table) == 0
    assert table.guess([1]) is None
    assert table.continuation([1], 4, 0.0) == []


def test_a_draft_ends_where_it_becomes_too_uncertain_or_nothing_is_known():
    corpus = corpus_of(*[([1], [2, 3])] * 3)
    table = build_table(corpus, VOCAB_SIZE, BuildOptions(max_context=2, min_count=1))
    assert table.continuation([0, 1], 4, 0.0) == [2, 3]
    assert table.continuation([0, 1], 1, 0.0) == [2]
    assert table.continuation([0, 1], 0, 0.0) == []
    (_, first), (_, second) = table.guess([1]), table.guess([1, 2])
    assert table.continuation([1], 4, first * second) == [2, 3]
    assert table.continuation([1], 4, first * second + 1e-6) == [2]
    assert table.continuation([1], 4, first + 1e-6) == []


def zipf_corpus(num_tokens=20_000):
    token_ids = np.random.default_rng(0).zipf(1.3, num_tokens) % 1000
    return corpus_of(*(([], part.tolist()) for part in np.split(token_ids, 100)))
