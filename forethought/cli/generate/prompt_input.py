"""The prompt of a command: its argument, or what is piped into it."""

import sys

import typer

from forethought.input_files import read_at_most
from forethought.rpc.connections.channels import MAX_MESSAGE_BYTES

_HINT = "PROMPT"


def read_prompt(argument: str | None) -> str:
    """The argument; standard input where that is "-", or where there is none and nobody types.

    Raises:
        typer.BadParameter: there is no text, or too much, or it is no UTF-8.
    """
    if argument is None and sys.stdin.isatty():
        raise typer.BadParameter(
            "there is none: give a text, or pipe one into this command", param_hint=_HINT
        )
    text = _read_standard_input() if argument in (None, "-") else argument
    if not text:
        raise typer.BadParameter("it is empty", param_hint=_HINT)
    check_unicode(text, _HINT)
    return text


def check_unicode(text: str, hint: str) -> None:
    """Refuses what a command line holds that is no text in the terminal's encoding.

    Raises:
        typer.BadParameter: says so.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("it is not valid UTF-8", param_hint=hint) from None


def _read_standard_input() -> str:
    try:
        return read_at_most(sys.stdin.buffer, MAX_MESSAGE_BYTES).decode()
    except OSError as error:
        raise typer.BadParameter(f"standard input {error.strerror}", param_hint=_HINT) from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(
            f"standard input is not valid UTF-8, from byte {error.start} on", param_hint=_HINT
        ) from error
