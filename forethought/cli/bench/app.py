"""The group of commands `forethought bench`."""

import typer

from forethought.cli.lazy import CommandSource, lazy_group

COMMANDS = {
    "engine": CommandSource(
        "forethought.cli.bench.engine:engine",
        "Measure one forward pass against the floor of its products with weights.",
        extra="engine",
    ),
    "throughput": CommandSource(
        "forethought.cli.bench.throughput:throughput",
        "Measure a whole deployment at rising concurrency, with and without speculation.",
    ),
    "kinds": CommandSource(
        "forethought.cli.bench.kinds:kinds",
        "Measure what speculation brings for each kind of prompt.",
    ),
    "policy": CommandSource(
        "forethought.cli.bench.policy:policy",
        "Measure the adaptive choice of K, with a good and with a useless draft.",
    ),
}

app = typer.Typer(
    name="bench",
    cls=lazy_group(COMMANDS),
    help="Measure an engine alone, a whole deployment under load or by kind of prompt, or its "
    "choice of K.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


@app.callback()
def root() -> None:
    """Holds the group together; it has no options of its own."""
