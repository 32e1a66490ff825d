"""The typer app behind the console script `forethought`."""

from typing import Annotated

import typer

from forethought import __version__
from forethought.cli.bench.app import app as bench_app
from forethought.cli.count import count
from forethought.cli.distill.command import distill
from forethought.cli.generate import generate
from forethought.cli.probe.command import probe
from forethought.cli.up import up

app = typer.Typer(
    name="forethought",
    help="Speculative decoding as microservices: a small model guesses, a large model checks all "
    "guesses at once, and rejection sampling keeps the output exactly the large model's.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
)
app.command()(up)
app.command()(generate)
app.command()(probe)
app.command()(count)
app.command()(distill)
app.add_typer(bench_app)


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
