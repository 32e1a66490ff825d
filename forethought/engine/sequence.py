"""The tokens of a session and what of them is computed: the heart of the KV cache handling.

A sequence is one log of tokens, seen at two marks:

    log      t0 t1 t2 t3 t4 | d0 d1 d2
                            ^ num_tokens: committed before, speculative behind
    cache    t0 t1 t2 t3 t4   d0 d1            the cache holds a prefix of the log

Everything follows from two rules. *The cache always holds a prefix of the log*, so whatever is cut
from the log is cut from the cache. *A commit keeps what it finds in the log already*, token by
token: accepted guesses keep the keys and values that verification gave them, and the first
different token cuts away the rest. Nobody has to say how many guesses were accepted, and a commit
that repeats, corrects or shortens the past is no special case.

The last token committed is normally not computed yet: it is the recovered or bonus token that the
target has just drawn. Both tiers feed it at the head of the next pass, and a draft, which never
feeds its own last guess, feeds that one along with it when all guesses were accepted.
"""

from collections.abc import Sequence

import torch

from forethought.engine.causal_model import CausalModel
from forethought.engine.seen_tokens import SeenTokens
from forethought.errors import CachePositionMismatchError, InvalidArgumentError


class CachedSequence:
    """The token log of one session on one tier, with its KV cache."""

    __slots__ = ("_cache", "_log", "_model", "_num_cached_tokens", "_num_tokens", "_seen")

    def __init__(self, model: CausalModel) -> None:
        self._model = model
        self._cache = model.new_cache()
        self._log: list[int] = []  # committed tokens, then speculative ones
        self._num_tokens = 0
        self._num_cached_tokens = 0
        self._seen: SeenTokens | None = None  # of the committed tokens, once asked for

    @property
    def num_tokens(self) -> int:
        """Committed length, tokens."""
        return self._num_tokens

    @property
    def num_cached_tokens(self) -> int:
        """Tokens with keys and values in memory, speculative ones included.

        A number of its own, so that any thread may read it while a pass fills the cache.
        """
        return self._num_cached_tokens

    @property
    def token_ids(self) -> list[int]:
        """The committed tokens, as a list of the caller's own. Copies all: not for every round."""
        return self._log[: self._num_tokens]

    def seen_token_ids(self) -> torch.Tensor:
        """The distinct committed tokens, [m] long on the model's device, not to be changed.

        The first call counts all that is committed, and commits keep count from then on.
        """
        if self._seen is None:
            self._seen = SeenTokens(self._model.vocab_size, self._model.device_name)
            self._seen.add(self.token_ids)
        return self._seen.token_ids

    def commit(self, position: int, committed_token_ids: Sequence[int]) -> None:
        """Makes `position` the committed length, with the given tokens at its end.

        Computes nothing. Speculative tokens are forgotten, unless they are what is committed.

        Args:
            position: the new length. All beyond it is dropped.
            committed_token_ids: the tokens at [position - n, position).

        Raises:
            CachePositionMismatchError: tokens before these are not known.
            InvalidArgumentError: the model has no such token, or no room for it.
        """
        start = position - len(committed_token_ids)
        if not 0 <= start <= self._num_tokens:
            raise CachePositionMismatchError(
                f"tokens for [{start}, {position}) where {self._num_tokens} are known"
            )
        self._check(committed_token_ids, position)
        num_kept = _common_prefix_len(self._log[start:position], committed_token_ids)
        num_same = min(start + num_kept, self._num_tokens)
        if self._seen is not None:
            self._seen.remove(self._log[num_same : self._num_tokens])
        self._cut(start + num_kept)
        self._log.extend(committed_token_ids[num_kept:])
        self._num_tokens = position
        if self._seen is not None:
            self._seen.add(self._log[num_same:])

    def extend(self, token_ids: Sequence[int]) -> None:
        """Commits tokens after those committed so far; raises as `commit` does."""
        self.commit(self._num_tokens + len(token_ids), token_ids)

    def prefill(self, max_tokens: int) -> bool:
        """Computes the next committed tokens, so that a long prompt can be taken in chunks.

        Leaves the last one to `score` or `step`, which want its logits.

        Args:
            max_tokens: the longest chunk, at least 1.

        Returns:
            Whether more are left to compute.
        """
        end = self._num_tokens - 1
        start = self._cache.length
        if start < end:
            self._compute(min(start + max_tokens, end), num_logits=0)
        return start + max_tokens < end

    def score(self, draft_token_ids: Sequence[int]) -> torch.Tensor:
        """Scores K guesses in one pass over them and all that is committed but not computed.

        The guesses stay as speculative tokens, in place of any earlier ones.

        Returns:
            [K + 1, V] float32 logits: row i is what the model expects after the committed tokens
            and the first i guesses.

        Raises:
            InvalidArgumentError: nothing is committed, or the model has no such token, or no room.
        """
        if not self._num_tokens:
            raise InvalidArgumentError({"token_ids": "at least one must be committed"})
        end = self._num_tokens + len(draft_token_ids)
        self._check(draft_token_ids, end)
        # The last committed token is computed again where it was, since row 0 is its logits.
        self._cut_cache(self._num_tokens - 1)
        self._log[self._num_tokens :] = draft_token_ids
        return self._compute(end, num_logits=len(draft_token_ids) + 1)

    def step(self, token_id: int) -> torch.Tensor:
        """Appends one speculative token: a guess from which the next one follows.

        Returns:
            [V] float32 logits after that token.

        Raises:
            InvalidArgumentError: the model has no such token, or no room for it.
        """
        end = len(self._log) + 1
        self._check((token_id,), end)
        self._log.append(token_id)
        return self._compute(end, num_logits=1)[0]

    def release(self) -> None:
        """Frees the keys and values. The committed tokens stay, to be computed again if need be."""
        del self._log[self._num_tokens :]
        self._cache = self._model.new_cache()
        self._num_cached_tokens = 0

    def _compute(self, end: int, num_logits: int) -> torch.Tensor:
        """One pass over the log from the end of the cache to `end`; [num_logits, V] logits."""
        try:
            token_ids = self._log[self._cache.length : end]
            logits = self._model.forward(token_ids, self._cache, num_logits)
        except BaseException:
            # A pass that was broken off may have filled some layers and not others.
            self.release()
            raise
        self._num_cached_tokens = self._cache.length
        return logits

    def _cut(self, length: int) -> None:
        """Forgets all tokens from `length` on."""
        del self._log[length:]
        self._cut_cache(length)

    def _cut_cache(self, length: int) -> None:
        if length < self._cache.length:
            self._cache.truncate(length)
            self._num_cached_tokens = length

    def _check(self, token_ids: Sequence[int], length: int) -> None:
        """Refuses here what would be a fault on the device there."""
        if length > self._model.max_model_len:
            raise InvalidArgumentError(
                {"token_ids": f"{length} tokens, the model takes {self._model.max_model_len}"}
            )
        if token_ids and not 0 <= min(token_ids) <= max(token_ids) < self._model.vocab_size:
            raise InvalidArgumentError({"token_ids": "not in the model's vocabulary"})


def _common_prefix_len(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences share from their start."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
