"""Command line over environment over TOML over defaults, and nothing unknown passes unseen."""

import subprocess
import sys

import pytest

from draft_service.settings import DraftSettings
from forethought.sampling.types import VerificationMode
from forethought.telemetry import LogFormat
from orchestrator.settings import OrchestratorSettings
from target_service.settings import TargetSettings


@pytest.fixture(autouse=True)
def keep_logging(monkeypatch):
    """Settings start logging for the whole process; not in this one."""
    monkeypatch.setattr("forethought.settings.configure_logging", lambda *_: None)


@pytest.fixture
def toml(tmp_path, monkeypatch):
    """Writes the configuration file."""

    def write(text):
        path = tmp_path / "forethought.toml"
        path.write_text(text)
        monkeypatch.setenv("FORETHOUGHT_CONFIG", str(path))

    return write


def read(*arguments, kind=DraftSettings):
    return kind.from_command_line(["--model", "m", *arguments])


def test_without_a_word_the_defaults_hold():
    settings = read()
    assert (settings.max_sessions, settings.proposer) == (256, "model")


def test_the_file_wins_over_the_default(toml):
    toml("[draft]\nmax_sessions = 3")
    assert read().max_sessions == 3


def test_the_environment_wins_over_the_file(toml, monkeypatch):
    toml("[draft]\nmax_sessions = 3\nmax_support = 5")
    monkeypatch.setenv("FORETHOUGHT_DRAFT_MAX_SESSIONS", "4")
    settings = read()
    assert (settings.max_sessions, settings.max_support) == (4, 5)


def test_the_command_line_wins_over_all(toml, monkeypatch):
    toml("[draft]\nmax_sessions = 3")
    monkeypatch.setenv("FORETHOUGHT_DRAFT_MAX_SESSIONS", "4")
    assert read("--max-sessions", "5").max_sessions == 5


def test_a_value_that_must_be_given_may_come_from_anywhere(toml):
    toml('[target]\nmodel = "from the file"')
    assert TargetSettings.from_command_line([]).model == "from the file"


def test_every_tier_reads_its_own_table_and_its_own_variables(toml, monkeypatch):
    toml('[draft]\nlisten = "h:1"\n[target]\nlisten = "h:2"\n[orchestrator]\nlisten = "h:3"')
    monkeypatch.setenv("FORETHOUGHT_TARGET_LOG_FORMAT", "json")
    kinds = (DraftSettings, TargetSettings, OrchestratorSettings)
    settings = [read(kind=kind) for kind in kinds]
    assert [each.listen for each in settings] == ["h:1", "h:2", "h:3"]
    assert [each.log_format for each in settings] == [
        LogFormat.CONSOLE,
        LogFormat.JSON,
        LogFormat.CONSOLE,
    ]


def refused(capsys, *arguments, kind=DraftSettings):
    """The exit code and what is said with it."""
    with pytest.raises(SystemExit) as caught:
        read(*arguments, kind=kind)
    code = caught.value.code
    # A string as the code is printed by Python at the end, with exit code 1.
    return (1, code) if isinstance(code, str) else (code, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-sessions", "0"),
        ("--max-sessions", "many"),
        ("--max-support", "257"),
        ("--proposer", "oracle"),
        ("--dtype", "float8"),
        ("--device", "tpu"),
        ("--drain-grace-s", "-1"),
        ("--log-level", "loud"),
        ("--log-format", "poetry"),
    ],
)
def test_a_bad_flag_is_refused_by_name(capsys, flag, value):
    code, said = refused(capsys, flag, value)
    assert code == 2
    assert flag.removeprefix("--") in said.replace("_", "-")


def test_an_unknown_flag_is_refused_by_name(capsys):
    code, said = refused(capsys, "--max-session", "3")
    assert code == 2
    assert "--max-session" in said


def test_a_missing_value_is_refused_by_name(capsys):
    with pytest.raises(SystemExit) as caught:
        DraftSettings.from_command_line([])
    assert caught.value.code == 2
    assert "draft: model: Field required" in capsys.readouterr().err


