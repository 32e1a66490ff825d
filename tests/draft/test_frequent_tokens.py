"""A draft model that scores only its most frequent tokens."""

import re
from pathlib import Path

import pytest

from draft_service.__main__ import load_proposer
from draft_service.frequent_tokens import frequent_tokens
from draft_service.model_proposer import ModelProposer
from draft_service.settings import DraftSettings
from forethought.counts.builder import BuildOptions, build_table
from forethought.counts.file import Counts, write_counts
from forethought.errors import ModelReferenceError, VocabularyMismatchError
from forethought.sampling.params import SamplingParams
from forethought.tier import SessionOpen, SpeculateRound
from tests.counts.corpora import corpus_of
from tests.stack import LoadedModel
from tests.tiny import EOS_ID, OVERLAPPING_TOKENS, UNK_ID, write_tiny_model
from tests.trained import byte_level, sentencepiece

K = 4
PROMPT = [3, 5, 7, 5, 2]
TEXT = [9, 8, 9, 8, 9, 8, 7, 9, 8, 7]
TABLE = build_table(corpus_of(([], TEXT)), 12, BuildOptions(min_count=1))


@pytest.mark.parametrize("tokenizer", [byte_level(), sentencepiece()], ids=lambda each: each.name)
def test_special_tokens_stay_and_the_first_of_the_merges_follow(tokenizer):
    special = {*tokenizer.special_token_ids.values()}
    chosen = frequent_tokens(tokenizer, 100)
    assert len(chosen) == 100
    assert chosen == sorted(chosen)
    others = [token_id for token_id in tokenizer.merge_order() if token_id not in special]
    assert {*chosen} == special | {*others[: 100 - len(special)]}


def test_special_tokens_stay_though_they_are_more_than_are_asked_for():
    tokenizer = byte_level()
    assert {*frequent_tokens(tokenizer, 1)} == {*tokenizer.special_token_ids.values()}


@pytest.mark.parametrize("more", [0, 1, 10_000])
def test_no_token_is_left_out_where_as_many_are_asked_for_as_there_are(more):
    assert frequent_tokens(byte_level(), byte_level().vocab_size + more) == []


def test_counted_tokens_come_before_those_of_the_merges(tiny_draft: LoadedModel):
    special = {*tiny_draft.tokenizer.special_token_ids.values(), EOS_ID}
    weights = TABLE.token_weights()
    assert weights[9] > weights[7] > weights[3] == 0
    size = len(special) + 2
    assert {*frequent_tokens(tiny_draft.tokenizer, size, TABLE)} == special | {8, 9}


def test_only_tokens_that_can_be_guessed_are_chosen(tiny_draft: LoadedModel):
    assert frequent_tokens(tiny_draft.tokenizer, 3, among={4, 7, 9, 11}) == [4, 7, 9]


def settings(folder: Path | str, **given: object) -> DraftSettings:
    return DraftSettings(model=str(folder), dtype="float32", num_threads=1, **given)


async def drafts_of(model: DraftSettings) -> tuple[set[int], set[int]]:
    """The tokens of some guesses, and those that have a probability."""
    proposer = load_proposer(model)
    assert isinstance(proposer, ModelProposer)
    guessed: set[int] = set()
    support: set[int] = set()
    for seed in range(20):
        sampling = SamplingParams(seed=seed, temperature=1.5)
        session = proposer.open(SessionOpen(str(seed), PROMPT, sampling))
        draft, _ = await session.propose(SpeculateRound(1, len(PROMPT), (), K))
        assert len(draft.tokens) == K
        for token in draft.tokens:
            assert sum(token.draft_probs) == pytest.approx(1)
            guessed.add(token.token_id)
            support |= {*token.support_token_ids}
        session.close()
    await proposer.close()
    return guessed, support


async def test_a_draft_guesses_no_token_that_it_does_not_score(tiny_draft_folder):
    guessed, support = await drafts_of(settings(tiny_draft_folder, vocab_size=5, lookahead=0))
    assert support == {0, 1, 2, 3, 4}  # the words of this tokenizer are ordered by their ids
    assert len(guessed) > 1
    assert guessed <= support


async def test_counts_tell_what_a_draft_scores(tiny_draft_folder, tiny_draft, tmp_path):
    file = tmp_path / "target.counts"
    write_counts(file, Counts(TABLE, tiny_draft.tokenizer.fingerprint, len(TEXT)))
    given = settings(tiny_draft_folder, vocab_size=5, vocab_counts=file, lookahead=0)
    _, support = await drafts_of(given)
    assert {7, 8, 9} <= support


def test_counts_of_a_target_with_another_vocabulary_are_refused_for_that(
    tiny_target, tiny_target_folder, tmp_path
):
    file = tmp_path / "target.counts"
    write_counts(file, Counts(TABLE, tiny_target.tokenizer.fingerprint, len(TEXT)))
    folder = write_tiny_model(tmp_path, tokens=OVERLAPPING_TOKENS, seed=2)
    given = {"vocab_size": 5, "vocab_counts": file}
    why = f"draft model {folder} has another vocabulary than the target whose texts {file} counts"
    with pytest.raises(VocabularyMismatchError, match=f"{re.escape(why)}: .*--translate-draft"):
        load_proposer(settings(folder, **given))
    translated = settings(folder, target_vocabulary=str(tiny_target_folder), **given)
    with pytest.raises(VocabularyMismatchError, match="leave --vocab-counts out"):
        load_proposer(translated)


@pytest.mark.parametrize("vocab_size", [1, 6])
async def test_a_translated_draft_scores_only_tokens_that_the_target_has(
    tiny_target_folder, tmp_path, vocab_size
):
    folder = write_tiny_model(tmp_path, tokens=OVERLAPPING_TOKENS, seed=2)
    given = settings(folder, target_vocabulary=str(tiny_target_folder), vocab_size=vocab_size)
    _, support = await drafts_of(given)
    assert 0 < len(support) <= max(vocab_size, len({UNK_ID, EOS_ID}))


def test_a_feature_draft_is_refused_a_smaller_vocabulary_by_name(tiny_feature_folder):
    with pytest.raises(ModelReferenceError, match=r"--vocab-size 5: .* is a feature draft"):
        load_proposer(settings(tiny_feature_folder, vocab_size=5))


def test_no_tokens_at_all_are_refused_by_name(capsys, tiny_draft_folder):
    with pytest.raises(SystemExit):
        DraftSettings.from_command_line(["--model", str(tiny_draft_folder), "--vocab-size", "0"])
    assert "--vocab-size 0: must be 1 or more" in capsys.readouterr().err
