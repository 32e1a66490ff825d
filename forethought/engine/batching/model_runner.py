"""A pass through the model, and what the tier makes of its logits. For the engine's thread.

Tiers that share cores hold `turns` during the model's part, see `pass_turns.py`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter_ns
from typing import Any, Generic

import torch

from forethought.engine.batching.failed_passes import Outcome
from forethought.engine.batching.following import ResultT, WorkT
from forethought.engine.batching.scheduler import Job, ScheduledPart
from forethought.engine.cache.block_pool import BlockPool
from forethought.engine.cache.sequence import num_blocks_for
from forethought.engine.model.causal_model import CausalModel, device_of
from forethought.engine.model.packed import PackedPass, SequencePart, pack
from forethought.engine.native.cores import bind_threads

Finish = Callable[[Sequence[WorkT], torch.Tensor], Sequence[ResultT | None]]
"""What a tier makes of logits: work whose tokens are computed, and [R, V] float32 with the
`num_logits` rows of each, in order -> a result for each, or None if its log has grown and it wants
another pass. Must change nothing if it raises."""


class ModelRunner(Generic[WorkT, ResultT]):
    """Runs passes.

    Args:
        model: with its cache.
        pool: of the blocks in that cache.
        finish: the tier's part.
        turns: held while the model computes, if it shares its cores.
    """

    def __init__(
        self,
        model: CausalModel,
        pool: BlockPool,
        finish: Finish[WorkT, ResultT],
        turns: AbstractContextManager[None] | None,
    ) -> None:
        self._model = model
        self._pool = pool
        self._device = device_of(model)
        self._finish = finish
        self._turns = turns

    @property
    def is_on_cpu(self) -> bool:
        """Whether a pass has ended when `forward` returns; elsewhere it may still be under way."""
        return self._device.type == "cpu"

    def use_this_thread(self) -> None:
        """Prepares the thread that calls all else."""
        # OpenMP counts threads for each thread that computes, and this one is new to it.
        torch.set_num_threads(torch.get_num_threads())
        if self.is_on_cpu:
            bind_threads()

    def forward(
        self, scheduled: Sequence[ScheduledPart], on_start: Callable[[], None]
    ) -> tuple[torch.Tensor, int]:
        """The logits of a pass, and when it started, `perf_counter_ns`. Hidden states go to the
        sequences that want them.

        Args:
            scheduled: what to compute.
            on_start: called when the pass is under way, and before a wait for shared cores.
        """
        packed = pack([each.part for each in scheduled], self._device, on_start=on_start)
        if self._turns is not None:
            on_start()  # it may take a while until it is our turn
        with self._turns or nullcontext():
            started_ns = perf_counter_ns()
            return self._logits(packed, scheduled), started_ns

    def outcomes(self, jobs: list[Job], logits: torch.Tensor) -> list[Outcome]:
        """Result or error of each job; neither for one that wants another pass."""
        if not jobs:
            return []
        work: list[Any] = [job.work for job in jobs]
        try:
            results = self._finish(work, logits)
            return [(job, result, None) for job, result in zip(jobs, results, strict=True)]
        except Exception as error:  # noqa: BLE001 - told to the callers
            if len(jobs) == 1:
                return [(jobs[0], None, error)]
        # One of them is at fault; the others shall not suffer for it.
        rows = torch.split(logits, [job.num_logits for job in jobs])
        return [self.outcomes([job], own)[0] for job, own in zip(jobs, rows, strict=True)]

    def measure_prompt(self, num_tokens: int) -> float:
        """Seconds that a prompt takes. Its blocks are the first of the pool, where nothing may be
        yet."""
        part = SequencePart([0] * num_tokens, 0, range(num_blocks_for(num_tokens)), 1)
        with self._turns or nullcontext():
            started_ns = perf_counter_ns()
            # Copied, so that a device has finished when the time is taken.
            self._model.forward(pack([part], self._device))[:1, :1].cpu()
        return (perf_counter_ns() - started_ns) / 1e9

    def can_compute(self) -> bool:
        """Whether the model computes numbers from a token that nobody asked for."""
        blocks = self._pool.allocate(1)
        if blocks is None:
            return False
        try:
            packed = pack([SequencePart([0], 0, blocks, 1)], self._device)
            with self._turns or nullcontext():
                return bool(self._model.forward(packed).isfinite().any())
        except Exception:  # noqa: BLE001 - that is the answer
            return False
        finally:
            self._pool.release(blocks)

    def _logits(self, packed: PackedPass, scheduled: Sequence[ScheduledPart]) -> torch.Tensor:
        if packed.hidden_rows is None:
            return self._model.forward(packed)
        logits, rows = self._model.forward_with_states(packed)
        sizes = [each.part.num_hidden_states for each in scheduled]
        for each, own in zip(scheduled, torch.split(rows, sizes), strict=True):
            part, states = each.part, each.job.sequence.states
            if states is not None and len(own):
                states.take(part.start + len(part.token_ids) - len(own), own)
        return logits
