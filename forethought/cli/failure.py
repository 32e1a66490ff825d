"""Errors as one line a person can act on, with a hint where we know one."""

import re
import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from forethought.errors import (
    ForethoughtError,
    InvalidArgumentError,
    OverloadedError,
    RemoteError,
)

_HINTS = {
    "DEADLINE_EXCEEDED": "allow more time with --timeout",
    "UNIMPLEMENTED": "--address wants the orchestrator; draft and target do not generate",
    "VOCABULARY_MISMATCH": "choose a draft model with the target's vocabulary, or have it "
    "translated with --translate-draft",
    "UNAUTHENTICATED": "give it by FORETHOUGHT_API_KEY, or --api-key",
    "DRAINING": "try again when the server is back",
    "LOADING": "try again in a moment",
}


_NAMES = {"verification_mode": "--mode", "stop_token_ids": "--stop-token-id"}


def name_on_command_line(field: str) -> str:
    """How a field of a request is given to a command."""
    if field.startswith("prompt.resume"):
        return "the session"
    if field.partition(".")[0] == "prompt":
        return "the prompt"
    name = field.removeprefix("params.")
    if name == field and field != "tenant":
        return field
    return _NAMES.get(name, _flag(name))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


_NAME = re.compile("[a-z][a-z_]*")


def in_flags(error: ForethoughtError) -> str:
    """What is wrong with the options of a command that calls nobody."""
    if not isinstance(error, InvalidArgumentError):
        return error.message
    return "; ".join(
        f"{_flag(name) if _NAME.fullmatch(name) else name}: {text}"
        for name, text in error.violations.items()
    )


def print_failure(console: Console, message: str, hint: str = "") -> None:
    """One red line, and the hint in brackets if there is one."""
    line = Text.assemble(("error ", "bold red"), (message, "red"))
    if hint:
        line.append(f" ({hint})")
    console.print(line, soft_wrap=True, highlight=False)


def print_resume(console: Console, command: Sequence[str]) -> None:
    """How to come by the rest of an answer that was broken off and is stored."""
    console.print(Text(f"resume with: {shlex.join(command)}"), soft_wrap=True)


def in_words(error: ForethoughtError, address: str, *, began: bool = False) -> ForethoughtError:
    """The failure of a call to `address`, without gRPC's own words and names."""
    if isinstance(error, InvalidArgumentError):
        told = InvalidArgumentError(error.violations)
        told.message = "; ".join(
            f"{name_on_command_line(field)}: {text}" for field, text in error.violations.items()
        )
        return told
    if not isinstance(error, RemoteError):
        return error
    if error.code == "DEADLINE_EXCEEDED":
        return RemoteError("the answer was not complete in time", code=error.code)
    if error.code != "UNAVAILABLE":
        return error
    if began:
        message = f"the connection to {address} was lost"
    elif "resol" in error.message:  # "DNS resolution failed", "errors resolving"
        message = f"the host in {address} is not known"
    else:
        message = f"no server answers at {address}"
    return RemoteError(message, code=error.code)


def print_failed_call(
    console: Console, error: ForethoughtError, address: str, *, began: bool
) -> None:
    """Code, reason and message of a call to `address` that failed, and what may help.

    Args:
        console: where to print.
        error: what the client raised.
        address: whom it called.
        began: whether anything was received before.
    """
    name = f"{error.code} {error.reason}"
    message = in_words(error, address, began=began).message
    hint = _HINTS.get(error.reason, "")
    if isinstance(error, RemoteError):
        name, hint = error.code, _HINTS.get(error.code, "")
        if message.startswith("no server answers"):
            hint = "start one with: forethought up"
    elif error.code == error.reason:
        name = error.code
    if isinstance(error, OverloadedError):
        hint = f"try again in {error.retry_after_s:.3g} s"
    print_failure(console, f"{name}: {message}", hint)
