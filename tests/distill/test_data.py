"""The data: its format, and that it is what the target says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forethought.distill.data.prompts import Prompts
from forethought.distill.data.shards import Samples, ShardFolder
from forethought.distill.pipeline import Run
from forethought.distill.samples.vocabulary import answer_mask, expected_counts, most_frequent
from forethought.engine.model.packed import SequencePart, pack
from forethought.errors import InvalidArgumentError
from forethought.models.files.reference import resolve
from tests.distill.conftest import OPTIONS
from tests.stack import loaded


def test_the_file_holds_samples_one_after_another(data_folder: Path):
    with np.load(data_folder / "data" / "00000.npz") as arrays:
        token_ids, starts, answers = (
            arrays[name] for name in ("token_ids", "starts", "answer_starts")
        )
        temperatures = arrays["temperatures"]
    assert (token_ids.dtype, starts.dtype, answers.dtype) == (np.uint32, np.int64, np.int64)
    assert temperatures.dtype == np.float32
    assert len(starts) == len(answers) + 1 == len(temperatures) + 1
    assert starts[0] == 0
    assert starts[-1] == len(token_ids)
    assert (starts[:-1] < answers).all()
    assert (answers < starts[1:]).all()
    assert set(np.round(temperatures, 3)) == set(np.round(np.float32((0, 0.7, 1)), 3))


def test_outputs_are_what_one_pass_over_a_sample_brings(target_folder: Path, data_folder: Path):
    shards = ShardFolder(data_folder)
    samples, outputs = next(shards.samples()), next(shards.outputs())
    model = loaded(target_folder).model
    model.allocate(16)
    for number in range(3):
        part = slice(samples.starts[number], samples.starts[number + 1])
        tokens = samples.token_ids[part].tolist()
        blocks = range(-(-len(tokens) // 16))
        logits = model.forward(pack([SequencePart(tokens, 0, blocks, len(tokens))]))
        expected = logits.log_softmax(dim=-1).topk(24)
        # The last token was never computed.
        assert torch.equal(outputs.top_token_ids[part][:-1].long(), expected.indices[:-1])
        torch.testing.assert_close(
            outputs.top_logprobs[part][:-1].float(), expected.values[:-1], atol=5e-3, rtol=0
        )


def test_greedy_answers_are_the_likeliest_tokens(data_folder: Path):
    shards = ShardFolder(data_folder)
    samples, outputs = next(shards.samples()), next(shards.outputs())
    for number in np.flatnonzero(samples.temperatures == 0):
        answer = slice(samples.answer_starts[number], samples.starts[number + 1])
        best = outputs.top_token_ids[answer.start - 1 : answer.stop - 1, 0].numpy()
        assert (samples.token_ids[answer] == best).all()


def test_a_run_that_is_interrupted_makes_the_same_data(
    target_folder: Path, data_folder: Path, tmp_path: Path
):
    class StoppedError(Exception):
        pass

    num_seen = 0

    def interrupt(num_tokens: int) -> None:
        nonlocal num_seen
        num_seen += num_tokens
        if num_seen > 3000:
            raise StoppedError

    run = Run(resolve(str(target_folder)), tmp_path, OPTIONS)
    with pytest.raises(StoppedError):
        run.make_data(interrupt)
    assert 0 < run.shards.num_shards < ShardFolder(data_folder).num_shards
    Run(resolve(str(target_folder)), tmp_path, OPTIONS).make_data()
    for index in range(ShardFolder(data_folder).num_shards):
        for path in ("samples_path", "outputs_path"):
            mine, whole = (
                getattr(ShardFolder(folder), path)(index).read_bytes()
                for folder in (tmp_path, data_folder)
            )
            assert mine == whole


def test_more_tokens_may_be_asked_for_later_but_nothing_else_may_change(
    target_folder: Path, data_folder: Path
):
    files = resolve(str(target_folder))
    Run(files, data_folder, replace(OPTIONS, data=replace(OPTIONS.data, num_tokens=1)))
    with pytest.raises(InvalidArgumentError, match="other settings"):
        Run(files, data_folder, replace(OPTIONS, data=replace(OPTIONS.data, seed=1)))


def test_given_texts_are_continued_in_turns_with_questions(target_folder: Path, tmp_path: Path):
    text = tmp_path / "text"
    text.write_text("abcab" * 5)
    prompts = Prompts(loaded(target_folder).tokenizer, (0.0,), [text], piece_len=10)
    assert [prompts[index].asks for index in range(4)] == [True, False] * 2
    assert [len(prompts[index].token_ids) for index in (1, 3, 5)] == [10, 10, 10]


def test_the_draft_vocabulary_holds_the_most_frequent_tokens(data_folder: Path):
    shards = ShardFolder(data_folder)
    counts = expected_counts(shards.samples(), shards.outputs(), 24)
    vocabulary = most_frequent(counts, 10, always={1})
    kept = set(vocabulary.token_ids.tolist())
    assert len(kept) == 10
    assert 1 in kept
    left_out = [token for token in range(24) if token not in kept]
    assert max(counts[left_out]) <= min(counts[token] for token in kept - {1})
    assert vocabulary.token_ids.tolist() == sorted(kept)
    assert [int(vocabulary.rows[token]) for token in sorted(kept)] == list(range(10))
    assert all(vocabulary.rows[token] == 10 for token in left_out)


def test_counts_are_drawn_tokens_of_answers_and_probabilities_before_them(data_folder: Path):
    shards = ShardFolder(data_folder)
    counts = expected_counts(shards.samples(), shards.outputs(), 24)
    num_answer = sum(int(answer_mask(each).sum()) for each in shards.samples())
    assert num_answer < counts.sum() <= 2 * num_answer + 1


def test_answers_are_told_from_prompts():
    samples = Samples(
        np.arange(9, dtype=np.uint32),
        np.array([0, 5, 9]),
        np.array([3, 6]),
        np.zeros(2, np.float32),
        np.zeros(2, np.int16),
    )
    assert answer_mask(samples).tolist() == [False] * 3 + [True] * 2 + [False] + [True] * 3
