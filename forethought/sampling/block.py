"""Step 3 by blocks (Sun et al., arXiv 2403.10444, algorithm 2).

Plain rejection sampling asks guess by guess, and a guess that q overrates ends the round even where
the guesses before it were underrated. Here whole beginnings of the draft are judged. Each has a
*weight*, the share of it that p supports:

    w_0 = 1,   w_i = min(1, w_{i-1} p(x_i) / q(x_i))

The beginning of i tokens is kept with probability r_i / (r_i + 1 - w_i), where r_i is the sum of
(w_i p - q)+ at the position after it, and the whole draft with probability w_K. The longest that is
kept counts. A token of norm((w_i p - q)+) follows it; after the whole draft, the bonus token.

The output is distributed as p, and on average no fewer tokens are accepted than guess by guess.
Every beginning is tested in every round, so positions behind the last accepted token are tested
again in the next one: unlike in plain rejection sampling, these tests would not be independent if
their draws were not keyed by round.

q is zero outside its support, so there (w p - q)+ is w p, and evidence reduced to the support and
one token of the tail is enough here too.
"""

from typing import Any

from forethought.sampling.randomness import Randomness, Stream
from forethought.sampling.rejection import recover, residual
from forethought.sampling.tokens import check_fit, support_token, tail_token
from forethought.sampling.types import Draft, Evidence, Outcome, TokenOrigin


def judge_block(draft: Draft, evidence: Evidence, randomness: Randomness, position: int) -> Outcome:
    """Decides a round; takes, returns and raises what `rejection.judge` does."""
    check_fit(draft, evidence)
    places = [token.support_token_ids.index(token.token_id) for token in draft.tokens]
    checked = evidence.positions
    num_accepted, weights = 0, list[Any]()  # of the longest beginning kept, and what follows it
    weight: Any = 1
    for length, (drafted, place) in enumerate(zip(draft.tokens, places, strict=True)):
        after = residual(drafted, checked[length], weight)  # [M + 1]
        if length == 0 or _is_kept(sum(after), weight, randomness, position + length - 1):
            num_accepted, weights = length, after
        share, q = weight * checked[length].target_probs[place], drafted.draft_probs[place]
        weight = share / q if share < q else 1  # no division by what q may be next to: zero
    if draft.tokens and randomness.uniform(Stream.ACCEPT, position + len(draft) - 1) < weight:
        num_accepted = len(draft)
    accepted = [
        support_token(draft.tokens[index], checked[index], places[index], TokenOrigin.ACCEPTED)
        for index in range(num_accepted)
    ]
    if num_accepted == len(draft):
        return Outcome((*accepted, tail_token(checked[-1], TokenOrigin.BONUS)))
    u = randomness.uniform(Stream.RESIDUAL, position + num_accepted)
    last = recover(draft.tokens[num_accepted], checked[num_accepted], weights, u)
    return Outcome((*accepted, last))


def _is_kept(mass: Any, weight: Any, randomness: Randomness, position: int) -> bool:
    """Whether the beginning that ends with the guess at `position` may be the whole."""
    # u < r / (r + 1 - w) without the division. If p and q are equal from here on, r is 0 and w is
    # 1, and a longer beginning is kept. 1 - w comes first: r + 1 would round, and a beginning of
    # weight 1, which is certain, would be dropped now and then.
    return bool(randomness.uniform(Stream.ACCEPT, position) * (1 - weight + mass) < mass)
