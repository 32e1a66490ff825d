"""The command, from its options to the files that it leaves."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forethought.cli.distill.command import parse_layers
from forethought.cli.main import app
from forethought.distill.export.card import named_rows
from forethought.distill.export.speedup import PassCosts, predict
from forethought.distill.training.evaluation import Acceptance, Evaluation
from forethought.errors import InvalidArgumentError

SMALL = {
    "--tokens": 1500,
    "--batch-size": 8,
    "--shard-size": 24,
    "--max-user": 8,
    "--max-answer": 16,
    "--dtype": "float32",
    "--steps": 3,
    "--rows": 2,
    "--row-len": 16,
    "--compute": "float32",
    "--draft-vocab-size": 16,
    "--device": "cpu",
    "--num-threads": 1,
}


def test_the_command_leaves_a_draft_its_curve_and_what_it_is_worth(
    target_folder: Path, tmp_path: Path
):
    out = tmp_path / "out"
    arguments = ["distill", "--target", str(target_folder), "--out", str(out)]
    arguments += [str(part) for option in SMALL.items() for part in option]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (out / "draft").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    assert (out / "curve.svg").read_text().startswith("<?xml")
    found = json.loads((out / "evaluation.json").read_text())
    assert [each["position"] for each in found["by_position"]] == [1, 2, 3, 4, 5]
    assert len(found["predicted"]["temperature_0"]) == 4
    assert "position 1" in result.output
    # Whole shards are made, and that is said.
    said = " ".join(result.output.split())
    assert "tokens for the 1,500 of --tokens: data is made in shards of 24 conversations" in said
    # All is done: once more changes nothing.
    weights = (out / "draft" / "model.safetensors").read_bytes()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (out / "draft" / "model.safetensors").read_bytes() == weights


def test_a_target_that_is_not_there_is_refused_in_one_line(tmp_path: Path):
    result = CliRunner().invoke(
        app, ["distill", "--target", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 1
    assert "Cannot resolve model" in result.output


def test_layers_are_numbers():
    assert parse_layers("0,1,-1") == (0, 1, -1)
    with pytest.raises(InvalidArgumentError, match="whole numbers"):
        parse_layers("first")


def test_a_perfect_draft_that_costs_nothing_saves_all_but_one_pass():
    costs = PassCosts(target_ms=[10.0, 10.0, 10.0], draft_ms=0.0)
    assert [each.speed_up for each in predict([1.0, 1.0], costs)] == [2.0, 3.0]


def test_a_round_pays_for_its_drafts_and_its_longer_pass():
    costs = PassCosts(target_ms=[10.0, 12.0, 15.0], draft_ms=1.0)
    first, second = predict([0.5, 0.4], costs)
    assert first.tokens_per_round == pytest.approx(1.5)
    assert first.speed_up == pytest.approx(1.5 * 10 / 13)
    assert second.tokens_per_round == pytest.approx(1 + 0.5 + 0.2)
    assert second.speed_up == pytest.approx(1.7 * 10 / 17)


def test_the_card_names_all_that_was_measured():
    one = Acceptance(1, 0.5, 0.25, 10)
    names = [name for name, _ in named_rows(Evaluation([one], {"code": one}, {0.7: one}))]
    assert names == ["position 1", "code", "answers at temperature 0.7"]
