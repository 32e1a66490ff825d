"""A slot is taken by one session at a time and comes back whatever happens to the session."""

from collections.abc import AsyncIterator

import pytest

from forethought.engine.session_table import SessionTable
from forethought.engine.worker import EngineWorker
from forethought.errors import OverloadedError
from tests.waiting import until


class Session:
    """Holds some tokens, until it is released."""

    def __init__(self, num_cached_tokens: int = 3, failure: Exception | None = None) -> None:
        self.num_cached_tokens = num_cached_tokens
        self.failure = failure

    def prefill(self, max_tokens: int) -> bool:
        return False

    def release(self) -> None:
        if self.failure:
            raise self.failure
        self.num_cached_tokens = 0


@pytest.fixture
async def worker() -> AsyncIterator[EngineWorker]:
    worker = EngineWorker()
    yield worker
    await worker.close()


async def freed(table: SessionTable) -> None:
    await until(lambda: not table.load().num_sessions)


async def test_a_session_holds_its_slot_until_its_memory_is_free(worker):
    table = SessionTable(worker, max_sessions=1)
    first, second = Session(), Session()
    table.admit(first)
    assert table.load().num_cached_tokens == 3
    table.discard(first)
    with pytest.raises(OverloadedError):
        table.admit(second)
    await freed(table)
    assert first.num_cached_tokens == 0
    table.admit(second)


async def test_a_release_that_fails_gives_its_slot_back(worker):
    table = SessionTable(worker, max_sessions=1)
    broken = Session(failure=RuntimeError("the device is gone"))
    table.admit(broken)
    table.discard(broken)
    await freed(table)
    table.admit(Session())


async def test_a_closed_engine_frees_the_slots(worker):
    table = SessionTable(worker, max_sessions=1)
    session = Session()
    table.admit(session)
    await worker.close()
    table.discard(session)
    await freed(table)
