"""What a user got wrong is one line that names the cause and the option, before any work begins."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forethought import input_files
from forethought.bench.prompts import PromptFileError, read_prompts
from forethought.cli.bench import deployment
from forethought.cli.chat import lines
from forethought.cli.failure import in_flags
from forethought.cli.generate import prompt_input
from forethought.cli.main import app
from forethought.configuration.store_settings import read_secret
from forethought.distill.data.prompts import read_text
from forethought.errors import InvalidArgumentError, LoadingError


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "text").write_text("a text")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000000000,)}"
    (tmp_path / "huge.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + bytes([118, 0]) + header.ljust(117) + b"\n"
    )
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
        ("bench throughput --concurrency 999999999999", "more than the 65,536"),
        ("bench throughput --repeats 999999999999", "'--repeats'"),
        ("bench kinds --repeats 999999999999", "'--repeats'"),
        ("bench policy --repeats 999999999999", "'--repeats'"),
        ("bench engine --repeats 999999999999", "'--repeats'"),
        ("bench engine --context 999999999999", "'--context'"),
        ("bench engine --tokens 60000 --batch 60000", "more than the 8,192 tokens"),
        ("bench engine --batch 60000 --tokens 1", "more than the 8,192 tokens"),
        ("bench engine --batch 8 --context 1000000", "more than the 1,048,576 tokens"),
        ("distill --out o --batch-size 999999999999", "'--batch-size'"),
        ("distill --out o --shard-size 999999999999", "'--shard-size'"),
        ("distill --out o --rows 999999999999", "'--rows'"),
        ("distill --out o --row-len 999999999999", "'--row-len'"),
        ("distill --out o --max-answer 999999999999", "'--max-answer'"),
        ("distill --out o --max-user 999999999999", "'--max-user'"),
        ("distill --out o --unroll 999999999999", "'--unroll'"),
        ("count huge.npy --out o", "huge.npy holds no token ids"),
        ("probe --concurrency 999999999999", "'--concurrency'"),
    ],
)
def test_it_is_refused_by_name(arguments: str, words: str):
    result = CliRunner().invoke(app, arguments.split(), env={"COLUMNS": "200"})
    assert result.exit_code in {1, 2}
    said = f"{result.stderr}{getattr(result.exception, 'message', '')}"
    assert words in " ".join(said.replace("│", " ").split())


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("benchmark", ["throughput", "policy", "kinds", "engine"])
@pytest.mark.parametrize(
    ("plot", "words"),
    [
        ("nowhere/x.svg", "--plot nowhere/x.svg: there is no folder nowhere"),
        ("x.doc", "--plot x.doc: there is no format doc"),
    ],
)
def test_where_nothing_can_be_drawn_is_said_before_a_benchmark_begins(
    benchmark: str, plot: str, words: str, monkeypatch: pytest.MonkeyPatch
):
    prompts = Path(__file__).parents[2] / "benchmarks" / "prompts"
    more = ["--prompts", str(prompts)] if benchmark == "kinds" else []
    monkeypatch.setattr(asyncio, "run", pytest.fail)
    result = CliRunner().invoke(app, ["bench", benchmark, "--plot", plot, *more])
    assert result.exit_code == 1
    assert words in " ".join(result.stderr.split())


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("benchmark", ["throughput", "policy", "kinds"])
@pytest.mark.parametrize("flag", ["--model", "--draft-model"])
def test_a_model_that_is_missing_is_named_before_a_benchmark_starts_a_process(
    benchmark: str, flag: str, monkeypatch: pytest.MonkeyPatch
):
    prompts = Path(__file__).parents[2] / "benchmarks" / "prompts"
    more = ["--prompts", str(prompts)] if benchmark == "kinds" else []
    monkeypatch.setattr(deployment, "planned", pytest.fail)
    arguments = ["bench", benchmark, flag, "./nosuch", "--draft-dtype", "int4", *more]
    if benchmark == "throughput":
        arguments = [each for each in arguments if each not in {"--draft-dtype", "int4"}]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert f"{flag} ./nosuch: Cannot resolve model" in " ".join(result.stderr.split())


@pytest.fixture
def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that has no end as far as its reader can tell, at a bound that is soon reached."""
    monkeypatch.setattr(input_files, "MAX_INPUT_BYTES", 1000)
    for module in (prompt_input, lines):
        monkeypatch.setattr(module, "MAX_MESSAGE_BYTES", 1000)
    path = tmp_path / "endless"
    with path.open("wb") as file:
        file.truncate(2**40)  # to read all of it would fail
    yield path
    path.unlink()


@pytest.mark.parametrize(
    "arguments",
    [
        "probe --prompts {}",
        "bench throughput --prompts {}",
        "bench policy --prompts {}",
        "up --config {}",
        "generate --tls-ca {} hello",
        "chat --tls-ca {}",
        "keys list --file {}",
    ],
)
def test_an_endless_file_is_read_up_to_a_bound(arguments: str, endless: Path):
    command = arguments.format(endless).split()
    result = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert result.exit_code in {1, 2}
    said = f"{result.stderr}{getattr(result.exception, 'message', '')}"
    assert "holds more than 1,000 bytes" in " ".join(said.replace("│", " ").split())


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("command", ["generate", "chat"])
@pytest.mark.parametrize("text", [b"x" * 5000, b"\\\n" * 5000])
def test_endless_standard_input_is_read_up_to_a_bound(command: str, text: bytes):
    result = CliRunner().invoke(app, [command], input=text, env={"COLUMNS": "200"})
    assert result.exit_code in {1, 2}
    said = f"{result.stderr}{getattr(result.exception, 'message', '')}"
    assert "more than 1,000 bytes" in said


def test_an_endless_text_to_distill_is_read_up_to_a_bound(endless: Path):
    with pytest.raises(InvalidArgumentError, match="holds more than 1,000 bytes"):
        read_text(endless)


def test_an_endless_secret_is_read_up_to_a_bound(endless: Path):
    with pytest.raises(ValueError, match="holds more than 1,000 bytes"):
        read_secret(endless)


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

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PromptFileError, match=r"^x: Permission denied$"):
        read_prompts(Path("x"))
