"""Drafts by a feature draft: a small layer that guesses from the target's own hidden states.

A round brings the hidden states of the tokens committed since the last one, and the draft goes on
from there with its own guesses of them. A session without any gets no drafts: those of its first
round, which is the target's own, and those of a draft tier that is new to it and has not been told
yet.

q is over the draft's part of the vocabulary, *restricted before it is shaped*, and zero elsewhere.
Rows stay that short until a guess is drawn.

No cache is shared between sessions, since more than tokens goes into it. Nothing is drafted while
the target verifies either: such a draft would rest on guessed hidden states where the request is
about to bring the target's, and the same round would come out otherwise, depending on who is first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from draft_service.feature_context import FeatureContext
from draft_service.model_proposer import ModelProposer, ModelSession
from draft_service.speculation import Bet, Speculation
from forethought.engine.lean.feature_draft import FeatureDecoder
from forethought.engine.loading.warm_up import FeatureTierModel
from forethought.engine.rows.filters import ShapedRows
from forethought.sampling.types import Draft, DraftedToken
from forethought.tier import RoundTimings, SessionOpen, SpeculateRound

MAX_CONTEXT_LEN = 2**20
"""Longest session, tokens. The draft looks at the end of it, as far as it can."""


@dataclass(eq=False, slots=True, kw_only=True)
class FeatureSpeculation(Speculation):
    """One round, over the draft's part of the vocabulary."""

    context: FeatureContext
    model: FeatureDecoder

    @property
    def rows(self) -> ShapedRows:
        """As ever; a penalty is for those of the tokens that the draft may guess."""
        sampling = self.opening.sampling
        if sampling.repetition_penalty == 1:
            return ShapedRows(1, sampling)
        guessed = torch.tensor([guess.token_id for guess in self.guesses], dtype=torch.long)
        seen = torch.cat((self.context.seen_token_ids(), guessed))
        rows = torch.from_numpy(self.model.rows)[seen]  # [tokens]
        return ShapedRows(1, sampling, [rows[rows < self.model.num_guessable]])

    def begin(self) -> Draft | None:
        """Takes up what the round brings.

        Returns:
            An empty draft, if there are no hidden states to draft from.

        Raises:
            CachePositionMismatchError: the round starts beyond what the session knows.
        """
        return None if self.context.advance(self.request) else self._draft()


class FeatureProposer(ModelProposer):
    """Drafts by a feature draft that all sessions share.

    Args:
        loaded: the draft.
        max_support: M.
    """

    def __init__(self, loaded: FeatureTierModel, max_support: int) -> None:
        model = loaded.model
        super().__init__(model, loaded.info, model.num_guessable, max_support, loaded.limits)
        self.model = model
        self._token_ids = torch.from_numpy(model.token_ids)  # [R]
        self.model_len = self.info.max_model_len
        """Longest context that the draft looks at, tokens."""
        self.info = replace(self.info, max_model_len=MAX_CONTEXT_LEN)

    def open(self, opening: SessionOpen) -> "FeatureSession":
        sequence = self.engine.open((), salt=None)
        context = FeatureContext(opening, sequence, self.model, self.model_len)
        return FeatureSession(ModelSession(self, sequence, opening, 0), self, context)

    def look_ahead(self, last: Speculation) -> list[Bet]:  # noqa: ARG002
        """Nothing: see above."""
        return []

    def _scores(self, logits: torch.Tensor) -> torch.Tensor:
        """[n, R and padding] -> [n, R]."""
        return logits[:, : self.model.num_guessable].contiguous()

    def _draw_coupled(self, probs: torch.Tensor, keys: Sequence[int]) -> list[DraftedToken]:
        """From [n, R]; the noise is that of the target's token ids."""
        rows = probs.new_zeros(len(probs), self.model.vocab_size)
        return super()._draw_coupled(rows.index_copy_(1, self._token_ids, probs), keys)

    def _draw_drafts(self, probs: torch.Tensor, uniforms: Sequence[float]) -> list[DraftedToken]:
        """From [n, R]."""
        token_ids = self.model.token_ids
        return [
            replace(
                guess,
                token_id=int(token_ids[guess.token_id]),
                support_token_ids=token_ids[guess.support_token_ids].tolist(),
            )
            for guess in super()._draw_drafts(probs, uniforms)
        ]


class FeatureSession(ModelSession):
    """The drafts of one session.

    Args:
        base: of the session, with its sequence.
        proposer: the draft.
        context: of the session.
    """

    def __init__(
        self, base: ModelSession, proposer: FeatureProposer, context: FeatureContext
    ) -> None:
        super().__init__(proposer, base.sequence, base.opening, 0)
        self._model = proposer.model
        self._max_tokens = proposer.model_len // 2
        self._context = context

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        work = FeatureSpeculation(
            self.sequence,
            request,
            self.opening,
            min(request.num_speculative_tokens, self._max_tokens),
            context=self._context,
            model=self._model,
        )
        return await self.proposer.engine.run(work)
