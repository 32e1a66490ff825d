"""Whatever the documentation shows as code runs, or is named here with the reason why not."""

import ast
import asyncio
import json
import os
import re
import sys
import tomllib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from google.protobuf import json_format
from typer.main import get_command

from draft_service.settings import DraftSettings
from forethought.cli.main import app
from forethought.rpc.connections.channels import open_channel
from forethought.v1 import generation_pb2 as pb
from gateway.settings import GatewaySettings
from orchestrator.settings import OrchestratorSettings
from target_service.settings import TargetSettings
from tests.docs.snippets import ROOT, Snippet, commands, snippets
from tests.gateway.conftest import running_gateway
from tests.sessions.deployments import Deployment

SETTINGS = {
    "draft_service": DraftSettings,
    "gateway": GatewaySettings,
    "orchestrator": OrchestratorSettings,
    "target_service": TargetSettings,
}
NOT_CODE = {
    "": "what a command prints",
    "text": "what a command prints",
    "mermaid": "a drawing",
}
OTHER_PROGRAMS = {
    "lm_eval": "it is not among what the tests install",
    "llama-server": "the server of llama.cpp is not among what the tests install",
    "vllm.entrypoints.openai.api_server": "vLLM is not among what the tests install",
    "docker": "the machine may have no Docker",
    "helm": "the machine may have no Helm; the chart has tests of its own",
    "kubectl": "the machine may have no cluster",
    "kind": "the machine may have no cluster",
    "pip": "it would install",
    "venv": "it would make an environment",
    "git": "it would fetch",
    "curl": "it would fetch; what asks the gateway is asked by the client of the tests",
    "export": "it is the shell's own",
    "cd": "it is the shell's own",
}
"""Programs whose commands are not run, and why."""
NOT_RUN = {
    "from transformers import AutoModelForCausalLM": "it writes a model of 270 MB",
}
"""Python that is compiled only: a part of it, and why."""
RUN = {("generate",), ("sessions", "list")}
"""Commands of `forethought` that are run. Of the others, which start processes or compute for long,
the arguments are parsed."""


GATEWAY = "http://127.0.0.1:8000"
PYTHON = [pytest.param(each, id=str(each)) for each in snippets() if each.language == "python"]


def commands_of(is_wanted: Any) -> list[Any]:
    return [
        pytest.param(words, id=f"{where}: {' '.join(words)[:50]}")
        for where, words in commands()
        if is_wanted(words)
    ]


def _is_run(words: list[str]) -> bool:
    name = tuple(word for word in words[1:3] if not word.startswith("-"))
    runs = any(name[: len(each)] == each for each in RUN) or "--help" in words
    return _program(words) == "forethought" and runs


def _program(words: list[str]) -> str:
    """What a command runs: the module or file of a Python, else its first word."""
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)] or words
    name = Path(words[0]).name
    if name in {"python", "python3"} and len(words) > 1:
        return words[2] if words[1] == "-m" else "-c" if words[1] == "-c" else words[1]
    return name


def test_every_block_is_of_a_kind_that_is_known_here():
    known = {"python", "sh", "bash", "shell", "console", "toml", "json", "proto", "yaml", *NOT_CODE}
    assert [str(each) for each in snippets() if each.language not in known] == []
    assert len(snippets()) > 15


def test_every_program_is_known_here():
    known = {"forethought", "make", "grpcurl", "-c", *SETTINGS, *OTHER_PROGRAMS}
    programs = {_program(words) for _, words in commands()}
    assert {each for each in programs - known if not each.startswith("benchmarks/")} == set()


@pytest.mark.parametrize("snippet", PYTHON)
async def test_python_runs(snippet: Snippet, deployment: Deployment, tmp_path: Path):
    ast.parse(snippet.text)
    if any(part in snippet.text for part in NOT_RUN):
        return
    first, second = deployment.addresses
    text = re.sub(r"(127\.0\.0\.1|10\.0\.0\.1):50050", first, snippet.text)
    text = text.replace("10.0.0.2:50050", second)
    path = tmp_path / "snippet.py"
    async with AsyncExitStack() as stack:
        if GATEWAY in text:
            url = await stack.enter_async_context(running_gateway(first))
            text = text.replace(GATEWAY, url)
        path.write_text(text, encoding="utf-8")
        assert await _run(sys.executable, "-W", "error", str(path), cwd=tmp_path)


