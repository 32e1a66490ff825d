"""Drafts by a model with another tokenizer than the target's, through token-level intersection.

Sessions speak the target's token ids: the tier names the target's vocabulary, and whoever speaks
with it sees no difference. Only two things are translated. A row of the draft model's logits
becomes a row over the target's ids, with minus infinity for what the draft has no token for. From
there on everything is as ever: the penalty, temperature, top-k, top-p and min-p, the cut to M
tokens, and the draw, be it from q or by shared noise. So q is the draft's distribution over the
intersection, *restricted before it is shaped*: top-k counts tokens that can be guessed. And the
context goes to the draft model through its text, by `context_translation.py`.

Within a round a guess is fed as the token that the draft model meant. The next round tokenizes the
committed text anew; where that gives other tokens than were guessed, `CachedSequence.commit` keeps
what is the same.
"""

from dataclasses import dataclass, replace

import structlog
import torch

from draft_service.context_translation import DraftContext, Translation, Translator
from draft_service.model_proposer import ModelProposer, ModelSession
from draft_service.speculation import Speculation
from draft_service.vocabulary import SharedVocabulary, shared_vocabulary
from forethought.engine.cache.seen_tokens import SeenTokens
from forethought.engine.loading.warm_up import TierModel
from forethought.engine.model.causal_model import device_of
from forethought.engine.rows.filters import ShapedRows
from forethought.models.text.tokenizer import TextTokenizer
from forethought.sampling.types import Draft
from forethought.tier import RoundTimings, SessionOpen, SpeculateRound

_log = structlog.get_logger(__name__)

MAX_TARGET_TOKENS = 16
"""For a token that the draft model takes, most target tokens that a context may have. Only its text
tells how much of it the model takes, and what is surely too much is not translated to find out."""


@dataclass(eq=False, slots=True, kw_only=True)
class TranslatedSpeculation(Speculation):
    """One round whose committed tokens have been translated."""

    translation: Translation
    shared: SharedVocabulary
    seen_token_ids: torch.Tensor | None  # [m], committed target tokens; None without a penalty

    @property
    def rows(self) -> ShapedRows:
        """As ever, over the target's tokens."""
        if self.seen_token_ids is None:
            return ShapedRows(1, self.opening.sampling)
        guessed = torch.tensor([guess.token_id for guess in self.guesses], dtype=torch.long)
        context = torch.cat((self.seen_token_ids, guessed.to(self.seen_token_ids.device)))
        return ShapedRows(1, self.opening.sampling, [context])

    def begin(self) -> None:
        """Rolls back to what is still true of the last translation."""
        self.sequence.commit(self.translation.num_tokens, self.translation.token_ids)
        self.sequence.speculate(())

    def feed(self, token_id: int) -> None:
        """Puts the draft's own token into the log."""
        self.sequence.guess(self.shared.draft_ids[token_id])


class TranslatedProposer(ModelProposer):
    """Drafts by a model in the target's tokens.

    Args:
        loaded: the model, with its own tokenizer.
        target: the tokenizer that sessions speak.
        max_support: M.

    Raises:
        VocabularyMismatchError: the vocabularies share too little.
    """

    def __init__(self, loaded: TierModel, target: TextTokenizer, max_support: int) -> None:
        draft = loaded.tokenizer
        self.shared = shared_vocabulary(target, draft)
        self.translator = Translator(target, draft, self.shared)
        super().__init__(loaded.model, loaded.info, draft.vocab_size, max_support, loaded.limits)
        self.model_len = self.info.max_model_len
        """Longest context that the model takes, its own tokens."""
        self.info = replace(
            self.info,
            vocabulary_fingerprint=target.fingerprint,
            vocab_size=target.vocab_size,
            max_model_len=MAX_TARGET_TOKENS * self.model_len,
        )
        device = device_of(loaded.model)
        self._target_ids = torch.from_numpy(self.shared.target_token_ids).to(device)  # [n]
        self._draft_ids = torch.from_numpy(self.shared.draft_token_ids).to(device)  # [n]
        _log.info(
            "vocabulary_translated",
            draft=draft.name,
            target=target.name,
            num_shared_tokens=len(self.shared),
            share_of_target=round(self.shared.share, 3),
        )

    def open(self, opening: SessionOpen) -> "TranslatedSession":
        context = DraftContext(self.translator, opening.token_ids)
        translation = context.translation()
        token_ids = translation.token_ids
        if len(token_ids) > self.model_len:
            # It will get no guesses, and is no error: to its client it is not too long.
            token_ids = token_ids[:1]
        else:
            context.mark_known()
        salt = opening.tenant.encode()
        num_reused_tokens = self.engine.count_reusable(token_ids, salt)
        sequence = self.engine.open(token_ids, salt)
        seen = None
        if opening.sampling.repetition_penalty != 1:
            seen = SeenTokens(self.info.vocab_size, self.info.device)
            seen.add(opening.token_ids)
        base = ModelSession(self, sequence, opening, num_reused_tokens)
        return TranslatedSession(base, self, context, seen)

    def _scores(self, logits: torch.Tensor) -> torch.Tensor:
        """[n, V of the draft] -> [n, V of the target], minus infinity outside the intersection."""
        rows = logits.new_full((len(logits), self.info.vocab_size), -torch.inf)
        return rows.index_copy_(1, self._target_ids, logits.index_select(1, self._draft_ids))


class TranslatedSession(ModelSession):
    """The drafts of one session. Does not look ahead: what it bets on would have to be translated.

    Args:
        context: of the session, with what the draft model knows of it.
        seen: committed target tokens; None without a penalty.
    """

    def __init__(
        self,
        base: ModelSession,
        translated: TranslatedProposer,
        context: DraftContext,
        seen: SeenTokens | None,
    ) -> None:
        super().__init__(base.proposer, base.sequence, base.opening, base.num_reused_tokens)
        self.translated = translated
        self.context = context
        self.seen = seen

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        dropped = self.context.commit(request.position, request.committed_token_ids)
        if self.seen is not None:
            self.seen.remove(dropped)
            self.seen.add(request.committed_token_ids)
        translation = self.context.translation()
        room = self.translated.model_len - translation.num_tokens
        if room < 0:
            return Draft(), RoundTimings()
        self.context.mark_known()
        k = min(request.num_speculative_tokens, room) if translation.is_whole else 0
        work = TranslatedSpeculation(
            self.sequence,
            request,
            self.opening,
            k,
            translation=translation,
            shared=self.translated.shared,
            seen_token_ids=None if self.seen is None else self.seen.token_ids,
        )
        return await self.translated.engine.run(work)
