"""Whatever becomes of the store, sessions go on and are right."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Sequence

import numpy as np
import pytest

from forethought.engine.batching.engine import Engine
from forethought.engine.cache.block_archive import BlockArchive
from forethought.engine.cache.block_pool import BlockName
from forethought.engine.model.kv_layout import Numbers
from forethought.engine.model.packed import BLOCK_LEN
from forethought.errors import DrainingError
from forethought.store.blocks.write_behind import WriteBehindSettings
from tests.engine.scoring import Scoring, rows_of
from tests.kv.tiers import (
    LIMITS,
    SLOW,
    SteadyRate,
    a_prompt,
    archive_at,
    assert_right,
    format_of,
    running,
    say,
)
from tests.waiting import until

PROMPT = a_prompt(5 * BLOCK_LEN + 3)
MODERATE = SteadyRate(0.05 / BLOCK_LEN)  # 50 ms for a block, so 20 ms to wait for the first


class Memory(BlockArchive):
    """An archive in this process, which may stop to answer.

    Args:
        num_given: blocks of a fetch after which nothing comes any more; None gives all.
        answers: whether it says at all what it has.
    """

    def __init__(self, num_given: int | None = None, *, answers: bool = True) -> None:
        self.blocks: dict[bytes, Numbers] = {}
        self.num_given = num_given
        self.answers = answers
        self.estimate_s: float | None = None  # for a block
        self.num_cancelled = 0
        self.num_open = 0  # fetches

    def wants(self, name: BlockName) -> bool:
        return name.key not in self.blocks

    def offer(self, name: BlockName, numbers: Numbers) -> None:
        self.blocks[name.key] = numbers

    async def count_prefix(self, names: Sequence[BlockName]) -> int:
        if not self.answers:
            await self._hang()
        return sum(name.key in self.blocks for name in names)

    async def fetch(self, names: Sequence[BlockName]) -> AsyncGenerator[Numbers]:
        self.num_open += 1
        try:
            for index, name in enumerate(names):
                if index == self.num_given:
                    await self._hang()
                yield self.blocks[name.key]
        finally:
            self.num_open -= 1

    def seconds_for(self, num_blocks: int) -> float | None:
        return None if self.estimate_s is None else num_blocks * self.estimate_s

    async def _hang(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.num_cancelled += 1


async def filled(model, **settings) -> Memory:
    archive = Memory(**settings)
    async with running(model, Memory()) as engine:
        await say(engine, PROMPT)
        archive.blocks = engine.restorer._archive.blocks
    assert len(archive.blocks) == 5
    return archive


@pytest.mark.parametrize("num_given", [0, 1, 3])
async def test_a_fetch_that_gets_stuck_is_given_up_and_what_came_is_used(
    lean, reference, num_given
):
    archive = await filled(lean, num_given=num_given)
    async with running(lean, archive, MODERATE) as engine:
        said = await say(engine, PROMPT, 3)
        assert engine.restorer.counters.num_given_up == 1
        assert engine.restorer.counters.num_blocks == num_given
        assert_right(said, PROMPT, reference)
    assert archive.num_cancelled == 1
    assert archive.num_open == 0


async def test_a_store_that_does_not_answer_is_not_waited_for(lean, reference):
    async with running(lean, Memory(answers=False), MODERATE) as engine:
        said = await say(engine, PROMPT, 3)
        assert said.num_restored == 0
        assert engine.restorer.counters.num_given_up == 1
        assert_right(said, PROMPT, reference)


async def test_others_go_on_while_a_session_waits(lean, reference):
    archive = await filled(lean, num_given=2)
    async with running(lean, archive, SLOW) as engine:
        waiting = asyncio.create_task(say(engine, PROMPT, 3))
        await until(lambda: engine.restorer.counters.num_blocks == 2)
        archive.num_given = None
        other = a_prompt(40, seed=1)
        assert_right(await say(engine, other, 3), other, reference)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_fetch_that_turns_out_slower_than_computing_is_stopped(lean, reference):
    archive = await filled(lean)
    fetch = archive.fetch

    async def slowed(names):
        async for numbers in fetch(names):
            yield numbers
            archive.estimate_s = 1.0  # beside 50 ms

    archive.fetch = slowed
    async with running(lean, archive, MODERATE) as engine:
        said = await say(engine, PROMPT, 3)
        assert engine.restorer.counters.num_blocks == 2
        assert engine.restorer.counters.num_given_up == 1
        assert_right(said, PROMPT, reference)


async def test_an_archive_that_raises_is_an_empty_one(lean, reference, monkeypatch):
    archive = await filled(lean)

    async def broken(names):
        raise RuntimeError("broken")
        yield

    monkeypatch.setattr(archive, "fetch", broken)
    monkeypatch.setattr(archive, "wants", lambda name: 1 / 0)
    async with running(lean, archive) as engine:
        assert_right(await say(engine, PROMPT, 3), PROMPT, reference)


async def test_a_session_that_ends_while_it_waits_leaves_nothing_behind(lean, reference):
    archive = await filled(lean, num_given=2)
    async with running(lean, archive, SLOW) as engine:
        sequence = engine.open(PROMPT)
        assert await engine.count_restored(sequence) == 5 * BLOCK_LEN
        await until(lambda: engine.restorer.counters.num_blocks == 2)
        engine.discard(sequence)
        await until(lambda: not engine.load().num_sessions)
        await until(lambda: archive.num_cancelled)
        assert not engine._scheduler.num_jobs
        archive.num_given = None
        said = await say(engine, PROMPT, 3)
        assert said.num_restored == 3 * BLOCK_LEN  # two had come
        assert_right(said, PROMPT, reference)


async def test_closing_ends_what_waits(lean):
    archive = await filled(lean, num_given=2)
    engine: Engine = Engine(lean, LIMITS, rows_of)
    engine.use_archive(archive, SLOW)
    sequence = engine.open(PROMPT)
    work = asyncio.create_task(engine.run(Scoring(sequence, len(PROMPT))))
    await until(lambda: engine.restorer.counters.num_blocks == 2)
    await engine.close()
    with pytest.raises(DrainingError):
        await work
    assert archive.num_open == 0
    engine.check()


async def test_a_server_that_is_killed_in_the_middle_is_a_prefix(lean, reference, own_server):
    async with running(lean, archive_at(own_server.url, format_of(lean))) as engine:
        await say(engine, PROMPT)
    archive = archive_at(own_server.url, format_of(lean))
    fetch = archive.fetch

    async def interrupted(names):
        async for numbers in fetch(names):
            own_server.kill()
            yield numbers

    archive.fetch = interrupted
    async with running(lean, archive) as engine:
        said = await say(engine, PROMPT, 3)
        assert 1 <= engine.restorer.counters.num_blocks < 5
    assert_right(said, PROMPT, reference)


async def test_a_server_that_is_stopped_costs_a_moment(lean, reference, own_server):
    async with running(lean, archive_at(own_server.url, format_of(lean))) as engine:
        await say(engine, PROMPT)
    archive = archive_at(own_server.url, format_of(lean))
    async with running(lean, archive, MODERATE) as engine:
        own_server.signal(signal.SIGSTOP)
        said = await say(engine, PROMPT, 3)
        assert engine.restorer.counters.num_given_up == 1
        own_server.signal(signal.SIGCONT)
        await until(lambda: not engine.restorer._tasks)
    assert_right(said, PROMPT, reference)


async def test_what_the_queue_has_no_room_for_is_dropped_and_nobody_waits(
    lean, reference, shared_server, redis
):
    block_format = format_of(lean)
    writing = WriteBehindSettings(max_queued_bytes=block_format.num_bytes)
    archive = archive_at(shared_server.url, block_format, writing=writing)
    async with running(lean, archive) as engine:
        said = await say(engine, PROMPT, 3)
        assert_right(said, PROMPT, reference)
    counters = archive.writer.counters
    assert counters.num_offered == 5
    assert counters.num_dropped >= 1
    assert counters.num_written == redis.dbsize() == 5 - counters.num_dropped


async def test_speculated_tokens_are_never_offered(lean):
    archive = Memory()
    async with running(lean, archive) as engine:
        sequence = engine.open(PROMPT)
        await engine.run(Scoring(sequence, len(PROMPT), (), [1] * 40))
        assert len(archive.blocks) == 5
        engine.discard(sequence)


async def test_numbers_that_were_offered_do_not_change(lean):
    archive = Memory()
    async with running(lean, archive, limits=LIMITS) as engine:
        await say(engine, PROMPT)
        kept = {key: numbers.copy() for key, numbers in archive.blocks.items()}
        for seed in range(12):  # the pool is used up and its blocks are written anew
            await say(engine, a_prompt(100, seed + 1))
    for key, numbers in kept.items():
        assert np.array_equal(archive.blocks[key], numbers)