@pytest.mark.parametrize(
    "words", commands_of(lambda words: _program(words) == "curl" and GATEWAY in words[1])
)
async def test_the_gateway_is_asked(words: list[str], deployment: Deployment):
    _, asked, _, header, _, body = words
    async with (
        running_gateway(deployment.addresses[0]) as url,
        httpx2.AsyncClient(timeout=60) as client,
    ):
        answer = await client.post(
            asked.replace(GATEWAY, url), content=body, headers=dict([header.split(": ")])
        )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("words", commands_of(_is_run))
async def test_a_command_runs(words: list[str], deployment: Deployment):
    environment = {"FORETHOUGHT_ADDRESS": ",".join(deployment.addresses)}
    await _run(sys.executable, "-m", "forethought.cli", *words[1:], **environment)


@pytest.mark.parametrize(
    "words", commands_of(lambda words: _program(words) == "forethought" and not _is_run(words))
)
def test_a_command_takes_its_arguments(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    ends = [place for place, word in enumerate(words) if word in {">", "--"}]
    arguments = words[1 : min(ends, default=len(words))]
    for word in arguments:  # files and folders of the reader's
        if re.fullmatch(r"[\w-]+\.\w+", word):
            Path(word).touch()
        elif re.fullmatch(r"[a-z-]+(/[a-z-]+)+", word):
            Path(word).mkdir(parents=True)
    command: Any = get_command(app)
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command = command.commands[arguments.pop(0)]
        command = getattr(command, "loaded", command)
    with command.make_context("forethought", arguments):
        pass


@pytest.mark.parametrize("words", commands_of(lambda words: _program(words) in SETTINGS))
def test_a_tier_takes_its_settings(words: list[str]):
    program = _program(words)
    SETTINGS[program].from_command_line(words[words.index(program) + 1 :])


@pytest.mark.parametrize("words", commands_of(lambda words: _program(words) == "grpcurl"))
async def test_what_grpcurl_sends_is_answered(words: list[str], deployment: Deployment):
    service, _, method = words[-1].rpartition("/")
    described = pb.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods_by_name[method]
    request = json_format.ParseDict(json.loads(words[words.index("-d") + 1]), pb.GenerateRequest())
    assert described.input_type.name == "GenerateRequest"
    async with open_channel(deployment.addresses[0]) as channel:
        call = channel.unary_stream(
            f"/{service}/{method}",
            pb.GenerateRequest.SerializeToString,
            pb.GenerateResponse.FromString,
        )
        responses = [each async for each in call(request, timeout=60)]
    assert responses[-1].HasField("finished")


@pytest.mark.parametrize("words", commands_of(lambda words: _program(words) == "-c"))
async def test_a_line_of_python_runs(words: list[str]):
    assert await _run(sys.executable, "-W", "error", *words[1:])


@pytest.mark.parametrize("words", commands_of(lambda words: _program(words) == "make"))
def test_make_has_the_target(words: list[str]):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {word for word in words[1:] if "=" not in word} <= set(targets)


@pytest.mark.parametrize(
    "words", commands_of(lambda words: _program(words).startswith("benchmarks/"))
)
def test_a_benchmark_is_there_and_has_the_options(words: list[str]):
    source = (ROOT / _program(words)).read_text()
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert {each for each in used if f'"{each}"' not in source} == set()


def test_files_of_settings_have_sections_and_keys_that_exist():
    sections = {kind.section: set(kind.model_fields) for kind in SETTINGS.values()}
    up = get_command(app).commands["up"].loaded
    sections["up"] = {option.name for option in up.params} - {"command", "config"}
    for snippet in (each for each in snippets() if each.language == "toml"):
        for section, values in tomllib.loads(snippet.text).items():
            assert set(values) <= sections[section], f"{snippet}: [{section}]"


def test_json_is_json():
    for snippet in (each for each in snippets() if each.language == "json"):
        json.loads(snippet.text)


async def _run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    """What a command prints.

    It runs beside the deployment, which is in this process.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    stdout, stderr = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, stderr.decode()
    return stdout.decode()
