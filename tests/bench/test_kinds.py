"""`forethought bench kinds`: each kind of prompt, plain and speculative."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from forethought.bench.bar_plot import write_bar_plot
from forethought.bench.kind_points import points_of
from forethought.bench.prompts import PromptFileError, load_kinds
from forethought.cli.bench.kinds import KindsLoad, measure_kinds
from forethought.cli.bench.kinds_report import kinds_json, kinds_plot, kinds_table
from forethought.cli.main import app
from forethought.cli.options.connection import Connection
from forethought.generation import ChatMessage, GenerationParams, ProposerStatistics
from tests.bench.samples import burst, sample, speculation
from tests.stack import running_stack

SHIPPED = Path(__file__).parents[2] / "benchmarks" / "prompts"
SPECULATED = sample(speculation=speculation(2, 6, 3, drafted_rounds=2))
BY_KIND = {
    "chat": [burst("plain", wall_s=2.0), burst("speculative", wall_s=1.0, samples=[SPECULATED])],
    "code": [
        burst("plain", wall_s=4.0),
        burst("speculative", wall_s=1.0, samples=[SPECULATED, SPECULATED]),
    ],
}
POINTS = points_of(0, BY_KIND)


def test_each_kind_is_compared_with_itself_and_all_are_added_up():
    chat, code, together = POINTS
    assert [point.kind for point in POINTS] == ["chat", "code", "all"]
    assert chat.speedup == pytest.approx(2)
    assert code.speedup == pytest.approx(8)
    assert together.plain.median.tokens_per_s == pytest.approx(10 / 6)
    assert together.speculative.median.tokens_per_s == pytest.approx(15 / 2)
    assert together.parts == (ProposerStatistics("model", 6, 18, 9),)


def test_of_several_repeats_all_parts_count_and_ratios_are_of_neighbours():
    slower = [burst("speculative", wall_s=4.0, samples=[SPECULATED]), burst("plain", wall_s=4.0)]
    (point,) = points_of(1, {"chat": [*BY_KIND["chat"], *slower]})
    assert point.speedup == pytest.approx((2 + 1) / 2)
    assert point.parts == (ProposerStatistics("model", 4, 12, 6),)


def test_the_table_has_a_line_for_each_kind_and_fits_a_narrow_terminal():
    console = Console(file=io.StringIO(), width=80)
    console.print(kinds_table(POINTS))
    lines = console.file.getvalue().splitlines()
    assert not any("…" in line for line in lines)
    cells = [line.split() for line in lines]
    assert ["0", "chat", "2.5", "5.0", "2.00x", "50%", "2.50", "100%"] in cells


def test_json_has_both_arms_and_the_acceptance_of_each_part():
    row = kinds_json(POINTS)[1]
    assert (row["temperature"], row["kind"], row["speedup"]) == (0, "code", 8)
    assert row["plain"]["acceptance_rate"] is None
    assert row["speculative"]["acceptance_rate"] == 0.5
    assert len(row["speculative"]["repeats"]) == 1
    assert row["parts"][0]["proposer"] == "model"
    assert row["parts"][0]["acceptance_rate"] == 0.5
    json.dumps(row)


def test_the_plot_has_a_panel_for_each_temperature_and_one_for_acceptance(tmp_path):
    plot = kinds_plot([*POINTS, *points_of(1, BY_KIND)], "a model")
    titles = [panel.title for panel in plot.panels]
    assert titles == ["Temperature 0", "Temperature 1", "Accepted"]
    assert plot.panels[0].bars[1].notes == ["2.00x", "8.00x", "4.50x"]
    assert [bars.heights for bars in plot.panels[2].bars] == [[0.5, 0.5, 0.5]] * 2
    write_bar_plot(tmp_path / "kinds.svg", plot)
    assert "Temperature 1" in (tmp_path / "kinds.svg").read_text()


async def test_a_whole_deployment_is_measured_kind_after_kind(tiny_target):
    kinds = {"letters": ["abc abc", "ba"], "more": ["cab"]}
    params = GenerationParams(max_tokens=8, seed=0, ignore_eos=True)
    load = KindsLoad(kinds, (0.0, 1.0), params, 2, None, 60)
    console = Console(file=io.StringIO(), width=100)
    async with running_stack(tiny_target, lookups=[tiny_target.suffix()]) as stack:
        points = await measure_kinds(load, Connection(stack.address), console)
    assert [(point.temperature, point.kind) for point in points] == [
        (temperature, kind) for temperature in (0, 1) for kind in ("letters", "more", "all")
    ]
    for point in points:
        assert len(point.plain.repeats) == len(point.speculative.repeats) == 2
        assert point.plain.median.tokens_per_request == 8
        assert point.plain.median.acceptance_rate is None
        assert {part.proposer for part in point.parts} <= {"suffix"}
    assert points[0].speculative.median.acceptance_rate is not None
    assert "letters, temperature 0" in console.file.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "warm"], "is not a list of temperatures"),
        (["--temperature", "0,-1"], "is not a list of temperatures"),
        (["--prompts", "no-such-folder"], "there is no folder no-such-folder"),
        (["--prompts", "tests"], "has no files KIND.jsonl"),
        (["--address", "here:1", "--counts", "README.md"], "leave out the options"),
        (["--lookup", "suffix,none"], "'none' is none of suffix, ngram, counts"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(arguments, message, monkeypatch):
    monkeypatch.chdir(SHIPPED.parents[1])
    result = CliRunner().invoke(app, ["bench", "kinds", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("line", ['"prompt"', '{"text": "a"}', '{"prompt": 1}', "prompt", "[]"])
def test_a_line_without_a_prompt_is_refused(tmp_path, line):
    (tmp_path / "chat.jsonl").write_text(f'{{"prompt": "a"}}\n{line}\n')
    with pytest.raises(PromptFileError, match=r"chat\.jsonl has a line that is not like"):
        load_kinds(tmp_path)


def test_a_kind_is_a_file_with_a_prompt_a_line(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"id": "b-1", "prompt": "one\\ntwo"}\n')
    (tmp_path / "a.jsonl").write_text('{"prompt": "three"}\n')
    assert list(load_kinds(tmp_path).items()) == [
        ("a", [[ChatMessage("user", "three")]]),
        ("b", [[ChatMessage("user", "one\ntwo")]]),
    ]


def test_the_prompts_of_the_repository_are_many_and_all_different():
    kinds = load_kinds(SHIPPED)
    assert list(kinds) == ["chat", "code", "maths", "summarising", "translation"]
    texts = [message.content for prompts in kinds.values() for (message,) in prompts]
    assert len(set(texts)) == len(texts) == 75
