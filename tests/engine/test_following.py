"""Work that follows from a result is begun at once, a piece ahead of who asks, and changes nothing
but the time. And results do not wait for the pass after theirs."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from forethought.engine.batching.engine import Engine
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.hf.transformers_model import TransformersModel
from forethought.engine.model.packed import PackedPass, SequencePart, pack
from tests.engine.ledger import MAX_LEN, LedgerModel
from tests.engine.scoring import Rows, Scoring, rows_of
from tests.engine.test_engine import LIMITS, alone, continued
from tests.stack import LoadedModel
from tests.waiting import until

PROMPT = [1, 2, 3]


def likeliest(row: list[float]) -> int:
    return row.index(max(row))


def greedy_round(work: Scoring, rows: Rows) -> Scoring | None:
    """The next token's, after a round without guesses."""
    if work.guesses or work.position == MAX_LEN:
        return None
    return replace(work, position=work.position + 1, committed=[likeliest(rows[0])])


@asynccontextmanager
async def following(
    model: LedgerModel, limits: EngineLimits = LIMITS
) -> AsyncIterator[Engine[Scoring, Rows]]:
    engine: Engine[Scoring, Rows] = Engine(model, limits, rows_of, greedy_round)
    try:
        yield engine
    finally:
        await engine.close()
        engine.check()


class Passes(LedgerModel):
    """Counts them. One of them may be held up after its start."""

    def __init__(self, held: int | None = None) -> None:
        super().__init__()
        self.num = 0
        self.may_end = threading.Event()
        self._held = held

    def forward(self, packed: PackedPass):
        self.num += 1
        packed.on_start()
        if self.num == self._held:
            assert self.may_end.wait(10)
        return super().forward(packed)


