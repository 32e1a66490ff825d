"""`forethought chat`: asks, shows the answer as it comes, and asks again."""

import asyncio
import signal
from dataclasses import dataclass

import typer
from rich.console import Console

from forethought.cli.chat import chat_options
from forethought.cli.chat.commands import ChatState, LeaveError, run_command
from forethought.cli.chat.dialogue import Dialogue
from forethought.cli.chat.lines import LineReader
from forethought.cli.failure import print_failed_call, print_resume
from forethought.cli.generate.prompt_input import check_unicode
from forethought.cli.options import generate_options as options
from forethought.cli.options.connection import Connection, again_at, with_connection_options
from forethought.cli.options.params import with_params_options
from forethought.cli.signals import cancel_on_stop_signals
from forethought.cli.views.answering import PATIENT, Answering, View, show_answer
from forethought.cli.views.statistics import Tally
from forethought.cli.views.steps_view import StepsView
from forethought.cli.views.text_view import TextView
from forethought.client import GenerationClient
from forethought.errors import ForethoughtError
from forethought.generation import GenerationEvent, GenerationParams, GenerationRequest

_FAILED = 1


@with_connection_options
@with_params_options
def chat(
    *,
    connection: Connection,
    system: options.System = None,
    session: chat_options.Session = None,
    tenant: options.Tenant = "",
    timeout: options.Timeout = None,
    set_: chat_options.Set = None,
    show_steps: options.ShowSteps = False,
    params: GenerationParams,
) -> None:
    """Talk with a deployment. /help lists what else a line may say.

    With a store, an answer outlives its orchestrator, and the conversation its program:
    `--session` goes on with one. Ctrl-C stops an answer, Ctrl-D leaves. In a pipe each line is a
    message, and the first one that fails ends with 1.

    Examples:

    - `forethought chat --system "Be brief."`

    - `forethought chat --temperature 0.7 --top-p 0.9`

    - `printf 'Why is the sky blue?\\nAnd at sunset?\\n' | forethought chat`
    """
    for text in (system or "", tenant):
        check_unicode(text, "--system" if text == system else "--tenant")
    dialogue = Dialogue(
        chat_options.with_settings(params, set_ or ()),
        tenant,
        system,
        include_steps=show_steps,
    )
    reader = LineReader()
    with asyncio.Runner() as runner:
        program = _Chat(runner, connection.client(PATIENT), dialogue, reader, timeout)
        try:
            code = program.run(session)
        finally:
            reader.close()
            runner.run(program.client.close())
    raise typer.Exit(code)


@dataclass
class _Watched:
    """A view whose events are noted in the conversation."""

    view: View
    dialogue: Dialogue

    def show(self, event: GenerationEvent) -> None:
        self.dialogue.take(event)
        self.view.show(event)

    def pause(self) -> None:
        self.view.pause()

    def close(self) -> None:
        self.view.close()


class _Chat:
    """The program: reads, asks and shows, until there is nothing left to read."""

    def __init__(
        self,
        runner: asyncio.Runner,
        client: GenerationClient,
        dialogue: Dialogue,
        reader: LineReader,
        timeout_s: float | None,
    ) -> None:
        self.client = client
        self._runner = runner
        self._dialogue = dialogue
        self._reader = reader
        self._timeout_s = timeout_s
        self._out, self._errors = Console(), Console(stderr=True)
        self._info = self._out if self._out.is_terminal else self._errors
        self._state = ChatState(dialogue, self._say)
        self._has_answered = False

    def run(self, session_id: str | None) -> int:
        """The exit code."""
        try:
            if session_id:
                self._answer(self._dialogue.adopt(session_id))
            elif self._reader.is_interactive:
                self._say(f"Talking with {', '.join(self.client.addresses)}. /help, or Ctrl-D.")
            while True:
                self._read_and_answer()
        except (EOFError, LeaveError):
            return 0
        except typer.Exit as end:
            return end.exit_code

    def _read_and_answer(self) -> None:
        try:
            line = self._reader.read()
        except KeyboardInterrupt:
            if not self._reader.is_interactive:
                raise
            self._out.print()
            return
        if not line.strip():
            return
        request: GenerationRequest | None = None
        if line.startswith("/") and not line.startswith("//"):
            request = run_command(self._state, line.rstrip())
        elif self._dialogue.must_resume:
            self._say("The session's last answer is not finished: /resume it, or begin a /new one.")
        else:
            request = self._dialogue.ask(line[1:] if line.startswith("//") else line)
        if request is not None:
            self._answer(request)

    def _answer(self, request: GenerationRequest) -> None:
        """Shows one answer and its statistics. A failure ends the program only in a pipe."""
        view = self._view()
        answering = Answering(_Watched(view, self._dialogue), Tally(), self._errors)
        failure: ForethoughtError | None = None
        number: signal.Signals | None = None
        try:
            number = self._runner.run(self._show(request, answering))
        except ForethoughtError as error:
            failure = error
        view.close()
        self._dialogue.end_answer()
        tally = answering.tally
        if tally.num_tokens:
            self._has_answered = True
            self._state.last_statistics = tally.line()
            self._say(tally.line())
        if failure is not None:
            address = ",".join(self.client.addresses)
            print_failed_call(self._errors, failure, address, began=tally.num_tokens > 0)
        self._tell_how_to_resume(tally.broken_off)
        if failure is not None and not self._reader.is_interactive:
            raise typer.Exit(_FAILED)
        if number is not None and not (number == signal.SIGINT and self._reader.is_interactive):
            raise typer.Exit(128 + number)

    def _tell_how_to_resume(self, session_id: str) -> None:
        """Where the rest of an answer is that did not come to its end; here it is /resume."""
        if not session_id:
            return
        if self._reader.is_interactive:
            self._say("/resume goes on with this answer, here; or later, elsewhere:")
        where = again_at(",".join(self.client.addresses), self._dialogue.tenant)
        session = f"--session={session_id}"
        print_resume(self._errors, ["forethought", "chat", *where, session])

    async def _show(
        self, request: GenerationRequest, answering: Answering
    ) -> signal.Signals | None:
        """Shows an answer; the signal that stopped it, if one did."""
        with cancel_on_stop_signals() as stop:
            try:
                await self._show_whole(request, answering)
            except asyncio.CancelledError:
                if stop.signal is None:
                    raise
                task = asyncio.current_task()
                if task is not None:
                    task.uncancel()
            return stop.signal

    async def _show_whole(self, request: GenerationRequest, answering: Answering) -> None:
        try:
            await show_answer(self.client, request, answering, self._timeout_s)
        except ForethoughtError as error:
            again = self._dialogue.ask_again(error)
            if again is None or answering.tally.num_tokens:
                raise
            self._say(f"{error.message}: the conversation goes on as a new session.")
            await show_answer(self.client, again, answering, self._timeout_s)

    def _view(self) -> View:
        if self._dialogue.include_steps:
            return StepsView(self._out, self._info)
        return TextView(self._out, self._info, shows_facts=not self._has_answered)

    def _say(self, text: str) -> None:
        self._info.print(
            text, style="dim", markup=False, highlight=False, soft_wrap=not self._info.is_terminal
        )
