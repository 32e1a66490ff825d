"""Many sessions on one engine: each gets what it would get alone, whatever memory there is."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.engine.batching import scheduler
from forethought.engine.batching.engine import Engine
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.batching.scheduler import SchedulerOptions
from forethought.engine.model.packed import BLOCK_LEN, PackedPass
from forethought.errors import (
    CachePositionMismatchError,
    DrainingError,
    InvalidArgumentError,
    OverloadedError,
    ReplicaFailedError,
)
from tests.engine.ledger import MAX_LEN, LedgerModel, ledger_row
from tests.engine.scoring import Rows, Scoring, rows_of
from tests.waiting import until

LIMITS = EngineLimits(num_blocks=64, max_sessions=128, scheduler=SchedulerOptions(32, 8, 0.05))


class GatedLedger(LedgerModel):
    """Stops before each pass for as long as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_run = threading.Event()
        self.may_run.set()
        self.is_waiting = False
        self.passes: list[PackedPass] = []

    def forward(self, packed: PackedPass) -> torch.Tensor:
        self.is_waiting = not self.may_run.is_set()
        assert self.may_run.wait(30)
        self.is_waiting = False
        self.passes.append(packed)
        return super().forward(packed)


@asynccontextmanager
async def running(
    model: LedgerModel, limits: EngineLimits = LIMITS, finish=rows_of
) -> AsyncIterator[Engine[Scoring, Rows]]:
    engine: Engine[Scoring, Rows] = Engine(model, limits, finish)
    try:
        yield engine
    finally:
        await engine.close()
        engine.check()


def alone(prompt: Sequence[int], num_tokens: int) -> list[int]:
    """The greedy continuation."""
    tokens = list(prompt)
    for _ in range(num_tokens):
        row = ledger_row(tokens)
        tokens.append(row.index(max(row)))
    return tokens[len(prompt) :]


async def continued(
    engine: Engine[Scoring, Rows], prompt: Sequence[int], num_tokens: int, num_guesses: int = 0
) -> list[int]:
    """The same by way of the engine, with guesses of which some are right."""
    sequence = engine.open(prompt)
    tokens = list(prompt)
    committed: list[int] = []
    try:
        while len(tokens) < len(prompt) + num_tokens:
            room = len(prompt) + num_tokens - len(tokens)
            guesses = [*alone(tokens, num_guesses - 1), 0][: min(num_guesses, room - 1)]
            work = Scoring(sequence, len(tokens), committed, guesses)
            rows, _ = await engine.run(work)
            committed = []
            for row, guess in zip(rows, [*guesses, None], strict=True):
                committed.append(row.index(max(row)))
                if committed[-1] != guess:
                    break
            tokens += committed
    finally:
        engine.discard(sequence)
    return tokens[len(prompt) :]


@pytest.mark.parametrize("num_blocks", [64, 9])
async def test_64_sessions_on_memory_for_few_all_finish_with_the_text_they_have_alone(num_blocks):
    prompts = [[i % 8, i // 8, *[5, 2] * 9] for i in range(64)]  # 20 tokens, 4 blocks at the end
    async with running(LedgerModel(), replace(LIMITS, num_blocks=num_blocks)) as engine:
        texts = await asyncio.gather(
            *(continued(engine, prompt, 40, num_guesses=i % 4) for i, prompt in enumerate(prompts))
        )
        assert texts == [alone(prompt, 40) for prompt in prompts]
        assert engine.counts.num_preemptions > 0 or num_blocks == 64
        await until(lambda: not engine.load().num_sessions)
        assert engine.load().num_cached_tokens == 0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=50), st.integers(0, 5)),
        min_size=1,
        max_size=8,
    ),
    st.integers(6, 20),
)
def test_no_mix_of_sessions_and_no_size_of_memory_changes_a_text(sessions, num_blocks):
    async def play() -> None:
        async with running(LedgerModel(), replace(LIMITS, num_blocks=num_blocks)) as engine:
            texts = await asyncio.gather(
                *(continued(engine, prompt, 20, guesses) for prompt, guesses in sessions)
            )
        assert texts == [alone(prompt, 20) for prompt, _ in sessions]

    asyncio.run(play())


async def test_sessions_that_wait_share_a_pass():
    model = GatedLedger()
    async with running(model) as engine:
        sequences = [engine.open([i]) for i in range(5)]
        model.may_run.clear()
        first = asyncio.create_task(engine.run(Scoring(sequences[0], 1)))
        await until(lambda: model.is_waiting)
        others = [asyncio.create_task(engine.run(Scoring(each, 1))) for each in sequences[1:]]
        await until(lambda: engine.load().num_queued_jobs == 4)
        model.may_run.set()
        assert (await first)[1].batch_size == 1
        timings = [timings for _, timings in await asyncio.gather(*others)]
    assert [each.batch_size for each in timings] == [4] * 4
    assert all(each.queue_ns > 0 and each.forward_ns > 0 for each in timings)
    assert [len(packed.parts) for packed in model.passes] == [1, 4]


