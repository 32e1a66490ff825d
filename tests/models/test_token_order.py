"""The order of frequency that a tokenizer tells of its tokens."""

import json

import pytest
from tokenizers import Tokenizer, models

from forethought.models.text.token_order import merge_order
from forethought.models.text.tokenizer import TextTokenizer
from tests.trained import byte_level, sentencepiece


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
def test_all_tokens_are_ordered_each_once(make):
    tokenizer: TextTokenizer = make()
    assert sorted(tokenizer.merge_order()) == list(range(tokenizer.vocab_size))


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
def test_merged_tokens_come_in_the_order_of_their_merges(make, tmp_path):
    tokenizer = make()
    tokenizer.save(tmp_path / "tokenizer.json")
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    ranks = {token_id: rank for rank, token_id in enumerate(tokenizer.merge_order())}
    merged = list(dict.fromkeys(model["vocab"][left + right] for left, right in model["merges"]))
    places = [ranks[token_id] for token_id in merged]
    assert places == sorted(places)
    assert max(places) < min(ranks[token_id] for token_id in tokenizer.special_token_ids.values())


def test_a_token_stands_where_a_merge_first_names_it_and_others_come_last():
    vocabulary = {"z": 0, "c": 1, "b": 2, "a": 3, "abc": 4, "ab": 5}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b"), ("ab", "c")]))
    assert merge_order(backend) == [3, 2, 5, 1, 4, 0]


def test_a_merge_leaves_out_the_sign_that_a_token_goes_on():
    vocabulary = {"x": 0, "ab": 1, "##b": 2, "a": 3}
    backend = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[("a", "##b")], continuing_subword_prefix="##")
    )
    assert merge_order(backend) == [3, 2, 1, 0]


def test_a_line_feed_that_no_merge_makes_is_among_the_frequent():
    vocabulary = {"<0x00>": 0, "<0x09>": 1, "<0x0A>": 2, "a": 3, "b": 4, "ab": 5}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")], byte_fallback=True))
    assert merge_order(backend) == [2, 1, 3, 4, 5, 0]


def test_unigram_tokens_come_by_their_probability_and_words_by_their_ids():
    unigram = Tokenizer(models.Unigram([("a", -3.0), ("b", -0.5), ("c", -1.0)]))
    assert merge_order(unigram) == [1, 2, 0]
    words = Tokenizer(models.WordLevel({"b": 1, "a": 0, "c": 2}, "a"))
    assert merge_order(words) == [0, 1, 2]
