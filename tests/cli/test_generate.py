"""`forethought generate` against a service that replays a recorded generation."""

import dataclasses
import io
import json
import signal
from concurrent import futures
from dataclasses import replace

import grpc
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from forethought.cli.failure import name_on_command_line
from forethought.cli.main import app
from forethought.cli.views.json_view import JsonView
from forethought.generation import ChatMessage, GenerationParams
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
    assert "--raw" in result.stderr


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


def test_a_refused_request_names_the_option(generate):
    result = generate(Prompt.REFUSED)
    assert result.exit_code == 1
    assert result.stderr == "error INVALID_ARGUMENT: --top-p: must be at most 1\n"


def test_a_refused_request_names_the_option_in_json_too(generate):
    last = json.loads(generate(Prompt.REFUSED, "--json").stdout.splitlines()[-1])
    assert last["message"] == "--top-p: must be at most 1"


PARAMS = {each.name for each in dataclasses.fields(GenerationParams)}
SHOWN_BY_NO_COMMAND = {"prompt_logprobs"}


@pytest.mark.parametrize("field", sorted(PARAMS - SHOWN_BY_NO_COMMAND))
def test_every_parameter_is_named_by_an_option_that_there_is(field):
    for command in ("generate", "chat"):
        options = get_command(app).commands[command].loaded.params
        flags = [flag for option in options for flag in option.opts]
        assert name_on_command_line(f"params.{field}") in flags


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("prompt.conversation", "the prompt"),
        ("prompt.follow_up.conversation", "the prompt"),
        ("prompt.resume.next_index", "the session"),
        ("tenant", "--tenant"),
        ("page_token", "page_token"),
    ],
)
def test_other_fields_are_named_as_a_user_knows_them(field, name):
    assert name_on_command_line(field) == name


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
    assert "the answer was not complete in time" in result.stderr


def test_what_came_before_a_failure_is_shown_and_counted(generate):
    result = generate(Prompt.BROKEN_OFF)
    assert result.exit_code == 1
    assert result.stdout == "The quick brown\n"
    assert "3 tokens so far" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error UNAVAILABLE: the connection to ")


@pytest.mark.parametrize("prompt", [(), ("-",)])
def test_a_text_in_a_pipe_is_the_prompt(generate, service, prompt):
    result = generate("--raw", *prompt, input="Once upon\na tíme")
    assert result.exit_code == 0
    assert service.requests[-1].prompt == "Once upon\na tíme"


def test_an_argument_goes_before_what_is_piped(generate, service):
    generate("--raw", "Hello", input="ignored")
    assert service.requests[-1].prompt == "Hello"


def test_it_goes_on_at_the_next_address_when_the_first_is_not_there(generate, service):
    result = generate("Hello", "--address", f"127.0.0.1:{free_port()},{service.address}")
    assert result.exit_code == 0
    assert result.stdout == recorded.TEXT


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("localhost", "has no port"),
        ("http://localhost:50050", "leave out http://"),
        ("localhost:99999", "from 1 to 65535"),
        ("localhost:1,::1", "as in [::1]:50050"),
    ],
)
def test_an_address_that_is_none_is_refused_in_words(generate, address, problem):
    result = generate("Hello", "--address", address)
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.replace("│", " ").split())


def test_a_deployment_that_loads_is_waited_for_and_the_log_says_so(generate):
    result = generate(Prompt.LOADING)
    assert result.exit_code == 0
    assert result.stdout == recorded.TEXT
    assert "NOT READY, the model is loading: tried for 60 s more" in result.stderr


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (
            Prompt.REFUSED,
            {"code": "INVALID_ARGUMENT", "violations": {"params.top_p": "must be at most 1"}},
        ),
        (Prompt.FULL, {"code": "RESOURCE_EXHAUSTED", "retry_after_s": 1.5}),
        (Prompt.BROKEN_OFF, {"code": "UNAVAILABLE", "reason": "REMOTE"}),
    ],
)
def test_json_ends_with_an_error_where_the_call_fails(generate, prompt, expected):
    result = generate(prompt, "--json")
    *_, last = map(json.loads, result.stdout.splitlines())
    assert result.exit_code == 1
    assert last["event"] == "error"
    assert expected.items() <= last.items()
    assert result.stderr == ""


def test_a_server_that_is_not_there_is_an_error_in_json(generate):
    address = f"127.0.0.1:{free_port()}"
    error = json.loads(generate("Hello", "--json", "--address", address).stdout)
    assert error["code"] == "UNAVAILABLE"
    assert error["message"] == f"no server answers at {address}"


