"""`forethought generate`: streams text from a GenerationService."""

import asyncio
import sys
from dataclasses import replace
from typing import NoReturn

import typer
from rich.console import Console

from forethought.cli.failure import in_words, print_failed_call, print_resume
from forethought.cli.generate.prompt_input import read_prompt
from forethought.cli.options import generate_options as options
from forethought.cli.options.connection import Connection, again_at, with_connection_options
from forethought.cli.options.params import with_params_options
from forethought.cli.signals import cancel_on_stop_signals
from forethought.cli.views.answering import PATIENT, Answering, View, show_answer
from forethought.cli.views.json_view import JsonView
from forethought.cli.views.statistics import Tally
from forethought.cli.views.steps_view import StepsView
from forethought.cli.views.text_view import TextView
from forethought.client import GenerationClient
from forethought.errors import ForethoughtError, InvalidArgumentError
from forethought.generation import (
    ChatMessage,
    FollowUp,
    GenerationParams,
    GenerationRequest,
    Resume,
)
from forethought.prompts import messages_of


@with_connection_options
@with_params_options
def generate(
    prompt: options.Prompt = None,
    *,
    connection: Connection,
    raw: options.Raw = False,
    system: options.System = None,
    timeout: options.Timeout = None,
    tenant: options.Tenant = "",
    show_steps: options.ShowSteps = False,
    as_json: options.AsJson = False,
    params: GenerationParams,
) -> None:
    """Answer a prompt: stream the text, and end with a line of statistics.

    Each token has the colour of its origin: **accepted** ones were drafted, a **recovered** one
    replaces the first rejected one, a **bonus** comes after a draft that was accepted as a whole.
    In a pipe, standard output carries the text alone. Sampling parameters that are not given are
    those of the model's own generation_config.json, and shown.

    Exits with 0 when the answer is complete, 1 when the call failed, 2 for a mistake on the command
    line, and 130 after Ctrl-C, which shows what came.

    Examples:

    - `forethought generate --temperature 0 "Why is the sky blue?"`

    - `forethought generate --show-steps --max-tokens 48 "Count to ten."`

    - `forethought generate --mode coupled --seed 7 "Tell me a story."`

    - `forethought generate --raw < story.txt`
    """
    request = GenerationRequest(
        _build_prompt(prompt, system, raw=raw), params, include_steps=show_steps, tenant=tenant
    )
    run_request(connection, request, timeout, as_json=as_json, show_steps=show_steps)


def run_request(
    connection: Connection,
    request: GenerationRequest,
    timeout_s: float | None,
    *,
    as_json: bool,
    show_steps: bool,
) -> NoReturn:
    """Shows the answer to a request, and ends the command with its exit code.

    Raises:
        typer.Exit: always.
    """
    out, errors = Console(), Console(stderr=True)
    # In a pipe, and with --json, stdout is for what the reader asked for alone.
    info = out if out.is_terminal and not as_json else errors
    json_view = JsonView(sys.stdout) if as_json else None
    view: View = json_view or (StepsView(out, info) if show_steps else TextView(out, info))
    answering = Answering(view, Tally(), errors, is_quiet=as_json)
    failure: ForethoughtError | None = None
    code = 0
    try:
        code = asyncio.run(_stream(connection, request, answering, timeout_s))
    except BrokenPipeError:
        out.on_broken_pipe()  # exits with 1
    except ForethoughtError as error:
        failure, code = error, 1
    view.close()
    tally = answering.tally
    if json_view is not None:
        if failure is not None:
            failure = in_words(failure, connection.address, began=tally.num_tokens > 0)
        json_view.end(failure, is_complete=tally.is_complete)
        raise typer.Exit(code)
    if tally.num_tokens:
        info.print(tally.line(), style="bold", highlight=False, soft_wrap=not info.is_terminal)
    if failure is not None:
        print_failed_call(errors, failure, connection.address, began=tally.num_tokens > 0)
    if tally.broken_off:
        where = again_at(connection.address, request.tenant)
        print_resume(errors, ["forethought", "sessions", "resume", *where, "--", tally.broken_off])
    raise typer.Exit(code)


def _build_prompt(prompt: str | None, system: str | None, *, raw: bool) -> str | list[ChatMessage]:
    if raw and system is not None:
        raise typer.BadParameter("plain text has no system message: leave out --raw or --system")
    text = read_prompt(prompt)
    if raw:
        return text
    messages = [ChatMessage("user", text)]
    return messages if system is None else [ChatMessage("system", system), *messages]


async def _stream(
    connection: Connection,
    request: GenerationRequest,
    answering: Answering,
    timeout_s: float | None,
) -> int:
    """Shows the answer; the exit code, which is not 0 where a signal ended it."""
    with cancel_on_stop_signals() as stop:
        try:
            async with connection.client(PATIENT) as client:
                await _answer(client, request, answering, timeout_s)
        except asyncio.CancelledError:
            if stop.signal is None:
                raise
            return stop.exit_code
    return 0


async def _answer(
    client: GenerationClient,
    request: GenerationRequest,
    answering: Answering,
    timeout_s: float | None,
) -> None:
    """Shows the answer to a message, or the text's continuation where messages mean nothing."""
    try:
        await show_answer(client, request, answering, timeout_s)
    except InvalidArgumentError as refusal:
        if "prompt.conversation" not in refusal.violations:
            raise
        if (await client.describe()).has_chat_template:
            raise
        plain = replace(request, prompt=_only_text(request))
        if not answering.is_quiet:
            answering.errors.print(
                "The model has no chat template: it continues the text as it stands (--raw).",
                style="dim",
                highlight=False,
                soft_wrap=True,
            )
        await show_answer(client, plain, answering, timeout_s)


def _only_text(request: GenerationRequest) -> str:
    """The user's message of a conversation that the model has no template for.

    Raises:
        InvalidArgumentError: there is a system message besides.
    """
    prompt = request.prompt
    messages = [] if isinstance(prompt, str | FollowUp | Resume) else messages_of(prompt)
    if len(messages) > 1:
        raise InvalidArgumentError(
            {
                "--system": "has no place in a plain text, and the model has no chat template: "
                "leave it out, and use --raw"
            }
        )
    return messages[0].content
