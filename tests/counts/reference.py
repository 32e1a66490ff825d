"""What a table of counts should say, by plain dictionaries."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from forethought.counts.builder import BuildOptions
from forethought.counts.corpus import Corpus

Context = tuple[int, ...]
Guesses = list[tuple[int, float]]
"""Tokens with their probabilities, the likeliest first."""


def contexts_by_dictionaries(corpus: Corpus, options: BuildOptions) -> dict[Context, Guesses]:
    """The likeliest tokens and their probabilities after each context that is kept."""
    counts = _count(corpus, options.max_context)
    probs: dict[Context, dict[int, float]] = {}
    lists: dict[Context, Guesses] = {}
    told: dict[Context, tuple[int, float]] = {(): (-1, 0.0)}
    kept = {}
    for length in range(options.max_context + 1):
        contexts = {context: after for context, after in counts.items() if len(context) == length}
        if length < max(map(len, counts)):
            kinds = {context: _num_before(counts, context) for context in contexts}
        else:
            kinds = contexts
        discount = _discount([n for after in kinds.values() for n in after.values()])
        for context, occurred in contexts.items():
            after = kinds[context]
            total = after.total()
            if not length:
                probs[context] = {token: n / total for token, n in after.items()}
                lists[context] = _best(probs[context], options.max_guesses)
                continue
            parent = context[1:]
            backoff = discount * len(after) / total
            probs[context] = {
                token: (n - discount) / total + backoff * probs[parent][token]
                for token, n in after.items()
            }
            left = {token: prob * backoff for token, prob in lists[parent]}
            lists[context] = _best(left | probs[context], options.max_guesses)
            token, prob = lists[context][0]
            inherited, its_prob = told[parent]
            says_something = token != inherited or abs(prob - its_prob) >= options.min_change
            likely = max(prob, its_prob) >= options.min_prob
            if occurred.total() >= options.min_count and says_something and likely:
                kept[context] = lists[context]
            told[context] = kept[context][0] if context in kept else told[parent]
    return kept


def guesses_by_dictionary(kept: dict[Context, Guesses], text: Sequence[int]) -> Guesses | None:
    """What follows the longest suffix that is kept."""
    suffixes = (tuple(text[start:]) for start in range(len(text)))
    return next((kept[suffix] for suffix in suffixes if suffix in kept), None)


def _num_before(counts: dict[Context, Counter[int]], context: Context) -> Counter[int]:
    """After how many different tokens the context was followed by what."""
    before = [after for other, after in counts.items() if other and other[1:] == context]
    return Counter(
        {token: max(1, sum(token in after for after in before)) for token in counts[context]}
    )


def _count(corpus: Corpus, max_context: int) -> dict[Context, Counter[int]]:
    counts: dict[Context, Counter[int]] = defaultdict(Counter)
    token_ids = corpus.token_ids.tolist()
    for start, answer, end in zip(
        corpus.starts[:-1], corpus.answer_starts, corpus.starts[1:], strict=True
    ):
        for place in range(answer, end):
            for length in range(min(max_context, place - start) + 1):
                counts[tuple(token_ids[place - length : place])][token_ids[place]] += 1
    return counts


def _discount(counts: Sequence[int]) -> float:
    once, twice = counts.count(1), counts.count(2)
    return once / (once + 2 * twice) if once and twice else 0.75


def _best(probs: dict[int, float], max_guesses: int) -> Guesses:
    return sorted(probs.items(), key=lambda each: (-each[1], each[0]))[:max_guesses]
