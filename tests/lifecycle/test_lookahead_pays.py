"""A draft that is a third as slow as its target makes its drafts while the target verifies."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace

import pytest
import torch

from forethought.engine.model.packed import PackedPass
from forethought.generation import GenerationParams, GenerationRequest
from forethought.sampling.types import VerificationMode
from tests.lifecycle.throttle import ThrottledModel
from tests.stack import Answer, LoadedModel, generate, running_stack

TARGET_S = 0.06
DRAFT_S = TARGET_S / 3
K = 3
NO_BET_S = 1.0
"""Time that a pass of the target gives a draft which may not be computing."""


@dataclass
class Timeline:
    """Which passes of the draft come within one of the target.

    A pass of the target lasts until the draft has made one of its own drafts meanwhile, however
    busy the machine is.
    """

    waits: bool
    num_target_passes: int = 0
    num_draft_passes_outside: int = 0
    _meanwhile: int | None = None  # passes of the draft within that of the target
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def seconds(self) -> float:
        """What it takes where passes alone take time."""
        return TARGET_S * self.num_target_passes + DRAFT_S * self.num_draft_passes_outside

    @contextmanager
    def target_pass(self) -> Iterator[None]:
        with self._changed:
            self.num_target_passes += 1
            self._meanwhile = 0
        yield
        with self._changed:
            if self.waits:
                self._changed.wait_for(lambda: self._meanwhile >= K, NO_BET_S)
            self._meanwhile = None

    @contextmanager
    def draft_pass(self) -> Iterator[None]:
        yield
        with self._changed:
            if self._meanwhile is None:
                self.num_draft_passes_outside += 1
            else:
                self._meanwhile += 1
                self._changed.notify_all()


class Timed(ThrottledModel):
    """A model whose passes stand on a timeline."""

    def __init__(self, model, pass_s: float, one_pass) -> None:
        super().__init__(model, pass_s)
        self._one_pass = one_pass

    def __copy__(self) -> "Timed":
        return Timed(copy(self._model), self._pass_s, self._one_pass)

    def forward(self, packed: PackedPass) -> torch.Tensor:
        with self._one_pass():
            return super().forward(packed)


async def answered(
    model: LoadedModel, request: GenerationRequest, *, looks_ahead: bool
) -> tuple[Answer, float]:
    """The answer, and what its passes take."""
    timeline = Timeline(waits=looks_ahead)
    draft = replace(model, model=Timed(model.model, DRAFT_S, timeline.draft_pass))
    proposer = draft.proposer()
    proposer.num_bets = int(looks_ahead)
    target = replace(model, model=Timed(model.model, 0, timeline.target_pass))
    async with running_stack(target, proposer) as stack:
        answer = await generate(stack.client, request)
    return answer, timeline.seconds


@pytest.mark.parametrize(
    "params",
    [
        GenerationParams(temperature=0),
        GenerationParams(seed=3, verification_mode=VerificationMode.COUPLED),
    ],
    ids=["greedy", "coupled"],
)
async def test_lookahead_makes_the_same_text_at_least_15_percent_faster(long_target, params):
    params = replace(params, max_tokens=48, ignore_eos=True, num_speculative_tokens=K)
    request = GenerationRequest([3, 4, 5, 6, 7], params)
    plain, plain_s = await answered(long_target, request, looks_ahead=False)
    ahead, ahead_s = await answered(long_target, request, looks_ahead=True)
    assert ahead.token_ids == plain.token_ids
    assert ahead.finished.speculation.lookahead.num_hits > 0
    assert plain.finished.speculation.lookahead.num_hits == 0
    assert plain_s / ahead_s >= 1.15, (plain_s, ahead_s)
