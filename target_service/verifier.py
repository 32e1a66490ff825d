"""Parallel verification of one round, in the engine's thread."""

from collections.abc import Callable
from dataclasses import replace

from forethought.engine.draws import logprob_rows, measure
from forethought.engine.filters import row_contexts, shape_logits
from forethought.engine.sequence import CachedSequence
from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness, Stream
from forethought.sampling.types import Evidence
from forethought.tier import VerifyRound

Verify = Callable[[CachedSequence, VerifyRound, SamplingParams], Evidence]
"""Measures a round; the seam for tests and benchmarks."""


def verify(sequence: CachedSequence, request: VerifyRound, sampling: SamplingParams) -> Evidence:
    """Measures K drafted tokens in one forward pass over the last committed token and the drafts.

    Args:
        sequence: the session's tokens and KV cache; rolled back to the committed ones first.
        request: the round.
        sampling: shapes p, the same way as q was shaped.

    Returns:
        K + 1 positions; the last has an empty support, so that its tail token is the bonus token.

    Raises:
        CachePositionMismatchError: the round starts beyond what the sequence knows.
    """
    sequence.commit(request.position, request.committed_token_ids)
    draft_token_ids = [draft.token_id for draft in request.drafts]
    supports = [*(draft.support_token_ids for draft in request.drafts), ()]

    logits = sequence.score(draft_token_ids)  # [K + 1, V]
    contexts = row_contexts(sampling, sequence, draft_token_ids, num_rows=len(logits))
    probs = shape_logits(logits, sampling, contexts)  # [K + 1, V]

    randomness = KeyedRandomness(sampling.seed, request.round)
    uniforms = [
        randomness.uniform(Stream.TAIL, request.position + row) for row in range(len(supports))
    ]
    positions = measure(probs, supports, uniforms)
    if request.num_logprobs is not None:
        tail_token_ids = [position.tail_token_id for position in positions]
        rows = logprob_rows(logits, supports, tail_token_ids, request.num_logprobs)
        positions = [
            replace(position, logprobs=row) for position, row in zip(positions, rows, strict=True)
        ]
    return Evidence(tuple(positions))
