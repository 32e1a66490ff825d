"""Drafts by a small causal language model, token after token."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from forethought.engine.causal_model import CausalModel
from forethought.engine.draws import draw_draft
from forethought.engine.filters import row_contexts, shape_logits
from forethought.engine.sequence import CachedSequence
from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness, Stream
from forethought.sampling.types import Draft, DraftedToken
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound


@dataclass(frozen=True, slots=True)
class ModelProposer:
    """Drafts by a model that all sessions share.

    q is the model's distribution, shaped like the target's and cut to its `max_support` most
    likely tokens, so that all of it travels with each guess.
    """

    model: CausalModel
    info: ModelInfo
    num_vocabulary_tokens: int  # ids below this have a meaning
    max_support: int  # M
    name: str = "model"

    def open(self, opening: SessionOpen) -> "ModelSession":
        """A session with its own KV cache."""
        sequence = CachedSequence(self.model)
        sequence.extend(opening.token_ids)
        return ModelSession(self, sequence, opening.sampling)


class ModelSession:
    """The drafts of one session."""

    def __init__(
        self, proposer: ModelProposer, sequence: CachedSequence, sampling: SamplingParams
    ) -> None:
        self._proposer = proposer
        self._sequence = sequence
        self._sampling = sampling

    @property
    def num_cached_tokens(self) -> int:
        return self._sequence.num_cached_tokens

    def prefill(self, max_tokens: int) -> bool:
        return self._sequence.prefill(max_tokens)

    def release(self) -> None:
        self._sequence.release()

    def propose(self, request: SpeculateRound) -> Draft:
        self._sequence.commit(request.position, request.committed_token_ids)
        room = self._proposer.info.max_model_len - request.position
        num_tokens = min(request.num_speculative_tokens, room)
        return Draft(tuple(self._guess(request, num_tokens)))

    def _guess(self, request: SpeculateRound, num_tokens: int) -> Iterator[DraftedToken]:
        """Draws the guesses. The last one is not fed: the next round does that, if it stays."""
        randomness = KeyedRandomness(self._sampling.seed, request.round)
        guessed: list[int] = []
        for offset in range(num_tokens):
            logits = self._sequence.step(guessed[-1]) if guessed else self._sequence.score(())[0]
            contexts = row_contexts(self._sampling, self._sequence, guessed, num_rows=1)
            # Padding beyond the vocabulary has scores too, but no meaning to the target. It is not
            # cut off, since a prompt may hold it and the penalty then looks it up.
            known = logits.clone()[None]  # [1, V]
            known[:, self._proposer.num_vocabulary_tokens :] = -torch.inf
            probs = shape_logits(known, self._sampling, contexts)[0]  # [V]
            u = randomness.uniform(Stream.DRAFT, request.position + offset)
            token = draw_draft(probs, self._proposer.max_support, u)
            guessed.append(token.token_id)
            yield token
