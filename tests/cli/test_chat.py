"""`forethought chat`: what is asked for next, what a slash does, and a terminal."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from forethought.cli.chat.commands import COMMANDS, ChatState, LeaveError, run_command
from forethought.cli.chat.dialogue import Dialogue
from forethought.cli.chat.settable import SettingError, set_param
from forethought.cli.main import app
from forethought.errors import InvalidArgumentError, SessionNotFoundError
from forethought.generation import (
    ChatMessage,
    Finished,
    FinishReason,
    FollowUp,
    GenerationParams,
    Resume,
    SpeculationStatistics,
    Started,
    Token,
)
from forethought.sampling.types import TokenOrigin, VerificationMode
from tests.cli import recorded
from tests.cli.fake_generation import Prompt, add_fake_generation

ROOT = Path(__file__).parents[2]
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FINISHED = Finished(FinishReason.STOP, 3, 1, SpeculationStatistics(), 1, 2)


def started(session_id="s-1", *, is_stored=True):
    return Started(session_id, 7, 3, "m", is_stored=is_stored)


def token(index, text):
    return Token(index, 5, text, TokenOrigin.BONUS, None, 1.0)


def answered(dialogue, *events):
    for event in events:
        dialogue.take(event)
    dialogue.end_answer()


def said(*texts):
    roles = ("user", "assistant") * len(texts)
    return tuple(ChatMessage(role, text) for role, text in zip(roles, texts, strict=False))


def test_a_stored_answer_is_followed_up():
    dialogue = Dialogue()
    assert dialogue.ask("a").prompt == said("a")
    answered(dialogue, started(), token(0, "b"), FINISHED)
    assert dialogue.ask("c").prompt == FollowUp("s-1", said("c"))


def test_without_a_store_all_that_was_said_is_said_again():
    dialogue = Dialogue(system="Be brief.")
    dialogue.ask("a")
    answered(dialogue, started(is_stored=False), token(0, "b"), FINISHED)
    assert dialogue.ask("c").prompt == (ChatMessage("system", "Be brief."), *said("a", "b", "c"))


def test_an_answer_that_was_stopped_is_part_of_what_was_said():
    dialogue = Dialogue()
    dialogue.ask("a")
    answered(dialogue, started(), token(0, "b"))
    assert dialogue.ask("c").prompt == said("a", "b", "c")


def test_an_answer_that_was_broken_off_is_resumed_behind_its_last_token():
    dialogue = Dialogue(tenant="t")
    dialogue.ask("a")
    answered(dialogue, started(), token(0, "b"), token(1, "c"))
    request = dialogue.resume()
    assert (request.prompt, request.tenant) == (Resume("s-1", 2), "t")
    answered(dialogue, started(), token(2, "d"), FINISHED)
    assert dialogue.all_messages == said("a", "bcd")
    assert dialogue.resume() is None
    assert dialogue.ask("e").prompt == FollowUp("s-1", said("e"))


def test_an_answer_that_was_lost_before_its_first_token_can_be_resumed():
    dialogue = Dialogue()
    dialogue.ask("a")
    answered(dialogue, started())
    assert dialogue.resume().prompt == Resume("s-1", 0)
    answered(dialogue, started(), token(0, "b"), FINISHED)
    assert dialogue.all_messages == said("a", "b")


def test_a_question_that_was_refused_was_not_asked():
    dialogue = Dialogue()
    dialogue.ask("a")
    dialogue.end_answer()
    assert dialogue.ask("b").prompt == said("b")


def test_a_session_that_is_gone_is_replaced_by_the_texts_and_other_errors_are_not():
    dialogue = Dialogue()
    dialogue.ask("a")
    answered(dialogue, started(), token(0, "b"), FINISHED)
    dialogue.ask("c")
    assert dialogue.ask_again(InvalidArgumentError({"params.top_p": "no"})) is None
    again = dialogue.ask_again(SessionNotFoundError("gone"))
    assert again.prompt == said("a", "b", "c")
    assert dialogue.ask_again(SessionNotFoundError("gone")) is None


def test_an_adopted_session_is_told_first_and_followed_up_then():
    dialogue = Dialogue()
    assert dialogue.adopt("s-9").prompt == Resume("s-9", 0)
    assert dialogue.must_resume
    answered(dialogue, started("s-9"), token(0, "b"), FINISHED)
    assert not dialogue.must_resume
    assert dialogue.ask("c").prompt == FollowUp("s-9", said("c"))
    # Its texts are not known here.
    assert dialogue.ask_again(SessionNotFoundError("gone")) is None


def test_another_system_message_begins_another_session_with_the_same_texts():
    dialogue = Dialogue()
    dialogue.ask("a")
    answered(dialogue, started(), token(0, "b"), FINISHED)
    dialogue.instruct("Be brief.")
    assert dialogue.ask("c").prompt == (ChatMessage("system", "Be brief."), *said("a", "b", "c"))


@pytest.fixture
def state():
    lines = []
    state = ChatState(Dialogue(), lines.append)
    state.lines = lines
    return state


def test_help_names_every_command(state):
    run_command(state, "/help")
    assert all(any(line.startswith(f"/{name}") for line in state.lines) for name in COMMANDS)


@pytest.mark.parametrize("line", ["/exit", "/quit"])
def test_exit_leaves(state, line):
    with pytest.raises(LeaveError):
        run_command(state, line)


def test_an_unknown_command_is_named_and_asks_nobody(state):
    assert run_command(state, "/hlep me") is None
    assert "no /hlep" in state.lines[0]


def test_parameters_are_set_by_name_and_given_back_to_the_deployment(state):
    run_command(state, "/set temperature 0.7")
    run_command(state, "/set top-p=0.9")
    run_command(state, "/set k 0")
    run_command(state, "/set mode coupled")
    run_command(state, "/seed 7")
    params = state.dialogue.params
    assert (params.temperature, params.top_p, params.num_speculative_tokens) == (0.7, 0.9, 0)
    assert (params.verification_mode, params.seed) == (VerificationMode.COUPLED, 7)
    run_command(state, "/seed")
    run_command(state, "/set k default")
    assert state.dialogue.params.seed is None
    assert state.dialogue.params.num_speculative_tokens is None
    state.lines.clear()
    run_command(state, "/set")
    assert "temperature = 0.7" in state.lines
    assert "mode = coupled" in state.lines


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("heat", "1", "there is no 'heat'"),
        ("temperature", "hot", "is a number"),
        ("temperature", "", "is a number"),
        ("max_tokens", "1.5", "is a whole number"),
        ("mode", "greedy", "one of rejection, block, coupled"),
    ],
)
def test_a_parameter_that_is_none_is_refused_in_words(name, value, problem):
    with pytest.raises(SettingError, match=problem):
        set_param(GenerationParams(), name, value)


def test_what_was_said_is_saved_as_messages_or_as_a_page(state, tmp_path):
    state.dialogue.ask("a")
    answered(state.dialogue, started(), token(0, "é"), FINISHED)
    run_command(state, f"/save {tmp_path}/said.json")
    run_command(state, f"/save {tmp_path}/said.md")
    assert json.loads((tmp_path / "said.json").read_text())[1] == {
        "role": "assistant",
        "content": "é",
    }
    assert (tmp_path / "said.md").read_text() == "**user**\n\na\n\n**assistant**\n\né\n"


def test_what_cannot_be_saved_is_said(state, tmp_path):
    run_command(state, f"/save {tmp_path}/missing/said.md")
    assert state.lines[0].startswith("Not saved: ")


@pytest.fixture(scope="module")
def address():
    """Of a running fake."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_fake_generation(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_an_answer_that_was_broken_off_names_the_command_that_goes_on_with_it(address):
    arguments = ["chat", "--address", address, "--tenant", "me"]
    result = CliRunner().invoke(app, arguments, input=f"{Prompt.STORED}\n")
    assert result.exit_code == 1
    session = f"--session={recorded.STARTED.session_id}"
    resume = f"forethought chat --address {address} --tenant me {session}"
    assert result.stderr.splitlines()[-1] == f"resume with: {resume}"


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, address, home):
        self.screen = ""
        self._mine, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "forethought.cli", "chat", "--address", address],
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={
                **os.environ,
                "XDG_STATE_HOME": str(home),
                "TERM": "xterm",
                "COLUMNS": "100",
                "NO_COLOR": "1",
            },
        )
        os.close(theirs)

    def type(self, text):
        os.write(self._mine, text.encode())

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def interrupt_until(self, text):
        """Presses Ctrl-C, and again a second later: Python does not look for a signal that comes
        while readline shows a key."""
        while True:
            self.interrupt()
            if select.select([self._mine], [], [], 1)[0]:
                return self.read_until(text)

    def read_until(self, text):
        """Waits for a text behind what was waited for before."""
        while text not in self.screen:
            try:
                got = os.read(self._mine, 4096)
            except OSError:
                got = b""
            if not got:
                pytest.fail(f"ended without {text!r}: {self.screen!r}")
            self.screen += _ESCAPES.sub("", got.decode(errors="replace"))
        self.screen = self.screen.partition(text)[2]

    def exit_code(self):
        """Of the program, which ends now."""
        with contextlib.suppress(OSError):
            while os.read(self._mine, 4096):
                pass
        self._hang_up()
        return self.process.wait(20)

    def close(self):
        self.process.kill()
        self._hang_up()
        self.process.wait(20)

    def _hang_up(self):
        if self._mine is not None:
            os.close(self._mine)
            self._mine = None


