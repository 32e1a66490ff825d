"""What a user got wrong is one line that names the cause and the option, before any work begins."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from forethought.bench.prompts import PromptFileError, read_prompts
from forethought.cli.failure import in_flags
from forethought.cli.main import app
from forethought.errors import InvalidArgumentError, LoadingError


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "text").write_text("a text")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "cut.gguf").write_text("GG")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("count nothing --model m --out o", "'nothing' does not exist"),
        ("count text --model tiny --out o", "there is no such file or folder"),
        ("count text --model cut.gguf --out o", "Cannot read cut.gguf"),
        ("count text --model folder --out o", "the folder has no config.json"),
        ("count text --model m --out folder", "'folder' is a directory"),
        ("probe --prompts folder", "'folder' is a directory"),
        ("probe --prompts empty", "empty has no prompts"),
        ("probe --prompts bytes", "bytes is not UTF-8 from byte 0 on"),
        ("probe --timeout nan", "'--timeout'"),
        ("probe --num-tokens 999999999999", "'--num-tokens'"),
        ("probe --address 127.0.0.1:1 --samples 10", "no server answers at 127.0.0.1:1"),
        ("bench throughput --concurrency 0", "not a list of positive numbers"),
        ("bench throughput --prompts bytes", "bytes is not UTF-8"),
        ("bench throughput --address 127.0.0.1:1", "no server answers at 127.0.0.1:1"),
        ("bench kinds --prompts folder", "folder has no files KIND.jsonl"),
    ],
)
def test_it_is_refused_by_name(arguments: str, words: str):
    result = CliRunner().invoke(app, arguments.split(), env={"COLUMNS": "200"})
    assert result.exit_code in {1, 2}
    said = f"{result.stderr}{getattr(result.exception, 'message', '')}"
    assert words in " ".join(said.replace("│", " ").split())


@pytest.mark.parametrize(
    ("violations", "words"),
    [
        ({"draft_vocab_size": "is too large"}, "--draft-vocab-size: is too large"),
        ({"layers": "a", "dtype": "b"}, "--layers: a; --dtype: b"),
        ({"--system": "has no place"}, "--system: has no place"),
    ],
)
def test_what_a_library_refuses_is_named_by_its_option(violations: dict[str, str], words: str):
    assert in_flags(InvalidArgumentError(violations)) == words


def test_other_failures_keep_their_words():
    assert in_flags(LoadingError("the model is loading")) == "the model is loading"


def test_a_file_without_permission_is_named(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(PromptFileError, match=r"^x: Permission denied$"):
        read_prompts(Path("x"))
