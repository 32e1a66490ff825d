"""The group of commands `forethought bench`."""

import typer

from forethought.cli.bench.engine import engine
from forethought.cli.bench.throughput import throughput

app = typer.Typer(
    name="bench",
    help="Measure an engine alone, or a whole deployment under load.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command()(engine)
app.command()(throughput)