@pytest.fixture
def terminal(address, tmp_path):
    terminal = Terminal(address, tmp_path)
    yield terminal
    terminal.close()


def test_ctrl_c_stops_an_answer_and_not_the_program(terminal, tmp_path):
    terminal.read_until("> ")
    terminal.type(f"{Prompt.ENDLESS}\n")
    terminal.read_until("The")
    terminal.interrupt()
    terminal.read_until(" so far · ")
    terminal.read_until("> ")
    terminal.type("Hello\n")
    terminal.read_until("The quick brown fox")
    terminal.read_until("31.2 tokens/s")
    terminal.read_until("> ")
    terminal.type("/exit\n")
    assert terminal.exit_code() == 0
    history = tmp_path / "forethought" / "chat_history"
    assert "Hello" in history.read_text().splitlines()
    assert history.stat().st_mode & 0o77 == 0


def test_a_refused_question_is_said_and_the_next_one_may_come(terminal):
    terminal.read_until("> ")
    terminal.type(f"{Prompt.REFUSED}\n")
    terminal.read_until("error INVALID_ARGUMENT: --top-p: must be at most 1")
    terminal.read_until("> ")
    terminal.type("/exit\n")
    assert terminal.exit_code() == 0


def test_ctrl_c_at_the_prompt_begins_the_line_anew(terminal):
    terminal.read_until("> ")
    terminal.type("half a li")
    terminal.read_until("half a li")
    terminal.interrupt_until("> ")
    terminal.type("Hello\n")
    terminal.read_until("The quick brown fox")
    terminal.type("/exit\n")
    assert terminal.exit_code() == 0


def chat(address, text, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "forethought.cli", "chat", "--address", address, *arguments],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_in_a_pipe_standard_output_carries_the_answers_alone(address):
    ended = chat(address, "Hello\n\n/stats\nHello\\\nthere\n//not a command\n")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == recorded.TEXT * 3
    assert ended.stderr.count("mean acceptance length") == 4


def test_in_a_pipe_the_first_failure_ends_it(address):
    ended = chat(address, f"Hello\n{Prompt.REFUSED}\nHello\n")
    assert ended.returncode == 1
    assert ended.stdout == recorded.TEXT
    assert "--top-p: must be at most 1" in ended.stderr


def test_a_setting_that_is_none_is_a_mistake_on_the_command_line(address):
    ended = chat(address, "", "--set", "heat=1")
    assert ended.returncode == 2
    assert "there is no" in ended.stderr
