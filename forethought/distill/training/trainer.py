"""Stage (b): training, step by step, from the last checkpoint."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch.nn import functional

from forethought.distill.drafts.draft import TrainableDraft
from forethought.distill.samples.batches import Batch, Batches, BatchOptions
from forethought.distill.samples.corpus import Corpus
from forethought.distill.training.loss import match, mean_loss
from forethought.distill.training.optimiser import Optimiser, Schedule
from forethought.errors import InvalidArgumentError

DraftT = TypeVar("DraftT", bound=TrainableDraft)

_NUM_MEASURED = 4096  # tokens whose features are measured
_NUM_MATCHED = 512  # positions of a step that acceptance is shown for


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a draft is trained."""

    num_steps: int = 2000
    num_unrolled: int = 2
    """Drafted positions that are trained for in the last stretch, while the learning rate goes
    down; before that it is the first one alone. Later ones depend on the draft's own guesses."""
    later_weight: float = 0.5
    """Weight of each drafted position's loss, relative to that of the one before."""
    acceptance_weight: float = 0.7
    """What part of the loss is, in the last stretch, minus the logarithm of the acceptance that is
    expected. The rest, and all of it before, is the cross-entropy."""
    feature_weight: float = 0.3
    """Weight of the distance to the target's own features, in their standard deviations: what keeps
    the draft's guesses fit to take their place."""
    matrix_rate: float = 5e-4
    vector_rate: float = 5e-4
    num_warm_up: int = 20
    decay_share: float = 0.4
    """Of the steps: how long the last stretch is."""
    checkpoint_every: int = 100
    batches: BatchOptions = field(default_factory=BatchOptions)

    @property
    def schedule(self) -> Schedule:
        return Schedule(
            self.num_steps,
            min(self.num_warm_up, self.num_steps // 4),
            max(round(self.num_steps * self.decay_share), 1),
        )


@dataclass(frozen=True, slots=True)
class Point:
    """Of the training curve."""

    step: int
    loss: float  # of the first drafted position, nats
    overlap: float  # expected acceptance there at temperature 1
    agreement: float  # greedy


class Trainer(Generic[DraftT]):
    """Trains a draft, with a checkpoint that holds all that the rest of the run depends on.

    Args:
        draft: to be trained.
        corpus: the data.
        batches: of its samples.
        options: how.
        checkpoint: the file; training goes on from there if it exists.

    Raises:
        InvalidArgumentError: the checkpoint is of a run with another number of steps, too late to
            change it.
    """

    def __init__(
        self,
        draft: DraftT,
        corpus: Corpus,
        batches: Batches,
        options: TrainOptions,
        checkpoint: Path,
    ) -> None:
        self.draft = draft
        self.curve: list[Point] = []
        self.num_done = 0
        """Steps."""
        self.seconds = 0.0
        """That they took, interruptions left out."""
        self._corpus = corpus
        self._batches = batches
        self._options = options
        self._checkpoint = checkpoint
        sample = corpus.features[:: max(len(corpus.features) // _NUM_MEASURED, 1)].float()
        self._deviation = sample.std(dim=0).clamp_(min=1e-3)  # [H]
        self._optimiser = Optimiser(
            self.draft, options.matrix_rate, options.vector_rate, options.schedule
        )
        if checkpoint.exists():
            self._restore(torch.load(checkpoint, weights_only=True))

    def run(
        self,
        on_step: Callable[[Point], None] = lambda _: None,
        on_checkpoint: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Does the steps that are left.

        Args:
            on_step: told of each.
            on_checkpoint: told of the number of steps in a checkpoint that has just been written.
        """
        while self.num_done < self._options.num_steps:
            started = time.perf_counter()
            self.curve.append(self._step(self.num_done))
            self.seconds += time.perf_counter() - started
            self.num_done += 1
            is_last = self.num_done == self._options.num_steps
            if is_last or self.num_done % self._options.checkpoint_every == 0:
                self._save()
                on_checkpoint(self.num_done)
            on_step(self.curve[-1])

    def _step(self, step: int) -> Point:
        batch = self._batches[step]
        is_late = step >= self._options.schedule.decay_start
        num_unrolled = self._options.num_unrolled if is_late and self.draft.feeds_back else 1
        acceptance_weight = self._options.acceptance_weight if is_late else 0.0
        guesses = self.draft.steps(self._corpus, batch, num_unrolled)
        losses = [
            self._loss(guess, batch, is_scored, acceptance_weight)
            for guess, is_scored in zip(guesses, scored_by_step(batch, len(guesses)), strict=True)
        ]
        total = torch.stack(losses) @ torch.tensor(
            [self._options.later_weight**index for index in range(len(losses))]
        )
        total.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step(step)
        index = batch.index[batch.is_scored][:_NUM_MATCHED]
        shown = guesses[0].detach()[batch.is_scored][:_NUM_MATCHED]
        fit = match(shown, self.draft.head, self._corpus.top(index))
        return Point(
            step, float(losses[0].detach()), float(fit.overlap.mean()), float(fit.agreement.mean())
        )

    def _loss(
        self,
        guess: torch.Tensor,
        batch: Batch,
        is_scored: torch.Tensor,
        acceptance_weight: float,
    ) -> torch.Tensor:
        index, hidden = batch.index[is_scored], guess[is_scored]
        loss = mean_loss(hidden, self.draft.head, self._corpus.top(index), acceptance_weight)
        if self.draft.feeds_back and self._options.feature_weight:
            wanted = self._corpus.features[index].float() / self._deviation
            distance = functional.smooth_l1_loss(hidden / self._deviation, wanted)
            loss = loss + self._options.feature_weight * distance
        return loss

    def _save(self) -> None:
        self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self._checkpoint.with_suffix(".partial")
        state = {
            "num_done": self.num_done,
            "num_steps": self._options.num_steps,
            "seconds": self.seconds,
            "draft": self.draft.state_dict(),
            "optimiser": self._optimiser.state(),
            "curve": [asdict(point) for point in self.curve],
        }
        torch.save(state, partial)
        partial.replace(self._checkpoint)

    def _restore(self, state: dict[str, Any]) -> None:
        before = replace(self._options, num_steps=state["num_steps"]).schedule
        after = self._options.schedule
        starts = {before.decay_start, after.decay_start}
        if len(starts) > 1 and state["num_done"] > min(starts):
            raise InvalidArgumentError(
                {
                    "steps": f"must stay {state['num_steps']}: after {state['num_done']} steps the "
                    "last stretch of training has begun, or would have"
                }
            )
        self.num_done = state["num_done"]
        self.seconds = state["seconds"]
        self.draft.load_state_dict(state["draft"])
        self._optimiser.restore(state["optimiser"])
        self.curve = [Point(**point) for point in state["curve"]]


def scored_by_step(batch: Batch, num_steps: int) -> Sequence[torch.Tensor]:
    """[B, L] bool for each unrolled step: positions with enough of their text before them."""
    depth = batch.rows.depth()
    return [batch.is_scored & (depth >= step) for step in range(num_steps)]
