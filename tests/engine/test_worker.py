"""The engine's thread: in order, one at a time, and never for nobody."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from forethought.engine.worker import EngineWorker
from forethought.errors import DrainingError


@pytest.fixture
async def worker() -> AsyncIterator[EngineWorker]:
    worker = EngineWorker()
    yield worker
    await worker.close()


class Gate:
    """A job that runs until it is told to end."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.may_end = threading.Event()
        self.ended = False

    def __call__(self) -> str:
        self.started.set()
        assert self.may_end.wait(timeout=30)
        self.ended = True
        return "through"


async def occupy(worker: EngineWorker) -> tuple[Gate, asyncio.Task]:
    gate = Gate()
    task = asyncio.create_task(worker.run(gate))
    await asyncio.to_thread(gate.started.wait, 30)
    return gate, task


async def test_a_job_runs_in_the_engines_thread_and_is_timed(worker):
    name, timings = await worker.run(lambda: threading.current_thread().name)
    assert name.startswith("engine")
    assert timings.queue_ns >= 0
    assert timings.run_ns > 0


async def test_jobs_run_one_at_a_time_in_the_order_they_came(worker):
    gate, first = await occupy(worker)
    order: list[int] = []
    others = [asyncio.create_task(worker.run(lambda n=n: order.append(n))) for n in range(5)]
    await asyncio.sleep(0)
    assert worker.num_queued_jobs == 5
    assert order == []
    gate.may_end.set()
    results = await asyncio.gather(first, *others)
    assert order == [0, 1, 2, 3, 4]
    assert worker.num_queued_jobs == 0
    assert results[1][1].queue_ns > 0


async def test_a_job_whose_caller_is_cancelled_before_it_starts_never_runs(worker):
    gate, first = await occupy(worker)
    ran: list[str] = []
    abandoned = asyncio.create_task(worker.run(lambda: ran.append("abandoned")))
    wanted = asyncio.create_task(worker.run(lambda: ran.append("wanted")))
    await asyncio.sleep(0)
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    assert worker.num_queued_jobs == 1
    gate.may_end.set()
    await asyncio.gather(first, wanted)
    assert ran == ["wanted"]


async def test_a_job_whose_caller_is_cancelled_while_it_runs_ends_before_the_next(worker):
    gate, first = await occupy(worker)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    following = asyncio.create_task(worker.run(lambda: gate.ended))
    gate.may_end.set()
    assert (await following)[0] is True


async def test_the_error_of_a_job_reaches_its_caller_and_no_other(worker):
    def fail() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        await worker.run(fail)
    assert (await worker.run(lambda: 1))[0] == 1


async def test_closing_ends_the_running_job_and_refuses_all_others():
    worker = EngineWorker()
    gate, first = await occupy(worker)
    waiting = asyncio.create_task(worker.run(lambda: "never"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(worker.close())
    with pytest.raises(DrainingError):
        await waiting
    with pytest.raises(DrainingError):
        await worker.run(lambda: "too late")
    assert not closing.done()
    gate.may_end.set()
    await closing
    assert (await first)[0] == "through"
