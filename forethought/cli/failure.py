"""Errors as one line a person can act on, with a hint where we know one."""

from rich.console import Console
from rich.text import Text

from forethought.errors import ForethoughtError, OverloadedError, RemoteError

_HINTS = {
    "DEADLINE_EXCEEDED": "allow more time with --timeout",
    "UNIMPLEMENTED": "--address wants the orchestrator; draft and target do not generate",
    "VOCABULARY_MISMATCH": "choose a draft model with the target's vocabulary",
    "DRAINING": "try again when the server is back",
    "LOADING": "try again in a moment",
}


def print_failure(console: Console, message: str, hint: str = "") -> None:
    """One red line, and the hint in brackets if there is one."""
    line = Text.assemble(("error ", "bold red"), (message, "red"))
    if hint:
        line.append(f" ({hint})")
    console.print(line, soft_wrap=True, highlight=False)


def print_failed_call(console: Console, error: ForethoughtError, address: str) -> None:
    """Code, reason and message of a call to `address` that failed, and what may help."""
    if not isinstance(error, RemoteError):
        name = error.code if error.code == error.reason else f"{error.code} {error.reason}"
        hint = _HINTS.get(error.reason, "")
        if isinstance(error, OverloadedError):
            hint = f"try again in {error.retry_after_s:.3g} s"
        print_failure(console, f"{name}: {error.message}", hint)
    elif error.code == "UNAVAILABLE":  # gRPC's own words here are about sockets
        message = f"UNAVAILABLE: no server answers at {address}"
        print_failure(console, message, "start one with: forethought up")
    else:
        print_failure(console, f"{error.code}: {error.message}", _HINTS.get(error.code, ""))
