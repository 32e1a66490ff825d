"""`forethought generate`: streams text from a GenerationService."""

import asyncio
import sys
from dataclasses import dataclass, replace
from typing import Protocol

import typer
from rich.console import Console

from forethought.cli import generate_options as options
from forethought.cli.failure import print_failed_call
from forethought.cli.json_view import JsonView
from forethought.cli.plan import DEFAULT_PORT, HOST
from forethought.cli.statistics import Tally
from forethought.cli.steps_view import StepsView
from forethought.cli.text_view import TextView
from forethought.client import GenerationClient
from forethought.errors import ForethoughtError, InvalidArgumentError
from forethought.generation import (
    ChatMessage,
    FollowUp,
    GenerationEvent,
    GenerationParams,
    GenerationRequest,
    Resume,
)
from forethought.prompts import messages_of

_INTERRUPTED = 130  # what a shell reports after Ctrl-C


@dataclass(frozen=True, slots=True)
class Call:
    """Where to send a request, and how long to wait for all of the answer."""

    address: str
    timeout_s: float | None


class View(Protocol):
    """Shows events as they come."""

    def show(self, event: GenerationEvent) -> None:
        """Shows one event."""

    def close(self) -> None:
        """Shows what had to wait for the end, or for what ended it instead."""


def generate(
    prompt: options.Prompt,
    *,
    address: options.Address = f"{HOST}:{DEFAULT_PORT}",
    raw: options.Raw = False,
    system: options.System = None,
    timeout: options.Timeout = None,
    tenant: options.Tenant = "",
    max_tokens: options.MaxTokens = None,
    stop: options.Stop = None,
    stop_token_id: options.StopTokenId = None,
    ignore_eos: options.IgnoreEos = False,
    temperature: options.Temperature = 1.0,
    top_k: options.TopK = 0,
    top_p: options.TopP = 1.0,
    min_p: options.MinP = 0.0,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    seed: options.Seed = None,
    num_speculative_tokens: options.NumSpeculativeTokens = None,
    mode: options.Mode = None,
    logprobs: options.Logprobs = None,
    show_steps: options.ShowSteps = False,
    as_json: options.AsJson = False,
) -> None:
    """Answer a prompt: stream the text, and end with a line of statistics.

    Each token has the colour of its origin: **accepted** ones were drafted, a **recovered** one
    replaces the first rejected one, a **bonus** comes after a draft that was accepted as a whole.
    In a pipe, standard output carries the text alone.

    Examples:

    - `forethought generate --temperature 0 "Why is the sky blue?"`

    - `forethought generate --show-steps --max-tokens 48 "Count to ten."`

    - `forethought generate --mode coupled --seed 7 "Tell me a story."`

    - `forethought generate --raw - < story.txt`
    """
    params = GenerationParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop or (),
        stop_token_ids=stop_token_id or (),
        ignore_eos=ignore_eos,
        logprobs=logprobs,
        num_speculative_tokens=num_speculative_tokens,
        verification_mode=mode,
    )
    request = GenerationRequest(
        _build_prompt(prompt, system, raw=raw), params, include_steps=show_steps, tenant=tenant
    )
    out, errors = Console(), Console(stderr=True)
    # In a pipe, and with --json, stdout is for what the reader asked for alone.
    info = out if out.is_terminal and not as_json else errors
    view: View
    if as_json:
        view = JsonView(sys.stdout)
    else:
        view = StepsView(out, info) if show_steps else TextView(out, info)
    tally = Tally()
    failure: ForethoughtError | None = None
    code = 0
    try:
        asyncio.run(_stream(request, Call(address, timeout), view, tally, errors))
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        out.on_broken_pipe()  # exits with 1
    except ForethoughtError as error:
        failure, code = error, 1
    view.close()
    if tally.num_tokens and not (as_json and tally.is_complete):
        info.print(tally.line(), style="bold", highlight=False, soft_wrap=not info.is_terminal)
    if failure is not None:
        print_failed_call(errors, failure, address, began=tally.num_tokens > 0)
    raise typer.Exit(code)


def _build_prompt(prompt: str, system: str | None, *, raw: bool) -> str | list[ChatMessage]:
    if raw and system is not None:
        raise typer.BadParameter("plain text has no system message: leave out --raw or --system")
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text:
        raise typer.BadParameter("it is empty", param_hint="PROMPT")
    if raw:
        return text
    messages = [ChatMessage("user", text)]
    return messages if system is None else [ChatMessage("system", system), *messages]


async def _stream(
    request: GenerationRequest, call: Call, view: View, tally: Tally, errors: Console
) -> None:
    """Shows every event. Cancelling it cancels the call."""
    async with GenerationClient(call.address) as client:
        try:
            await _show(client, request, call, view, tally)
        except InvalidArgumentError as refusal:
            if "prompt.conversation" not in refusal.violations or await client.has_chat_template():
                raise
            errors.print(
                "The model has no chat template: it continues the text as it stands (--raw).",
                style="dim",
                highlight=False,
                soft_wrap=True,
            )
            await _show(client, replace(request, prompt=_only_text(request)), call, view, tally)


async def _show(
    client: GenerationClient, request: GenerationRequest, call: Call, view: View, tally: Tally
) -> None:
    async for event in client.generate(request, timeout_s=call.timeout_s):
        tally.add(event)
        view.show(event)


def _only_text(request: GenerationRequest) -> str:
    """The user's message of a conversation that the model has no template for.

    Raises:
        InvalidArgumentError: there is a system message besides.
    """
    prompt = request.prompt
    messages = [] if isinstance(prompt, str | FollowUp | Resume) else messages_of(prompt)
    if len(messages) > 1:
        raise InvalidArgumentError(
            {"--system": "has no place in a plain text, and the model has no chat template"}
        )
    return messages[0].content
