"""Loading leaves the event loop free, and no thread behind."""

import asyncio
import threading

import pytest

from forethought.rpc.serving.server import load_in_thread
from tests.waiting import until


async def test_the_thread_that_loads_ends_with_it():
    threads: list[threading.Thread] = []

    def load() -> str:
        threads.append(threading.current_thread())
        return "a model"

    assert await load_in_thread(load) == "a model"
    assert threads[0] is not threading.current_thread()
    await until(lambda: not threads[0].is_alive())


async def test_what_goes_wrong_in_it_is_raised():
    def load() -> None:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        await load_in_thread(load)


async def test_nobody_waits_for_a_load_that_is_not_wanted_any_more():
    may_end = threading.Event()
    loading = asyncio.create_task(load_in_thread(may_end.wait))
    await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(loading, 60)
    may_end.set()
