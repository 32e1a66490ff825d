"""What a table of counts should say, by plain dictionaries."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from forethought.counts.builder import BuildOptions
from forethought.counts.corpus import Corpus

Context = tuple[int, ...]


def contexts_by_dictionaries(
    corpus: Corpus, options: BuildOptions
) -> dict[Context, tuple[int, float]]:
    """The guess and its probability after each context that is kept."""
    counts = _count(corpus, options.max_context)
    probs: dict[Context, dict[int, float]] = {}
    best: dict[Context, tuple[int, float]] = {}
    told: dict[Context, tuple[int, float]] = {(): (-1, 0.0)}
    kept = {}
    for length in range(options.max_context + 1):
        contexts = {context: after for context, after in counts.items() if len(context) == length}
        if length < options.max_context:
            kinds = {context: _num_before(counts, context) for context in contexts}
        else:
            kinds = contexts
        discount = _discount([n for after in kinds.values() for n in after.values()])
        for context, occurred in contexts.items():
            after = kinds[context]
            total = sum(after.values())
            if not length:
                probs[context] = {token: n / total for token, n in after.items()}
                best[context] = _likeliest(probs[context])
                continue
            parent = context[1:]
            backoff = discount * len(after) / total
            probs[context] = {
                token: (n - discount) / total + backoff * probs[parent][token]
                for token, n in after.items()
            }
            best[context] = _likeliest(probs[context])
            unseen = backoff * best[parent][1]
            if unseen > best[context][1]:
                best[context] = best[parent][0], unseen
            (token, prob), (inherited, its_prob) = best[context], told[parent]
            says_something = token != inherited or abs(prob - its_prob) >= options.min_change
            likely = max(prob, its_prob) >= options.min_prob
            if occurred.total() >= options.min_count and says_something and likely:
                kept[context] = best[context]
            told[context] = kept.get(context, told[parent])
    return kept


def guess_by_dictionary(
    kept: dict[Context, tuple[int, float]], text: Sequence[int]
) -> tuple[int, float] | None:
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


def _likeliest(probs: dict[int, float]) -> tuple[int, float]:
    token = min(probs, key=lambda token: (-probs[token], token))
    return token, probs[token]
