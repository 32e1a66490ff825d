"""Engines with an archive, as a tier has them, and what sessions get from them."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, replace

import torch

from forethought.engine.batching.engine import Engine
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.cache.block_archive import BlockArchive, ComputeRate
from forethought.engine.model.causal_model import CausalModel
from forethought.kv_archive import KVArchive
from forethought.store.blocks.block_codec import BlockFormat
from forethought.store.blocks.block_store import BlockStoreSettings
from forethought.store.blocks.write_behind import WriteBehindSettings
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from tests.engine.conftest import Reference
from tests.engine.scoring import Rows, Scoring, rows_of

VOCAB_SIZE, MAX_LEN = 16, 320
LIMITS = EngineLimits(num_blocks=64)
FINGERPRINT = "tiny"

ScoringEngine = Engine[Scoring, Rows]


class SteadyRate(ComputeRate):
    """What is said in the beginning stays true."""

    def passed(self, num_tokens: int, seconds: float) -> None:
        """Nothing is learnt: tiny models compute faster than any store delivers."""


SLOW, FAST = SteadyRate(1.0), SteadyRate(1e-7)
"""Of computing: everything pays that a store can do, and nothing does."""


def format_of(model: CausalModel, fingerprint: str = FINGERPRINT) -> BlockFormat:
    layout = model.kv_layout
    return BlockFormat(fingerprint, layout.name, layout.dtype_name, layout.shape)


def patient(url: str) -> StoreConnection:
    """The machine may be busy: most of these tests are not about time."""
    return StoreConnection(ConnectionSettings(url, timeout_s=10))


def archive_at(
    url: str,
    block_format: BlockFormat,
    reading: BlockStoreSettings | None = None,
    writing: WriteBehindSettings | None = None,
) -> KVArchive:
    return KVArchive(patient(url), block_format, reading, writing)


@asynccontextmanager
async def running(
    model: CausalModel,
    archive: BlockArchive,
    rate: ComputeRate = SLOW,
    limits: EngineLimits = LIMITS,
) -> AsyncIterator[ScoringEngine]:
    """An engine with an empty pool. An archive with `close` is closed behind it."""
    engine: ScoringEngine = Engine(copy(model), limits, rows_of)
    engine.use_archive(archive, rate)
    try:
        yield engine
    finally:
        await engine.close()
        engine.check()
        if isinstance(archive, KVArchive):
            await archive.writer.close(20)
            await archive.close()


@dataclass(frozen=True)
class Said:
    """What a session got after its prompt."""

    rows: torch.Tensor  # [rounds, V]
    token_ids: list[int]  # the likeliest, one a round
    num_restored: int  # tokens


async def say(
    engine: ScoringEngine, prompt: Sequence[int], num_tokens: int = 1, salt: bytes = b""
) -> Said:
    """Opens a session and goes on greedily."""
    sequence = engine.open(prompt, salt)
    try:
        num_restored = await engine.count_restored(sequence)
        rows: list[list[float]] = []
        token_ids: list[int] = []
        for _ in range(num_tokens):
            work = Scoring(sequence, len(prompt) + len(token_ids), token_ids[-1:])
            (row,), _ = await engine.run(work)
            rows.append(row)
            token_ids.append(row.index(max(row)))
        return Said(torch.tensor(rows), token_ids, num_restored)
    finally:
        engine.discard(sequence)


def assert_right(said: Said, prompt: Sequence[int], reference: Reference) -> None:
    """Each row is transformers' own for the whole text, and so is its likeliest token."""
    tokens = [*prompt, *said.token_ids]
    wanted = reference(tokens)[len(prompt) - 1 : -1]
    torch.testing.assert_close(said.rows, wanted, atol=1e-4, rtol=1e-4)
    assert said.token_ids == wanted.argmax(-1).tolist()


def a_prompt(num_tokens: int, seed: int = 0) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(VOCAB_SIZE) for _ in range(num_tokens)]


def with_blocks(num_blocks: int) -> EngineLimits:
    return replace(LIMITS, num_blocks=num_blocks)
