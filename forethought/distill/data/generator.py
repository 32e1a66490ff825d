"""The target writes its own training data: a shard of conversations at a time, side by side.

Every pass computes the pending tokens of all conversations, mostly one each, and scores all of
them, so that the features and likeliest tokens that training needs cost no pass of their own. A
conversation that ends makes room for the next; the shard is done when all have ended. What is drawn
depends on the seed, the sample and the position alone, and a shard on nothing outside of it, so a
shard that is made again is the same.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch

from forethought.distill.data.conversation import Conversation, Lengths
from forethought.distill.data.prompts import Prompts, uniform
from forethought.distill.data.rows import draw_tokens, top_entries
from forethought.distill.data.shards import Samples, TargetOutputs
from forethought.engine.model.causal_model import CausalModel, device_of
from forethought.engine.model.packed import BLOCK_LEN, SequencePart, pack

_MAX_NEW_ROWS = 256  # tokens of prompts in a pass, besides one for each conversation


@dataclass(frozen=True, slots=True)
class DataOptions:
    """What is generated."""

    num_tokens: int = 500_000
    """At least so many, prompts included; whole shards are made."""
    batch_size: int = 96
    """Conversations side by side."""
    shard_size: int = 128
    """Samples of a shard: an interrupted run loses at most one."""
    num_top: int = 64
    """Entries kept of each of the target's distributions."""
    temperatures: Sequence[float] = (0.0, 0.7, 1.0)
    """Of answers, in equal shares."""
    user_temperature: float = 0.9
    lengths: Lengths = field(default_factory=Lengths)
    seed: int = 0


class Generator:
    """Makes shards.

    Args:
        target: whose cache is taken over.
        prompts: what samples begin with.
        options: what to make.
    """

    def __init__(self, target: CausalModel, prompts: Prompts, options: DataOptions) -> None:
        self._target = target
        self._prompts = prompts
        self._options = options
        longest = max(len(prompts[index].token_ids) for index in range(options.shard_size))
        lengths = options.lengths
        self._max_len = longest + lengths.max_user + len(prompts.turns.footer) + lengths.max_answer
        self._max_len = min(self._max_len, target.max_model_len)
        self._blocks_each = -(-self._max_len // BLOCK_LEN)
        target.allocate(self._blocks_each * options.batch_size)

    def shard(
        self, index: int, on_tokens: Callable[[int], None] = lambda _: None
    ) -> tuple[Samples, TargetOutputs]:
        """The samples `index * shard_size` and on.

        Args:
            index: of the shard.
            on_tokens: told of tokens as they are computed, for progress.
        """
        size = self._options.shard_size
        waiting = (self._begin(number) for number in range(index * size, (index + 1) * size))
        places: list[Conversation | None] = list(islice(waiting, self._options.batch_size))
        num_top = min(self._options.num_top, self._target.vocab_size)
        rows = _Rows(size * self._max_len, num_top)
        ended: list[Conversation] = []
        while any(places):
            on_tokens(self._step(places, rows, index * size * self._max_len))
            for place, each in enumerate(places):
                if each is not None and each.is_done:
                    ended.append(each)
                    places[place] = next(waiting, None)
        kept = sorted(filter(Conversation.is_kept, ended), key=lambda each: each.number)
        return _samples(kept), rows.outputs(
            each.number % size * self._max_len + place
            for each in kept
            for place in range(len(each.log))
        )

    def _begin(self, number: int) -> Conversation:
        options = self._options
        return Conversation(
            number,
            self._prompts[number],
            self._prompts.turns,
            options.lengths,
            options.user_temperature,
            self._max_len,
        )

    def _step(self, places: Sequence[Conversation | None], rows: "_Rows", first_row: int) -> int:
        """One pass and its draws; returns its number of tokens."""
        turns: list[tuple[int, Conversation]] = []
        room = len(places) + _MAX_NEW_ROWS
        for place, each in enumerate(places):
            if each is not None and (not turns or len(each.pending) <= room):
                turns.append((place, each))
                room -= len(each.pending)
        parts = [self._part(place, each) for place, each in turns]
        packed = pack(parts, device_of(self._target))
        logits, features = self._target.forward_with_states(packed)
        where = [
            each.number * self._max_len - first_row + position
            for _, each in turns
            for position in range(each.num_computed, len(each.log))
        ]
        rows.put(where, features, logits)
        last = torch.tensor(packed.bounds[1:]) - 1
        drawn = draw_tokens(
            logits[last],
            [each.temperature for _, each in turns],
            [uniform(self._options.seed, each.number, len(each.log)) for _, each in turns],
        )
        for (_, each), token_id in zip(turns, drawn.tolist(), strict=True):
            each.computed()
            each.add(token_id)
        return len(packed.token_ids)

    def _part(self, place: int, each: Conversation) -> SequencePart:
        first = place * self._blocks_each
        blocks = range(first, first + -(-len(each.log) // BLOCK_LEN))
        pending = each.pending
        return SequencePart(pending, each.num_computed, blocks, len(pending), len(pending))


class _Rows:
    """What a shard's passes bring, at the places of their tokens."""

    def __init__(self, num_rows: int, num_top: int) -> None:
        self._num_rows = num_rows
        self._num_top = num_top
        self._outputs: TargetOutputs | None = None

    def put(self, where: Sequence[int], features: torch.Tensor, logits: torch.Tensor) -> None:
        if self._outputs is None:
            self._outputs = TargetOutputs(
                torch.zeros(self._num_rows, features.shape[-1], dtype=torch.float16),
                torch.zeros(self._num_rows, self._num_top, dtype=torch.int32),
                torch.zeros(self._num_rows, self._num_top, dtype=torch.float16),
            )
        index = torch.tensor(where, dtype=torch.int64)
        ids, logprobs = top_entries(logits, self._num_top)
        self._outputs.features[index] = features.to("cpu", torch.float16)
        self._outputs.top_token_ids[index] = ids.cpu()
        self._outputs.top_logprobs[index] = logprobs.to("cpu", torch.float16)

    def outputs(self, where: Iterator[int]) -> TargetOutputs:
        assert self._outputs is not None
        index = torch.tensor(list(where), dtype=torch.int64)
        return TargetOutputs(
            self._outputs.features[index],
            self._outputs.top_token_ids[index],
            self._outputs.top_logprobs[index],
        )


def _samples(kept: Sequence[Conversation]) -> Samples:
    starts = np.cumsum([0, *(len(each.log) for each in kept)], dtype=np.int64)
    offsets = [each.answer_start for each in kept]
    return Samples(
        token_ids=np.array([token for each in kept for token in each.log], dtype=np.uint32),
        starts=starts,
        answer_starts=starts[:-1] + np.array(offsets, dtype=np.int64),
        temperatures=np.array([each.prompt.temperature for each in kept], dtype=np.float32),
        kinds=np.array([each.prompt.kind for each in kept], dtype=np.int16),
    )