def test_a_bad_variable_is_refused_by_name(capsys, monkeypatch):
    monkeypatch.setenv("FORETHOUGHT_DRAFT_MAX_SESSIONS", "many")
    code, said = refused(capsys)
    assert code == 2
    assert "draft: max_sessions" in said


def test_an_unknown_variable_is_refused_by_name(capsys, monkeypatch):
    monkeypatch.setenv("FORETHOUGHT_DRAFT_MAX_SESSION", "3")
    code, said = refused(capsys)
    assert code
    assert "FORETHOUGHT_DRAFT_MAX_SESSION" in said


def test_the_variables_of_another_tier_are_not_our_concern(monkeypatch):
    monkeypatch.setenv("FORETHOUGHT_TARGET_MAX_SESSION", "3")
    assert read().max_sessions == 256


def test_an_unknown_key_of_the_file_is_refused_by_name(capsys, toml):
    toml("[draft]\nmax_session = 3")
    code, said = refused(capsys)
    assert code == 2
    assert "draft: max_session: Extra inputs are not permitted" in said


def test_a_bad_value_of_the_file_is_refused_by_name(capsys, toml):
    toml("[draft]\nmax_sessions = 0")
    code, said = refused(capsys)
    assert code == 2
    assert "draft: max_sessions" in said


def test_a_file_that_is_no_toml_is_refused_with_its_place(capsys, toml):
    toml("[draft\n")
    code, said = refused(capsys)
    assert code
    assert "forethought.toml" in said
    assert "line 1" in said


def test_a_file_that_is_not_there_is_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FORETHOUGHT_CONFIG", str(tmp_path / "nothing.toml"))
    code, said = refused(capsys)
    assert code
    assert "nothing.toml" in said


@pytest.mark.parametrize("package", ["draft_service", "target_service", "orchestrator"])
def test_a_process_that_is_told_nonsense_ends_with_2_and_one_line_of_why(package):
    result = subprocess.run(
        [sys.executable, "-m", package, "--model", "m", "--log-level", "loud"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "log_level" in result.stderr


@pytest.mark.parametrize("package", ["draft_service", "target_service", "orchestrator"])
def test_a_process_without_its_model_ends_with_1_and_names_it(package, tmp_path):
    result = subprocess.run(
        [
            *(sys.executable, "-m", package, "--listen", "127.0.0.1:0"),
            *("--model", str(tmp_path / "nowhere"), "--log-format", "json"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert '"start_failed"' in result.stderr
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("mode", VerificationMode)
def test_a_verification_mode_is_given_by_its_name(mode):
    settings = read("--verification-mode", mode.value, kind=OrchestratorSettings)
    assert settings.verification_mode is mode


def test_a_lookup_is_not_translated(capsys):
    assert read("--target-vocabulary", "t").target_vocabulary == "t"
    with pytest.raises(SystemExit):
        read("--proposer", "ngram", "--target-vocabulary", "t")
    assert "target_vocabulary: Value error, is for a draft model" in capsys.readouterr().err


class TestLookupsOfTheOrchestrator:
    def test_come_in_their_order_and_need_no_draft_tier(self):
        settings = read(
            *("--lookup", "suffix,counts", "--counts-file", "c", "--draft", ""),
            kind=OrchestratorSettings,
        )
        assert (settings.lookup, settings.draft) == (("suffix", "counts"), ())

    def test_are_none_where_nothing_is_said(self):
        settings = read(kind=OrchestratorSettings)
        assert (settings.lookup, settings.draft) == ((), ("127.0.0.1:50051",))

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            (("--lookup", "counts"), "counts_file"),
            (("--lookup", "model"), "lookup"),
            (("--target", ""), "target"),
        ],
    )
    def test_must_exist(self, arguments, name, capsys):
        with pytest.raises(SystemExit):
            read(*arguments, kind=OrchestratorSettings)
        assert f"orchestrator: {name}" in capsys.readouterr().err
