"""One call from the command line: its result, or a line of error and an exit code."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import typer
from rich.console import Console

from forethought.cli.failure import in_words, print_failed_call
from forethought.cli.options.connection import Connection
from forethought.cli.views.json_view import JsonView
from forethought.client import GenerationClient
from forethought.errors import ForethoughtError

Result = TypeVar("Result")

_FAILED = 1


def run_call(
    connection: Connection,
    call: Callable[[GenerationClient], Awaitable[Result]],
    *,
    as_json: bool = False,
) -> Result:
    """The result of `call` on a client of `connection`.

    Raises:
        typer.Exit: with 1, when the failure has been printed: on standard error, or with `as_json`
            as an object on standard output.
    """

    async def run() -> Result:
        async with connection.client() as client:
            return await call(client)

    try:
        return asyncio.run(run())
    except ForethoughtError as error:
        if as_json:
            JsonView(sys.stdout).end(in_words(error, connection.address), is_complete=False)
        else:
            print_failed_call(Console(stderr=True), error, connection.address, began=False)
        raise typer.Exit(_FAILED) from error
