"""`forethought count`: from texts to a file that the draft tier reads."""

import numpy as np
import pytest
from typer.testing import CliRunner

from forethought.cli.main import app
from forethought.counts.file import read_counts


@pytest.fixture
def run(tmp_path, tiny_target):
    def count(*arguments):
        where = ("--model", str(tiny_target.files.folder), "--out", str(tmp_path / "x.counts"))
        return CliRunner().invoke(app, ["count", str(tmp_path), *where, *arguments])

    return count


def write_texts(folder, num_samples=40, token_ids=(2, 3, 4, 5, 6) * 3):
    starts = np.arange(num_samples + 1) * len(token_ids)
    np.savez(
        folder / "00000.npz",
        token_ids=np.tile(np.array(token_ids, dtype=np.uint32), num_samples),
        starts=starts,
        answer_starts=starts[:-1] + 1,
    )


def test_a_file_is_written_that_guesses_what_the_texts_say(run, tmp_path, tiny_target):
    write_texts(tmp_path)
    result = run()
    assert result.exit_code == 0, result.output
    assert "from 560 tokens" in result.stdout
    counts = read_counts(tmp_path / "x.counts", tiny_target.tokenizer.fingerprint)
    assert counts.num_tokens == 560
    assert counts.table.continuation([2, 3, 4, 5, 6, 2], 4, 0.5) == [3, 4, 5, 6]


def test_evaluated_are_texts_that_were_left_out(run, tmp_path):
    write_texts(tmp_path)
    result = run("--evaluate")
    assert result.exit_code == 0, result.output
    line = next(line.split() for line in result.stdout.splitlines() if line.startswith(" "))
    assert line[0] == "0.2"
    assert line[2] == "100%"
    assert float(line[3]) > 2


@pytest.mark.parametrize(
    ("texts", "arguments", "complaint"),
    [
        ({"num_samples": 0}, [], "no tokens to count"),
        ({"num_samples": 1}, ["--evaluate"], "needs 20 texts or more"),
        ({"token_ids": (2, 1000)}, [], "they are another model's"),
    ],
)
def test_texts_that_cannot_be_counted_are_refused(run, tmp_path, texts, arguments, complaint):
    write_texts(tmp_path, **texts)
    result = run(*arguments)
    assert result.exit_code == 1
    assert complaint in result.stderr.replace("\n", " ")
    assert not (tmp_path / "x.counts").exists()
