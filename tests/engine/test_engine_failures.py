"""When something goes wrong that nobody has foreseen, nobody waits for ever."""

import asyncio
from contextlib import asynccontextmanager
from math import inf, nan
from types import SimpleNamespace

import pytest
import torch

from forethought.engine.batching.engine import Engine
from forethought.engine.batching.failed_passes import MAX_BROKEN, MAX_UNEXPLAINED
from forethought.engine.cache.block_archive import ComputeRate
from forethought.engine.cache.block_pool import IntegrityError
from forethought.engine.rows.filters import shape_logits
from forethought.errors import InvalidArgumentError, ReplicaFailedError
from forethought.sampling.params import SamplingParams
from tests.engine.ledger import LedgerModel, ledger_row
from tests.engine.scoring import Scoring, rows_of
from tests.engine.test_engine import LIMITS, GatedLedger, alone, continued
from tests.waiting import NOTHING_HELD, until


class PoisonedLedger(GatedLedger):
    """Fails for passes that hold a token, and for all while it is broken."""

    poison = 7
    is_broken = False

    def forward(self, packed):
        logits = super().forward(packed)
        if self.is_broken or self.poison in packed.token_ids:
            raise RuntimeError("poisoned")
        return logits


@asynccontextmanager
async def running(model, finish=rows_of):
    engine = Engine(model, LIMITS, finish)
    try:
        yield engine
    finally:
        await engine.close()


async def fails_at_once(work):
    with pytest.raises(ReplicaFailedError):
        await asyncio.wait_for(work, 60)


async def assert_ended(engine, error):
    """All is given back, and whoever comes later is told why."""
    await until(lambda: engine.failure.error is not None)
    assert isinstance(engine.failure.error, error)
    await until(lambda: engine.load() == NOTHING_HELD)
    with pytest.raises(ReplicaFailedError):
        engine.open([1])
    await until(lambda: not engine._thread.is_alive)
    await until(lambda: not engine._open)


@pytest.mark.parametrize("error", [ValueError, MemoryError, SystemExit])
@pytest.mark.parametrize("place", ["a message", "the next pass", "lingering"])
async def test_whatever_ends_the_thread_fails_all_that_waits(monkeypatch, place, error):
    def fail(*_):
        raise error("no more")

    model = GatedLedger()
    async with running(model) as engine:
        sequences = [engine.open([each]) for each in range(3)]
        model.may_run.clear()
        asked = [asyncio.create_task(engine.run(Scoring(each, 1))) for each in sequences]
        await until(lambda: model.is_waiting)
        if place == "a message":
            engine._thread.send(fail)
        else:
            name = "next_pass" if place == "the next pass" else "linger_s"
            monkeypatch.setattr(engine._scheduler, name, fail)
        last = asyncio.create_task(engine.run(Scoring(engine.open([3]), 1)))
        await asyncio.sleep(0)
        model.may_run.set()
        results = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)
        assert all(isinstance(each, tuple | ReplicaFailedError) for each in results)
        await fails_at_once(last)
        await assert_ended(engine, error)
        await fails_at_once(engine.run(Scoring(sequences[0], 1)))
        for sequence in sequences:
            engine.discard(sequence)


async def test_a_model_that_cannot_be_measured_ends_the_engine():
    model = PoisonedLedger()
    model.is_broken = True
    async with running(model) as engine:
        archive = SimpleNamespace()
        engine.use_archive(archive, ComputeRate(1e-3))
        await assert_ended(engine, RuntimeError)


async def test_a_thread_that_cannot_be_started_ends_the_engine(monkeypatch):
    async with running(LedgerModel()) as engine:

        def start():
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(engine._thread._thread, "start", start)
        sequence = engine.open([1])
        await fails_at_once(engine.run(Scoring(sequence, 1)))
        await assert_ended(engine, RuntimeError)


async def test_a_cache_whose_books_are_wrong_is_not_served_from(monkeypatch):
    monkeypatch.setattr("forethought.engine.batching.passes._IDLE_S", 0.02)
    async with running(LedgerModel()) as engine:
        await continued(engine, [1] * 20, 2)
        engine._pool._owners[0] += 1
        await continued(engine, [2] * 20, 2)
        await assert_ended(engine, IntegrityError)


