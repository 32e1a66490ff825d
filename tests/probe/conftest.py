"""Deployments in threads of their own: the command runs an event loop itself."""

import asyncio
import contextlib
import threading

import pytest
from typer.testing import CliRunner

from forethought.cli.main import app


@contextlib.contextmanager
def running_in_thread(make_stack):
    """The address of a deployment that lives as long as the context.

    Args:
        make_stack: makes an async context manager around it, whose value has the address.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    cleanup = contextlib.AsyncExitStack()

    def run(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    try:
        yield run(cleanup.enter_async_context(make_stack()))
    finally:
        run(cleanup.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@pytest.fixture
def probe():
    """Runs the command."""

    def run(*arguments):
        return CliRunner().invoke(app, ["probe", *map(str, arguments)], env={"COLUMNS": "100"})

    return run
