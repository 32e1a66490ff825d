"""What a suffix automaton must find, by comparing every place of a text with its end."""

from collections.abc import Sequence


def ends_of(run: Sequence[int], text: Sequence[int]) -> list[int]:
    """Where in `text` a run ends and is followed by something."""
    length = len(run)
    return [end for end in range(length, len(text)) if list(text[end - length : end]) == list(run)]


def longest_match(tail: Sequence[int], text: Sequence[int], max_match: int) -> int:
    """Length of the longest suffix of `tail` that occurs in `text` before its end."""
    lengths = range(min(max_match, len(tail)), 0, -1)
    return next((length for length in lengths if ends_of(tail[-length:], text)), 0)


def by_brute_force(
    tail: Sequence[int], text: Sequence[int], num_tokens: int, max_match: int, min_prob: float
) -> list[int]:
    """The most frequent path after the longest match of `tail` in `text`."""
    guesses, prob, period = [], 1.0, 0
    length = longest_match(tail, text, max_match)
    if not length:
        return []
    context = list(tail[-length:])
    while len(guesses) < num_tokens:
        followers = [text[end] for end in ends_of(context, text)]
        if followers and not period:
            latest = {token: index for index, token in enumerate(followers)}
            best = max(latest, key=lambda token: (followers.count(token), latest[token]))
            prob *= followers.count(best) / len(followers) * len(context) / (len(context) + 1)
        else:
            # Only the end of the text is left, which the guesses have just been said to follow.
            period = period or len(guesses)
            best = guesses[-period]
            prob *= len(context) / (len(context) + 1)
        if prob < min_prob:
            break
        guesses.append(best)
        context = [*context, best][-max_match:]
    return guesses