async def test_a_session_that_begins_like_another_computes_only_what_differs():
    model = LedgerModel()
    async with running(model) as engine:
        prompt = [1, 2, 3] * 20
        await continued(engine, prompt, 1)
        await until(lambda: not engine.load().num_sessions)
        assert engine.count_reusable(prompt) == 48
        model.num_computed.clear()
        assert await continued(engine, prompt, 1) == alone(prompt, 1)
        assert sum(model.num_computed) == 60 - 48
        assert engine.count_reusable([7, *prompt]) == 0


async def test_other_salts_share_nothing():
    async with running(LedgerModel()) as engine:
        prompt = [1] * 40
        await continued(engine, prompt, 1)
        assert engine.count_reusable(prompt, b"") == 32
        assert engine.count_reusable(prompt, b"tenant") == 0


async def test_running_sessions_keep_their_pace_beside_a_long_prompt(monkeypatch):
    # On a clock that stands still a session that was answered is always about to ask again, and
    # would be waited for without end.
    monkeypatch.setattr(scheduler, "time", SimpleNamespace(monotonic=lambda: 0.0))
    model = GatedLedger()
    limits = replace(LIMITS, scheduler=replace(LIMITS.scheduler, max_linger=0))
    async with running(model, limits) as engine:
        sequence = engine.open([1])
        await engine.run(Scoring(sequence, 1))
        model.may_run.clear()
        prompt = asyncio.create_task(continued(engine, [2] * 90, 1))
        await until(lambda: model.is_waiting)
        # The first chunk is computed between two rounds, the second one beside a round.
        next_round = asyncio.create_task(engine.run(Scoring(sequence, 1)))
        await asyncio.sleep(0)
        model.may_run.set()
        await asyncio.gather(prompt, next_round)
        assert [len(packed.parts) for packed in model.passes][:3] == [1, 1, 2]
        engine.discard(sequence)
        await continued(engine, [3] * 90, 1)
    chunks = {
        first: [
            len(part.token_ids)
            for packed in model.passes
            for part in packed.parts
            if part.token_ids[0] == first and not part.num_logits
        ]
        for first in (2, 3)
    }
    assert max(chunks[2]) <= 8
    assert max(chunks[3]) == 32


async def test_sessions_that_were_answered_together_are_waited_for():
    model = GatedLedger()
    async with running(model) as engine:
        await asyncio.gather(*(continued(engine, [i], 50) for i in range(4)))
    sizes = [len(packed.parts) for packed in model.passes]
    assert sum(sizes) / len(sizes) > 2


async def test_an_idle_session_gives_its_memory_to_one_that_waits():
    limits = replace(LIMITS, num_blocks=4)
    async with running(LedgerModel(), limits) as engine:
        idle = engine.open([1] * 60)
        await until(lambda: idle.num_cached_tokens == 59)
        assert await continued(engine, [2] * 40, 3) == alone([2] * 40, 3)
        assert idle.num_cached_tokens == 0
        rows, _ = await engine.run(Scoring(idle, 60))
        assert rows == [ledger_row([1] * 60)]
        engine.discard(idle)


async def test_the_error_of_a_session_is_its_own():
    def finish(works: Sequence[Scoring], logits: torch.Tensor) -> list[Rows]:
        if any(list(work.guesses) == [7] for work in works):
            raise ValueError("guessed 7")
        return rows_of(works, logits)

    model = GatedLedger()
    async with running(model, finish=finish) as engine:
        sequences = [engine.open([i]) for i in range(3)]
        model.may_run.clear()
        tasks = [
            asyncio.create_task(engine.run(Scoring(sequence, 1, (), [guess])))
            for sequence, guess in zip(sequences, (6, 7, 5), strict=True)
        ]
        await until(lambda: model.is_waiting)
        model.may_run.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[1], ValueError)
        assert results[0][0] == [ledger_row([0]), ledger_row([0, 6])]
        assert results[2][0] == [ledger_row([2]), ledger_row([2, 5])]
        with pytest.raises(CachePositionMismatchError):
            await engine.run(Scoring(sequences[0], 9, [1]))
        assert (await engine.run(Scoring(sequences[0], 2, [3])))[0] == [ledger_row([0, 3])]


