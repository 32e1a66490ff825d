"""A setting that was removed is refused by the name of what replaces it, wherever it stands."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from draft_service.settings import DraftSettings
from forethought.cli.main import app
from forethought.configuration import removed
from forethought.configuration.complaints import flag_of
from orchestrator.settings import OrchestratorSettings

OF_THE_DRAFT_TIER = sorted(
    each.name for each in removed._REMOVED if each.section == DraftSettings.section
)


def test_the_table_names_no_setting_that_there_is_and_replaces_each_by_one_that_there_is():
    sections = {"draft": DraftSettings, "orchestrator": OrchestratorSettings}
    for setting, (_, replacements) in removed._REMOVED.items():
        if setting.section in sections:
            assert setting.name not in sections[setting.section].model_fields
        for each in replacements:
            if each.section in sections:
                assert each.name in sections[each.section].model_fields


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        DraftSettings.from_command_line(["--model", "m", *arguments])
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", OF_THE_DRAFT_TIER)
def test_the_draft_tier_says_where_its_lookups_went(
    name: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    said = refused(capsys, flag_of(name), "3")
    assert said.startswith(f"draft: {flag_of(name)} was removed: ")
    assert " of orchestrator" in said
    with monkeypatch.context() as patched:
        patched.setenv(f"FORETHOUGHT_DRAFT_{name.upper()}", "3")
        said = refused(capsys)
    assert said.startswith(f"draft: FORETHOUGHT_DRAFT_{name.upper()} was removed: ")
    assert "see FORETHOUGHT_ORCHESTRATOR_" in said
    file = tmp_path / "forethought.toml"
    file.write_text(f"[draft]\n{name} = 3\n")
    monkeypatch.setenv("FORETHOUGHT_CONFIG", str(file))
    said = refused(capsys)
    assert said.startswith(f"draft: {file}: {name} in [draft] was removed: ")
    assert "in [orchestrator]" in said


def said_by(*arguments: str) -> str:
    result = CliRunner(env={"COLUMNS": "400", "TERMINAL_WIDTH": "400"}).invoke(app, arguments)
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("command", [("up",), ("bench", "kinds"), ("bench", "throughput")])
def test_commands_say_what_replaces_an_option(command: tuple[str, ...]):
    said = said_by(*command, "--proposer", "ngram")
    assert "--proposer was removed: " in said
    assert "see --draft-model and --lookup" in said


def test_up_refuses_what_no_tier_that_it_starts_would_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "forethought.toml"
    for key, section in (("proposer", "draft"), ("proposer", "up"), ("suffix_memory", "draft")):
        file.write_text(f"[{section}]\n{key} = 3\n")
        assert f"{key} in [{section}] was removed" in said_by("up", "--config", str(file))
    monkeypatch.setenv("FORETHOUGHT_DRAFT_HYBRID_FALLBACK", "counts")
    assert "see FORETHOUGHT_ORCHESTRATOR_LOOKUP" in said_by("up")
