"""`forethought generate` against a service that replays a recorded generation."""

import json
import signal
from concurrent import futures

import grpc
import pytest
from typer.testing import CliRunner

from forethought.cli.main import app
from forethought.generation import ChatMessage
from forethought.sampling.types import VerificationMode
from tests.cli import recorded
from tests.cli.fake_generation import Prompt, add_fake_generation
from tests.ports import free_port


@pytest.fixture(scope="module")
def service():
    """A running fake, with its `address`."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    servicer = add_fake_generation(server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(None).wait()


@pytest.fixture
def generate(service):
    def run(*arguments, **options):
        environment = {"FORETHOUGHT_ADDRESS": service.address, "COLUMNS": "100"}
        return CliRunner().invoke(app, ["generate", *arguments], env=environment, **options)

    return run


def test_text_goes_to_stdout_and_statistics_to_stderr_in_a_pipe(generate):
    result = generate("Hello")
    assert result.exit_code == 0
    assert result.stdout == recorded.TEXT
    assert result.stderr.splitlines()[-1] == (
        "5 tokens · 31.2 tokens/s · first token 50 ms · 3 rounds · acceptance rate 50% · "
        "mean acceptance length 1.67"
    )


def test_show_steps_asks_for_steps_and_shows_them(generate, service):
    result = generate("Hello", "--show-steps")
    assert service.requests[-1].include_steps
    assert "rejected ' brown'" in result.stdout


def test_json_writes_objects_and_nothing_else(generate):
    result = generate("Hello", "--json", "--show-steps")
    events = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert events[0] == "started"
    assert events[-1] == "finished"
    assert events.count("step") == 3
    assert result.stderr == ""


def test_the_prompt_is_a_message_of_the_user(generate, service):
    generate("Hello", "--system", "Be brief.")
    assert service.requests[-1].prompt == (
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "Hello"),
    )


def test_raw_continues_plain_text_from_standard_input(generate, service):
    generate("--raw", "-", input="Once upon\na time")
    assert service.requests[-1].prompt == "Once upon\na time"


def test_without_a_chat_template_the_text_is_continued_and_the_user_is_told(generate, service):
    result = generate(Prompt.UNTEMPLATED)
    assert result.exit_code == 0
    assert result.stdout == recorded.TEXT
    assert service.requests[-1].prompt == Prompt.UNTEMPLATED
    assert "no chat template: it continues the text" in result.stderr.splitlines()[0]


def test_a_system_message_without_a_chat_template_is_refused_by_its_flag(generate):
    result = generate(Prompt.UNTEMPLATED, "--system", "Be brief.")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "--system: has no place" in result.stderr


def test_every_parameter_reaches_the_service(generate, service):
    generate(
        *("Hello", "--max-tokens", "9", "--temperature", "0.5", "--top-k", "4", "--top-p", "0.75"),
        *("--min-p", "0.25", "--repetition-penalty", "1.5", "--seed", str(2**64 - 1)),
        *("--stop", "a", "--stop", "b", "--stop-token-id", "2", "--ignore-eos"),
        *("--logprobs", "3", "-k", "0", "--mode", "coupled", "--tenant", "a"),
    )
    assert service.requests[-1].tenant == "a"
    params = service.requests[-1].params
    assert (params.max_tokens, params.temperature, params.top_k) == (9, 0.5, 4)
    assert (params.top_p, params.min_p, params.repetition_penalty) == (0.75, 0.25, 1.5)
    assert (params.seed, params.stop, params.stop_token_ids) == (2**64 - 1, ("a", "b"), (2,))
    assert (params.ignore_eos, params.logprobs, params.num_speculative_tokens) == (True, 3, 0)
    assert params.verification_mode is VerificationMode.COUPLED


def test_without_a_mode_and_a_tenant_the_choice_is_the_servers(generate, service):
    generate("Hello")
    assert service.requests[-1].params.verification_mode is None
    assert service.requests[-1].tenant == ""


def test_a_server_that_is_not_there_comes_with_advice(generate):
    address = f"127.0.0.1:{free_port()}"
    result = generate("Hello", "--address", address)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"error UNAVAILABLE: no server answers at {address} (start one with: forethought up)\n"
    )


def test_a_refused_request_names_the_field(generate):
    result = generate(Prompt.REFUSED)
    assert result.exit_code == 1
    assert result.stderr == "error INVALID_ARGUMENT: params.top_p: must be at most 1\n"


def test_a_full_server_says_when_to_come_back(generate):
    result = generate(Prompt.FULL)
    assert result.stderr == (
        "error RESOURCE_EXHAUSTED OVERLOADED: no room for a session (try again in 1.5 s)\n"
    )


def test_a_deadline_that_passes_is_an_error(generate):
    result = generate(Prompt.LATE, "--timeout", "0.2")
    assert result.exit_code == 1
    assert "error DEADLINE_EXCEEDED" in result.stderr
    assert "--timeout" in result.stderr


def test_what_came_before_a_failure_is_shown_and_counted(generate):
    result = generate(Prompt.BROKEN_OFF)
    assert result.exit_code == 1
    assert result.stdout == "The quick brown\n"
    assert "3 tokens so far" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error UNAVAILABLE: the connection to ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("",),
        ("Hello", "--raw", "--system", "Be brief."),
        ("Hello", "--seed", "-1"),
        ("Hello", "--mode", "greedy"),
        ("Hello", "--stop-token-id", str(2**32)),
    ],
)
def test_a_mistake_on_the_command_line_exits_with_2_and_calls_nobody(generate, service, arguments):
    before = len(service.requests)
    assert generate(*arguments).exit_code == 2
    assert len(service.requests) == before


def test_ctrl_c_cancels_the_call_and_still_counts(service, command_line):
    with command_line.start("generate", "--address", service.address, Prompt.ENDLESS) as process:
        assert process.stdout.read(3) == "The"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=10)
    assert process.returncode == 130
    assert stdout.endswith("\n")
    assert " so far · " in stderr
    assert "Traceback" not in stderr


def test_a_reader_that_goes_away_is_no_crash(service, command_line):
    with command_line.start("generate", "--address", service.address, Prompt.ENDLESS) as process:
        assert process.stdout.read(3) == "The"
        process.stdout.close()
        process.stdout = None
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "Traceback" not in stderr
