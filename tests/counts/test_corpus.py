"""Texts to count are read as they were written, or refused."""

import numpy as np
import pytest

from forethought.counts.corpus import Corpus, CorpusError, read_corpus
from forethought.counts.replay import replay
from tests.counts.corpora import corpus_of

SAMPLES = (([1, 2], [3]), ([], [4, 5]), ([6], []))


def write(path, corpus: Corpus, **others):
    arrays = {
        "token_ids": corpus.token_ids.astype(np.uint32),
        "starts": corpus.starts,
        "answer_starts": corpus.answer_starts,
        "temperatures": np.zeros(len(corpus), dtype=np.float32),
    }
    np.savez(path, **{**arrays, **others})


def assert_same(one: Corpus, other: Corpus):
    assert one.token_ids.tolist() == other.token_ids.tolist()
    assert one.starts.tolist() == other.starts.tolist()
    assert one.answer_starts.tolist() == other.answer_starts.tolist()


def test_files_of_a_folder_are_one_corpus_in_the_order_of_their_names(tmp_path):
    write(tmp_path / "00001.npz", corpus_of(SAMPLES[2]))
    write(tmp_path / "00000.npz", corpus_of(*SAMPLES[:2]))
    (tmp_path / "notes.txt").write_text("not counted")
    assert_same(read_corpus([tmp_path]), corpus_of(*SAMPLES))


def test_a_file_of_token_ids_is_a_sample_without_a_prompt(tmp_path):
    np.save(tmp_path / "a.npy", np.array([7, 8, 9], dtype=np.uint16))
    write(tmp_path / "b.npz", corpus_of(*SAMPLES))
    assert_same(read_corpus([tmp_path]), corpus_of(([], [7, 8, 9]), *SAMPLES))


def test_a_part_can_be_left_out():
    counted, left_out = corpus_of(*SAMPLES).split(2)
    assert_same(counted, corpus_of(SAMPLES[0], SAMPLES[2]))
    assert_same(left_out, corpus_of(SAMPLES[1]))
    assert (counted.num_answer_tokens, left_out.num_answer_tokens) == (1, 2)


def test_a_folder_without_texts_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="no tokens to count"):
        read_corpus([tmp_path])
    np.save(tmp_path / "empty.npy", np.zeros(0, dtype=np.int64))
    with pytest.raises(CorpusError, match="no tokens to count"):
        read_corpus([tmp_path])


@pytest.mark.parametrize(
    "others",
    [
        {"starts": np.array([0, 2, 6])},
        {"starts": np.array([0, 3, 5, 7])},
        {"answer_starts": np.array([0, 2, 5])},
        {"token_ids": np.full(6, -1)},
        {"token_ids": np.zeros(6)},
        {"token_ids": np.zeros((6, 1), dtype=np.int64)},
        {"starts": np.array(["a"] * 4)},
        {"answer_starts": np.array([{}] * 3, dtype=object)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, others):
    write(tmp_path / "00000.npz", corpus_of(*SAMPLES), **others)
    with pytest.raises(CorpusError, match=r"00000\.npz"):
        read_corpus([tmp_path])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text", b"\x93NUMPY"])
@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_a_damaged_file_is_a_clear_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match="holds no token ids"):
        read_corpus([tmp_path])


def test_arrays_that_are_missing_are_a_clear_error(tmp_path):
    np.savez(tmp_path / "a.npz", token_ids=np.arange(3))
    with pytest.raises(CorpusError, match="holds no token ids"):
        read_corpus([tmp_path])


def test_a_replay_counts_a_guess_as_accepted_if_the_text_goes_on_so():
    drafts = iter([[2, 3, 9], [], [5, 6], [9, 9]])
    seen = []

    def draft(text):
        seen.append(list(text))
        return next(drafts)

    found = replay(corpus_of(([1], [2, 3, 4, 4, 5]), ([7], [8])), draft)
    # What would come behind the last token has nothing to be compared with, and does not count.
    assert seen == [[1], [1, 2, 3, 4], [1, 2, 3, 4, 4], [7]]
    assert (found.num_rounds, found.num_draft_tokens, found.num_accepted_tokens) == (4, 5, 3)
    assert found.acceptance_rate == pytest.approx(3 / 5)
    assert found.mean_acceptance_length == pytest.approx(1.75)