async def test_a_pass_that_breaks_off_leaves_its_sessions_usable():
    model = LedgerModel()
    async with running(model) as engine:
        sequence = engine.open([1] * 20)
        await until(lambda: sequence.num_cached_tokens == 19)
        model.fails = True
        with pytest.raises(ReplicaFailedError):
            await engine.run(Scoring(sequence, 20, (), [3]))
        assert sequence.num_cached_tokens == 0
        model.fails = False
        rows, _ = await engine.run(Scoring(sequence, 20, (), [3]))
        assert rows == [ledger_row([1] * 20), ledger_row([*[1] * 20, 3])]


async def test_work_whose_caller_is_gone_is_not_done():
    model = GatedLedger()
    async with running(model) as engine:
        sequences = [engine.open([i]) for i in range(3)]
        model.may_run.clear()
        first = asyncio.create_task(engine.run(Scoring(sequences[0], 1)))
        await until(lambda: model.is_waiting)
        abandoned = asyncio.create_task(engine.run(Scoring(sequences[1], 1)))
        wanted = asyncio.create_task(engine.run(Scoring(sequences[2], 1)))
        await asyncio.sleep(0)
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        model.may_run.set()
        await asyncio.gather(first, wanted)
        assert [list(packed.token_ids) for packed in model.passes] == [[0], [2]]


async def test_closing_ends_the_pass_that_runs_and_refuses_the_rest():
    model = GatedLedger()
    engine: Engine[Scoring, Rows] = Engine(model, LIMITS, rows_of)
    sequences = [engine.open([i]) for i in range(2)]
    model.may_run.clear()
    first = asyncio.create_task(engine.run(Scoring(sequences[0], 1)))
    await until(lambda: model.is_waiting)
    waiting = asyncio.create_task(engine.run(Scoring(sequences[1], 1)))
    await asyncio.sleep(0)
    closing = asyncio.create_task(engine.close())
    await until(lambda: engine._thread.is_closed)
    assert not closing.done()
    model.may_run.set()
    await closing
    assert (await first)[0] == [ledger_row([0])]
    with pytest.raises(DrainingError):
        await waiting
    with pytest.raises(DrainingError):
        await engine.run(Scoring(sequences[0], 1))
    with pytest.raises(DrainingError):
        engine.open([1])
    for sequence in sequences:
        engine.discard(sequence)
    assert engine.load().num_sessions == 0


async def test_a_full_engine_refuses_and_has_room_again_when_a_session_ends():
    async with running(LedgerModel(), replace(LIMITS, max_sessions=1)) as engine:
        sequence = engine.open([1])
        with pytest.raises(OverloadedError):
            engine.open([2])
        engine.discard(sequence)
        await until(lambda: not engine.load().num_sessions)
        engine.open([2])


async def test_no_more_sessions_wait_for_memory_than_may():
    model = GatedLedger()
    async with running(model, replace(LIMITS, num_blocks=2, max_waiting=2)) as engine:
        model.may_run.clear()
        first = engine.open([1] * 30)
        await until(lambda: model.is_waiting)
        waiting = [engine.open([2] * 30) for _ in range(2)]
        with pytest.raises(OverloadedError):
            engine.open([3])
        model.may_run.set()
        for sequence in (first, *waiting):
            engine.discard(sequence)


async def test_a_session_longer_than_model_or_memory_is_refused():
    async with running(LedgerModel()) as engine:
        assert engine.max_model_len == MAX_LEN
        with pytest.raises(InvalidArgumentError):
            engine.open([1] * (MAX_LEN + 1))
    async with running(LedgerModel(), replace(LIMITS, num_blocks=2)) as engine:
        assert engine.max_model_len == 2 * BLOCK_LEN
        assert len(await continued(engine, [1], 31, num_guesses=3)) == 31
        with pytest.raises(InvalidArgumentError):
            engine.open([1] * 33)


class Known(Scoring):
    """Work whose result is known before any pass."""

    def begin(self) -> Rows:
        return []


async def test_the_books_are_not_gone_through_between_rounds_that_need_no_pass(monkeypatch):
    async with running(LedgerModel()) as engine:
        sequence = engine.open([1])
        await engine.run(Scoring(sequence, 1))
        check, checks = engine._scheduler.check, []
        monkeypatch.setattr(engine._scheduler, "check", lambda: checks.append(check()))
        for _ in range(20):
            await engine.run(Known(sequence, 1))
        assert not checks


async def test_the_books_are_checked_when_nobody_wants_anything(monkeypatch):
    monkeypatch.setattr("forethought.engine.batching.passes._IDLE_S", 0.02)
    checked = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with running(LedgerModel()) as engine:
        check = engine._scheduler.check
        monkeypatch.setattr(
            engine._scheduler, "check", lambda: (check(), loop.call_soon_threadsafe(checked.set))
        )
        await continued(engine, [1], 2)
        await asyncio.wait_for(checked.wait(), 60)