@pytest.mark.parametrize("num_blocks", [64, 9])
async def test_sessions_have_the_text_they_have_alone_whatever_memory_there_is(num_blocks):
    prompts = [[i % 8, i // 8, *[5, 2] * 9] for i in range(32)]
    async with following(LedgerModel(), replace(LIMITS, num_blocks=num_blocks)) as engine:
        texts = await asyncio.gather(
            *(continued(engine, prompt, 40, num_guesses=i % 3) for i, prompt in enumerate(prompts))
        )
        assert texts == [alone(prompt, 40) for prompt in prompts]
        await until(lambda: not engine.load().num_sessions)
        assert engine.load().num_cached_tokens == 0


async def test_one_piece_is_computed_before_it_is_asked_for_and_no_more():
    model = Passes()
    async with following(model) as engine:
        sequence = engine.open(PROMPT)
        work = Scoring(sequence, len(PROMPT))
        for _ in range(5):
            rows, _ = await engine.run(work)
            work = replace(work, position=work.position + 1, committed=[likeliest(rows[0])])
            # All that is asked for, one more, and the pass over the prompt.
            await until(lambda end=work.position: sequence.num_cached_tokens == end)
            before = model.num
            # Had anything been begun, it would be computed by the time that this is.
            await continued(engine, [7], 3)
            assert sequence.num_cached_tokens == work.position
            assert model.num - before <= 3 + 1


async def test_whoever_asks_during_the_pass_has_the_next_one_begun_too():
    model = Passes(held=2)
    async with following(model) as engine:
        sequence = engine.open(PROMPT[:1])
        work = Scoring(sequence, 1)
        await engine.run(work)
        token_ids = alone(PROMPT[:1], 2)
        asked = asyncio.create_task(engine.run(replace(work, position=2, committed=token_ids[:1])))
        await until(lambda: model.num == 2 and not engine._results._following._begun)
        model.may_end.set()
        rows, _ = await asked
        assert likeliest(rows[0]) == token_ids[1]
        await until(lambda: model.num == 3)


async def test_whoever_asks_between_the_pass_and_its_word_has_the_next_one_begun_too(monkeypatch):
    model = Passes(held=2)
    is_silent, may_tell = threading.Event(), threading.Event()
    async with following(model) as engine:
        sequence = engine.open(PROMPT[:1])
        await engine.run(Scoring(sequence, 1))
        tell = engine._results.tell_kept

        def tell_late() -> None:
            if engine._results._kept:
                is_silent.set()
                assert may_tell.wait(10)
            tell()

        monkeypatch.setattr(engine._results, "tell_kept", tell_late)
        model.may_end.set()
        await until(is_silent.is_set)
        work = Scoring(sequence, 2, alone(PROMPT[:1], 1))
        asked = asyncio.create_task(engine.run(work))
        await until(lambda: not engine._results._following._begun)
        may_tell.set()
        await asked
        await until(lambda: model.num == 3)


@pytest.mark.parametrize("is_ready", [False, True])
async def test_whoever_asks_for_something_else_gets_that(is_ready):
    async with following(LedgerModel()) as engine:
        sequence = engine.open(PROMPT)
        await engine.run(Scoring(sequence, len(PROMPT)))
        if is_ready:
            await until(lambda: sequence.num_cached_tokens == len(PROMPT) + 1)
        tokens = [*PROMPT, 6]
        rows, _ = await engine.run(Scoring(sequence, len(tokens), [6], [4]))
        assert likeliest(rows[0]) == alone(tokens, 1)[0]
        assert likeliest(rows[1]) == alone([*tokens, 4], 1)[0]


async def test_a_session_that_ends_leaves_nothing_behind():
    async with following(LedgerModel()) as engine:
        for _ in range(20):
            sequence = engine.open(PROMPT)
            await engine.run(Scoring(sequence, len(PROMPT)))
            engine.discard(sequence)
        await until(lambda: engine.load().num_sessions == 0)
        assert not engine._results._following._begun
        assert engine.load().num_queued_jobs == 0


async def test_a_result_is_told_as_soon_as_the_next_pass_has_begun():
    model = Passes(held=2)
    async with following(model) as engine:
        await asyncio.wait_for(engine.run(Scoring(engine.open(PROMPT[:1]), 1)), 60)
        model.may_end.set()


@pytest.mark.parametrize("kind", ["lean", "transformers"])
@pytest.mark.parametrize("num_tokens", [1, 48])
@pytest.mark.parametrize("wants_states", [False, True])
def test_models_say_that_they_have_begun_before_they_compute(
    tiny_target: LoadedModel, kind, num_tokens, wants_states
):
    model = copy(tiny_target.model)
    if kind == "transformers":
        folder = tiny_target.files.folder
        own = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        model = TransformersModel(own, 256)
    model.allocate(4)
    model.write_block(0, np.zeros_like(model.read_block(0)))
    found: list[bool] = []  # whether anything is computed at the start
    part = SequencePart([3] * num_tokens, 0, range(3), 1, int(wants_states))
    packed = pack([part], on_start=lambda: found.append(bool(model.read_block(0).any())))
    if wants_states:
        model.forward_with_states(packed)
    else:
        model.forward(packed)
    assert found == [False]
    assert model.read_block(0).any()


async def test_a_result_does_not_wait_for_a_turn():
    """Another tier may have the cores for a while."""

    class Turns(AbstractContextManager[None]):
        def __init__(self) -> None:
            self.is_free = threading.Event()
            self.is_free.set()
            self.num = 0

        def __enter__(self) -> None:
            self.num += 1
            assert self.is_free.wait(10)

        def __exit__(self, *_: object) -> None:
            if self.num == 1:
                self.is_free.clear()

    turns = Turns()
    async with following(LedgerModel(), replace(LIMITS, turns=turns)) as engine:
        sequence = engine.open(PROMPT[:1])  # which computes nothing yet
        await asyncio.wait_for(engine.run(Scoring(sequence, 1)), 60)
        await until(lambda: turns.num == 2)
        turns.is_free.set()
