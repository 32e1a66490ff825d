"""The group of commands `forethought bench`."""

import typer

from forethought.cli.bench.engine import engine
from forethought.cli.bench.kinds import kinds
from forethought.cli.bench.policy import policy
from forethought.cli.bench.throughput import throughput

app = typer.Typer(
    name="bench",
    help="Measure an engine alone, a whole deployment under load or by kind of prompt, or its "
    "choice of K.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command()(engine)
app.command()(throughput)
app.command()(kinds)
app.command()(policy)
