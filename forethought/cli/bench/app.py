"""The group of commands `forethought bench`."""

import typer

from forethought.cli.bench.throughput import throughput

app = typer.Typer(
    name="bench",
    help="Measure what a deployment does under load.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command()(throughput)


@app.callback()
def group() -> None:
    """Keeps `throughput` a command of its own while there is only one."""
