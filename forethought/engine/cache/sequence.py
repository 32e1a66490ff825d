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

Keys and values lie in blocks of a pool. A block that is full of committed tokens is published, for
other sequences that begin alike, and never written again: whoever cuts into it gives it up whole,
and computes the rest of it anew.
"""

from array import array
from collections.abc import Callable, Sequence

import torch

from forethought.engine.cache.block_pool import BlockPool, root_key
from forethought.engine.cache.hidden_tail import SequenceStates
from forethought.engine.cache.seen_tokens import SeenTokens
from forethought.engine.model.packed import BLOCK_LEN, SequencePart
from forethought.errors import CachePositionMismatchError, InvalidArgumentError


class CachedSequence:
    """The token log of one session on one tier, with its part of the KV cache.

    Args:
        pool: where its blocks come from.
        vocab_size: V; tokens are below it.
        max_len: longest log, tokens.
        device_name: where `seen_token_ids` are wanted.
        salt: sequences with different salts share no blocks; with None it shares none at all.
    """

    __slots__ = (
        "_block_ids",
        "_device_name",
        "_keys",
        "_log",
        "_max_len",
        "_num_computed",
        "_num_tokens",
        "_pool",
        "_salt",
        "_seen",
        "_vocab_size",
        "states",
    )

    def __init__(
        self,
        pool: BlockPool,
        vocab_size: int,
        max_len: int,
        device_name: str = "cpu",
        salt: bytes | None = b"",
    ) -> None:
        self._pool = pool
        self._vocab_size = vocab_size
        self._max_len = max_len
        self._device_name = device_name
        self._salt = salt
        self._log: list[int] = []  # committed tokens, then speculative ones
        self._num_tokens = 0
        self._num_computed = 0
        self._block_ids = array("i")
        self._keys: list[bytes] = []  # of the published ones, which come first
        self._seen: SeenTokens | None = None  # of the committed tokens, once asked for
        self.states: SequenceStates | None = None
        """Hidden states that go with its tokens, if any do."""

    @property
    def max_len(self) -> int:
        """Longest log, tokens."""
        return self._max_len

    @property
    def num_tokens(self) -> int:
        """Committed length, tokens."""
        return self._num_tokens

    @property
    def num_cached_tokens(self) -> int:
        """Tokens with keys and values in memory, speculative ones included. Any thread may ask."""
        return self._num_computed

    @property
    def num_uncomputed(self) -> int:
        """Tokens of the log without keys and values."""
        return len(self._log) - self._num_computed

    @property
    def block_ids(self) -> Sequence[int]:
        """The blocks it owns, in order. Not to be changed."""
        return self._block_ids

    @property
    def token_ids(self) -> list[int]:
        """The committed tokens, as a list of the caller's own. Copies all: not for every round."""
        return self._log[: self._num_tokens]

    def seen_token_ids(self) -> torch.Tensor:
        """The distinct committed tokens, [m] long on the model's device, not to be changed.

        The first call counts all that is committed, and commits keep count from then on.
        """
        if self._seen is None:
            self._seen = SeenTokens(self._vocab_size, self._device_name)
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
        num_kept = common_prefix_len(self._log[start:position], committed_token_ids)
        num_same = min(start + num_kept, self._num_tokens)
        if self._seen is not None:
            self._seen.remove(self._log[num_same : self._num_tokens])
        del self._log[start + num_kept :]
        self._cut_cache(len(self._log))
        self._log.extend(committed_token_ids[num_kept:])
        self._num_tokens = position
        if self._seen is not None:
            self._seen.add(self._log[num_same:])
        self._publish()

    def extend(self, token_ids: Sequence[int]) -> None:
        """Commits tokens after those committed so far; raises as `commit` does."""
        self.commit(self._num_tokens + len(token_ids), token_ids)

    def speculate(self, token_ids: Sequence[int]) -> None:
        """Puts guesses behind the committed tokens, in place of any earlier ones.

        The next passes score the last committed token and the guesses: K + 1 positions.

        Raises:
            InvalidArgumentError: nothing is committed, or the model has no such token, or no room.
        """
        if not self._num_tokens:
            raise InvalidArgumentError({"token_ids": "at least one must be committed"})
        self._check(token_ids, self._num_tokens + len(token_ids))
        # The last committed token is computed again where it was, since its logits are wanted.
        self._cut_cache(self._num_tokens - 1)
        self._log[self._num_tokens :] = token_ids

    def guess(self, token_id: int) -> None:
        """Puts one guess behind the others.

        Raises:
            InvalidArgumentError: the model has no such token, or no room for it.
        """
        self._check((token_id,), len(self._log) + 1)
        self._log.append(token_id)

    def take_prefix(self) -> None:
        """Takes over published blocks, if it has none of its own.

        The last committed token is never among what they hold, since its logits are wanted.
        """
        if self._salt is not None and not self._block_ids and self._num_tokens > BLOCK_LEN:
            prefix = self._log[: self._num_tokens - 1]
            block_ids, self._keys = self._pool.take_prefix(prefix, self._salt)
            self._block_ids.extend(block_ids)
            self._num_computed = BLOCK_LEN * len(self._block_ids)

    def restore_block(self, fill: Callable[[int], None]) -> bool:
        """Gets the keys and values of its next block, full of committed tokens, from elsewhere.

        Args:
            fill: puts them into the block whose id it gets.

        Returns:
            Whether there was a block for them.
        """
        blocks = self._pool.allocate(1)
        if blocks is None:
            return False
        self._block_ids.extend(blocks)
        fill(blocks[0])
        self.computed(BLOCK_LEN)
        return True

    def num_missing_blocks(self, num_tokens: int) -> int:
        """Blocks it lacks to compute so many more tokens."""
        return max(num_blocks_for(self._num_computed + num_tokens) - len(self._block_ids), 0)

    def part(self, num_tokens: int, num_logits: int) -> SequencePart | None:
        """The next tokens for a pass, with blocks for them; None if the pool has too few.

        Args:
            num_tokens: how many, at least 1.
            num_logits: positions to score, counted from the end of these.
        """
        blocks = self._pool.allocate(self.num_missing_blocks(num_tokens))
        if blocks is None:
            return None
        self._block_ids.extend(blocks)
        start = self._num_computed
        end = start + num_tokens
        used = self._block_ids[: num_blocks_for(end)]
        tokens, states = self._log[start:end], self.states
        if states is None:
            return SequencePart(tokens, start, used, num_logits)
        num_wanted = states.num_wanted(start, end, num_logits)
        return SequencePart(tokens, start, used, num_logits, num_wanted, states.inputs(start, end))

    def computed(self, num_tokens: int) -> None:
        """A pass has filled the keys and values of so many more tokens."""
        self._num_computed += num_tokens
        self._publish()

    def release(self) -> None:
        """Gives up all blocks. The committed tokens stay, to be computed again if need be."""
        self._pool.release(self._block_ids)
        self._block_ids = array("i")
        self._keys = []
        self._num_computed = 0

    def withdraw(self) -> None:
        """Gives up all blocks, of which no other sequence shall begin with any: what they hold may
        not be what it should."""
        self._pool.withdraw(self._block_ids)
        self.release()

    def swap(self, other: "CachedSequence") -> None:
        """Exchanges all that two sequences of a pool and salt hold."""
        for name in ("_log", "_num_tokens", "_num_computed", "_block_ids", "_keys", "_seen"):
            mine, its = getattr(self, name), getattr(other, name)
            setattr(self, name, its)
            setattr(other, name, mine)

    def forget(self, length: int) -> None:
        """Has what is computed from `length` on computed again: it rests on what was a guess."""
        self._cut_cache(length)

    def _cut_cache(self, length: int) -> None:
        """Forgets keys and values from `length` on."""
        if length >= self._num_computed:
            return
        num_full = length // BLOCK_LEN
        if len(self._keys) > num_full:
            self._pool.release(self._block_ids[num_full:])
            del self._block_ids[num_full:], self._keys[num_full:]
            length = num_full * BLOCK_LEN
        self._num_computed = length

    def _publish(self) -> None:
        if self._salt is None:
            return
        num_full = min(self._num_tokens, self._num_computed) // BLOCK_LEN
        for index in range(len(self._keys), num_full):
            parent = self._keys[-1] if self._keys else root_key(self._salt)
            tokens = self._log[index * BLOCK_LEN : (index + 1) * BLOCK_LEN]
            self._keys.append(self._pool.publish(self._block_ids[index], parent, tokens))

    def _check(self, token_ids: Sequence[int], length: int) -> None:
        """Refuses here what would be a fault on the device there."""
        if length > self._max_len:
            raise InvalidArgumentError(
                {"token_ids": f"{length} tokens, the model takes {self._max_len}"}
            )
        if token_ids and not 0 <= min(token_ids) <= max(token_ids) < self._vocab_size:
            raise InvalidArgumentError({"token_ids": "not in the model's vocabulary"})


def num_blocks_for(num_tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-num_tokens // BLOCK_LEN)


def common_prefix_len(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences share from their start."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