def test_a_host_that_nobody_knows_is_told_from_a_server_that_is_away(generate):
    result = generate("Hello", "--address", "no-such-host.invalid:1")
    assert result.stderr == "error UNAVAILABLE: the host in no-such-host.invalid:1 is not known\n"


def test_numbers_that_json_does_not_have_are_null(generate):
    def refuse(name):
        pytest.fail(f"{name} is no JSON")

    result = generate(Prompt.ODD_NUMBERS, "--json")
    lines = [json.loads(line, parse_constant=refuse) for line in result.stdout.splitlines()]
    assert (lines[1]["logprob"], lines[1]["target_prob"]) == (None, None)


def test_json_is_ascii_where_the_locale_is():
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    JsonView(out).show(replace(recorded.TOKENS[0], text="é"))
    assert json.loads(out.buffer.getvalue())["text"] == "é"


def test_the_help_promises_the_same_text_only_where_it_is_the_same():
    command = get_command(app).commands["generate"].loaded
    (seed,) = (each for each in command.params if each.name == "seed")
    assert "--mode coupled" in seed.help
    assert "at temperature 0" in seed.help
    assert "otherwise only with a -k" in seed.help


@pytest.mark.parametrize(
    "arguments",
    [
        ("",),
        ("\udcff",),
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


def test_what_an_answer_will_repeat_comes_from_a_file(generate, service, tmp_path):
    file = tmp_path / "before.py"
    file.write_text("x = 1  # é\n", encoding="utf-8")
    assert generate("Change it.", "--prediction", str(file)).exit_code == 0
    assert service.requests[-1].params.prediction == "x = 1  # é\n"
    file.write_bytes(b"caf\xe9")
    refused = generate("Change it.", "--prediction", str(file))
    assert refused.exit_code == 2
    assert "is not UTF-8 from byte 3 on" in " ".join(refused.stderr.replace("│", " ").split())


def test_an_answer_that_was_broken_off_names_the_command_that_goes_on_with_it(generate, service):
    result = generate(Prompt.STORED, "--tenant", "me")
    assert result.exit_code == 1
    resume = f"forethought sessions resume --tenant me -- {recorded.STARTED.session_id}"
    assert result.stderr.splitlines()[-1] == f"resume with: {resume}"
    elsewhere = generate(
        Prompt.STORED, "--address", service.address.replace("127.0.0.1", "localhost")
    )
    assert f"resume --address localhost:{service.address[10:]} -- " in elsewhere.stderr
    assert "resume with" not in generate(Prompt.BROKEN_OFF).stderr
    assert "resume with" not in generate(Prompt.STORED, "--json").output
    assert "resume with" not in generate("Hello").stderr


def test_ctrl_c_cancels_the_call_and_still_counts(service, command_line):
    with command_line.start("generate", "--address", service.address, Prompt.ENDLESS) as process:
        assert process.stdout.read(3) == "The"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout.endswith("\n")
    assert " so far · " in stderr
    assert "Traceback" not in stderr


def test_ctrl_c_is_an_event_of_the_json(service, command_line):
    with command_line.start(
        "generate", "--json", "--address", service.address, Prompt.ENDLESS
    ) as process:
        assert '"started"' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    last = json.loads(stdout.splitlines()[-1])
    assert (last["event"], last["code"]) == ("error", "CANCELLED")
    assert stderr == ""


def test_input_that_is_no_text_is_refused(service, command_line, tmp_path):
    path = tmp_path / "prompt"
    path.write_bytes(b"caf\xe9 au lait")
    with (
        path.open("rb") as file,
        command_line.start("generate", "--address", service.address, stdin=file) as process,
    ):
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "is not valid UTF-8, from byte 3 on" in " ".join(stderr.replace("│", " ").split())


def test_a_locale_of_ascii_changes_no_prompt_and_ends_no_answer(service, command_line):
    ascii_only = {
        "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii",
    }  # fmt: skip
    arguments = ("generate", "--show-steps", "--address", service.address, "h\u00e9llo \u4e16")
    with command_line.start(*arguments, **ascii_only) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in stderr) == (0, False)
    assert "mean acceptance length 1.67" in stderr
    assert "quick" in stdout
    assert service.requests[-1].prompt[-1].content == "h\u00e9llo \u4e16"


def test_a_reader_that_goes_away_is_no_crash(service, command_line):
    with command_line.start("generate", "--address", service.address, Prompt.ENDLESS) as process:
        assert process.stdout.read(3) == "The"
        process.stdout.close()
        process.stdout = None
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in stderr
