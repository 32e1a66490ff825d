"""In which order texts are worked on, and what becomes of those that nobody waits for."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from forethought.errors import OverloadedError
from orchestrator.request import text_pool
from orchestrator.request.text_pool import CALL_BYTES, MAX_SHORT_BYTES, TextPool
from tests.waiting import until

LONG = 4 * MAX_SHORT_BYTES


class Worked:
    """A pool whose thread for long texts is held until a test lets it go."""

    def __init__(self) -> None:
        self.pool = TextPool(1000 * LONG)
        self.order: list[str] = []
        self.gate = threading.Event()
        self._tasks: set[asyncio.Task[str]] = set()

    def ask(self, flow: str, name: str, num_bytes: int = LONG) -> "asyncio.Task[str]":
        def work() -> str:
            self.order.append(name)
            return name

        return self._start(flow, num_bytes, work)

    async def hold(self, flow: str = "held", gate: threading.Event | None = None) -> None:
        """Returns when a text of `flow` is being worked on, until a gate is set."""
        begun = threading.Event()

        def work() -> str:
            begun.set()
            assert (gate or self.gate).wait(20)
            return "held"

        self._start(flow, LONG, work)
        await until(begun.is_set)

    async def settle(self) -> list[str]:
        """The order in which all was done."""
        self.gate.set()
        await asyncio.wait(self._tasks)
        return self.order

    def _start(self, flow, num_bytes, work):
        task = asyncio.create_task(self.pool.run(flow, num_bytes, work))
        self._tasks.add(task)
        return task


@pytest.fixture
async def worked() -> AsyncIterator[Worked]:
    made = Worked()
    yield made
    await made.settle()


async def test_tenants_are_served_by_turns(worked):
    await worked.hold()
    for number in range(3):
        worked.ask("flood", f"flood {number}")
    worked.ask("other", "other")
    await asyncio.sleep(0)
    assert (await worked.settle()).index("other") <= 1


async def test_a_shorter_text_of_the_same_tenant_comes_first(worked):
    await worked.hold()
    worked.ask("one", "long")
    worked.ask("one", "shorter", LONG // 2)
    await asyncio.sleep(0)
    assert await worked.settle() == ["shorter", "long"]


async def test_a_shorter_text_comes_before_those_of_any_number_of_tenants(worked):
    await worked.hold()
    for number in range(30):
        worked.ask(f"tenant {number}", "long")
    worked.ask("new", "shorter", LONG // 2)
    await asyncio.sleep(0)
    assert (await worked.settle())[0] == "shorter"


async def test_short_texts_of_newcomers_do_not_keep_a_long_one_waiting_for_ever(worked):
    await worked.hold()
    worked.ask("patient", "long", 3 * LONG)
    for number in range(20):
        worked.ask("flood", f"flood {number}")
    await asyncio.sleep(0)
    assert (await worked.settle()).index("long") <= 4


async def test_a_tenant_whose_texts_take_long_waits_for_others_in_return(worked, monkeypatch):
    monkeypatch.setattr(text_pool, "BYTES_PER_S", 10**12)
    await worked.hold("slow")
    worked.ask("slow", "slow", LONG // 2)
    worked.ask("other", "other")
    await asyncio.sleep(0)
    assert await worked.settle() == ["other", "slow"]


async def test_a_tenant_whose_text_took_long_is_no_newcomer_afterwards(worked, monkeypatch):
    monkeypatch.setattr(text_pool, "BYTES_PER_S", 10**12)
    gate = threading.Event()
    await worked.hold("slow", gate=gate)
    holding = asyncio.create_task(worked.hold("third"))
    await until(lambda: "third" in worked.pool._flows)
    gate.set()
    await holding
    worked.ask("slow", "slow", LONG // 2)
    worked.ask("other", "other")
    await asyncio.sleep(0)
    assert await worked.settle() == ["other", "slow"]


async def test_a_short_text_does_not_wait_for_a_long_one_to_end(worked):
    await worked.hold("same")
    worked.ask("same", "long")
    assert await worked.ask("same", "short", MAX_SHORT_BYTES) == "short"
    assert worked.order == ["short"]


async def test_a_text_that_nobody_waits_for_is_not_worked_on(worked):
    await worked.hold()
    left = worked.ask("one", "left")
    worked.ask("two", "kept")
    await asyncio.sleep(0)
    left.cancel()
    assert await worked.settle() == ["kept"]


@pytest.mark.parametrize("error", [ValueError, MemoryError, BaseException, StopIteration])
async def test_an_error_reaches_whoever_asked_and_the_next_text_is_worked_on(worked, error):
    def fail() -> None:
        raise error("no text")

    async with asyncio.timeout(20):
        with pytest.raises(RuntimeError if error is StopIteration else error):
            await worked.pool.run("one", LONG, fail)
        assert await worked.ask("one", "next") == "next"


async def test_texts_are_refused_while_there_are_no_threads_and_worked_on_later(monkeypatch):
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = TextPool(10 * LONG)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        texts = [pool.run("one", LONG, lambda: None) for _ in range(3)]
        refused = await asyncio.gather(*texts, return_exceptions=True)
    assert [type(each) for each in refused] == [OverloadedError] * 3
    assert await pool.run("one", LONG, lambda: "text") == "text"


async def test_a_tenant_that_waits_with_too_much_is_refused_and_others_are_not():
    worked = Worked()
    worked.pool = TextPool(10 * LONG)
    await worked.hold("greedy")
    for number in range(6):
        worked.ask("greedy", f"greedy {number}")
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await worked.pool.run("greedy", LONG, lambda: None)
    worked.ask("other", "other")
    assert "other" in await worked.settle()


async def test_a_short_text_finds_room_beside_long_ones_of_any_number_of_tenants():
    worked = Worked()
    worked.pool = TextPool(33 * (LONG + CALL_BYTES) + 100)
    await worked.hold("tenant")
    long = [worked.ask(f"tenant {number}", "long") for number in range(64)]
    await asyncio.sleep(0)
    assert await worked.ask("other", "short", 2000) == "short"
    await worked.settle()
    errors = [task.exception() for task in long]
    assert any(errors)


async def test_memory_is_given_back_some_time_after_a_long_text(worked, monkeypatch):
    given_back = threading.Event()
    monkeypatch.setattr(text_pool, "TRIM_DELAY_S", 0.0)
    monkeypatch.setattr(text_pool, "give_back_memory", given_back.set)
    await worked.ask("one", "long")
    await until(given_back.is_set)
