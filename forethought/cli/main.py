"""The typer app behind the console script `forethought`: a list of commands, none imported."""

from typing import Annotated

import typer

from forethought import __version__
from forethought.cli.lazy import CommandSource, lazy_group

COMMANDS = {
    "up": CommandSource(
        "forethought.cli.up.command:up",
        "Start everything on this machine: target, draft, orchestrator and an embedded Valkey.",
        extra="engine",
    ),
    "generate": CommandSource(
        "forethought.cli.generate.command:generate",
        "Answer a prompt: stream the text, and end with a line of statistics.",
    ),
    "chat": CommandSource(
        "forethought.cli.chat.command:chat",
        "Talk with a deployment, and come back to it later.",
    ),
    "sessions": CommandSource(
        "forethought.cli.sessions.app:app",
        "List, show, finish and delete the sessions that a deployment has stored.",
    ),
    "probe": CommandSource(
        "forethought.cli.probe.command:probe",
        "Check that a running deployment samples what it samples without speculation.",
    ),
    "doctor": CommandSource(
        "forethought.cli.doctor.command:doctor",
        "Look at a deployment from outside: what it is made of, what is wrong, what to do.",
    ),
    "keys": CommandSource(
        "forethought.cli.keys.app:app",
        "Make, list and revoke the API keys of a deployment.",
        extra="service",
    ),
    "count": CommandSource(
        "forethought.cli.count:count",
        "Count what follows which tokens in the target's texts, to look guesses up in.",
        extra="orchestrator",
    ),
    "distill": CommandSource(
        "forethought.cli.distill.command:distill",
        "Make a draft for a target, from nothing but the target.",
        extra="engine",
    ),
    "bench": CommandSource(
        "forethought.cli.bench.app:app",
        "Measure an engine, a deployment under load or by kind of prompt, or its choice of K.",
    ),
}

app = typer.Typer(
    name="forethought",
    cls=lazy_group(COMMANDS),
    help="Speculative decoding as microservices: a small model guesses, a large model checks all "
    "guesses at once, and rejection sampling keeps the output exactly the large model's.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"forethought {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Holds the options that come before a command."""