async def test_what_follows_may_fail_and_nobody_notices():
    def follow(*_):
        raise ValueError("cannot tell")

    model = LedgerModel()
    engine = Engine(model, LIMITS, rows_of, follow)
    assert await continued(engine, [1, 2], 5) == alone([1, 2], 5)
    assert engine.failure.error is None
    await engine.close()


async def test_a_request_that_makes_passes_fail_harms_no_other():
    model = PoisonedLedger()
    async with running(model) as engine:
        for _ in range(MAX_BROKEN + 1):
            sequences = [engine.open([each]) for each in range(3)]
            model.may_run.clear()
            asked = [
                asyncio.create_task(engine.run(Scoring(each, 1, (), [guess])))
                for each, guess in zip(sequences, (6, 7, 5), strict=True)
            ]
            await until(lambda: engine._thread.num_messages >= 3 or model.is_waiting)
            model.may_run.set()
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert results[0][0] == [ledger_row([0]), ledger_row([0, 6])]
            assert isinstance(results[1], ReplicaFailedError)
            assert results[2][0] == [ledger_row([2]), ledger_row([2, 5])]
            for sequence in sequences:
                engine.discard(sequence)
        engine.check()


async def test_a_request_that_fails_alone_does_not_end_the_process():
    model = PoisonedLedger()
    async with running(model) as engine:
        for _ in range(MAX_UNEXPLAINED - 1):
            sequence = engine.open([1])
            with pytest.raises(ReplicaFailedError):
                await engine.run(Scoring(sequence, 1, (), [7]))
            engine.discard(sequence)
        assert await continued(engine, [1], 3) == alone([1], 3)
        assert engine.failure.error is None


async def test_passes_that_fail_again_and_again_end_the_engine():
    model = PoisonedLedger()
    async with running(model) as engine:
        sequence = engine.open([1])
        model.is_broken = True
        for _ in range(MAX_BROKEN):
            await fails_at_once(engine.run(Scoring(sequence, 1)))
        await assert_ended(engine, ReplicaFailedError)


async def test_results_that_fail_again_and_again_end_the_engine():
    def finish(works, logits):
        raise TypeError("no result")

    async with running(LedgerModel(), finish) as engine:
        sequence = engine.open([1])
        for _ in range(MAX_UNEXPLAINED):
            await fails_at_once(engine.run(Scoring(sequence, 1)))
        await assert_ended(engine, ReplicaFailedError)


async def test_an_error_that_names_its_cause_is_no_failure_of_the_replica():
    def finish(works, logits):
        raise InvalidArgumentError({"round.drafts": "not these"})

    async with running(LedgerModel(), finish) as engine:
        sequence = engine.open([1])
        for _ in range(MAX_UNEXPLAINED + 1):
            with pytest.raises(InvalidArgumentError):
                await engine.run(Scoring(sequence, 1))
        assert engine.failure.error is None


async def test_nothing_begins_with_blocks_of_a_session_whose_logits_were_no_numbers():
    is_broken = True

    def finish(works, logits):
        if is_broken:
            raise ReplicaFailedError("not numbers")
        return rows_of(works, logits)

    prompt = [1, 2] * 20
    async with running(LedgerModel(), finish) as engine:
        sequence = engine.open(prompt)
        await until(lambda: engine.count_reusable(prompt))
        await fails_at_once(engine.run(Scoring(sequence, len(prompt))))
        await until(lambda: not engine.count_reusable(prompt))
        engine.discard(sequence)
        is_broken = False
        assert await continued(engine, prompt, 3) == alone(prompt, 3)
        engine.check()


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("row", [[nan, 1.0, 2.0], [1.0, inf, 2.0], [-inf] * 3], ids=str)
def test_logits_that_are_no_numbers_are_the_replicas_failure(rows_by, temperature, row):
    logits = torch.tensor([[1.0, 2.0, 3.0], row]).repeat(1, 30)
    with pytest.raises(ReplicaFailedError):
        shape_logits(logits, SamplingParams(temperature=temperature))


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_single_tokens_may_be_impossible(rows_by, temperature):
    logits = torch.tensor([[-inf, 2.0, -inf]])
    assert shape_logits(logits, SamplingParams(temperature=temperature)).tolist() == [[0, 1, 0]]
