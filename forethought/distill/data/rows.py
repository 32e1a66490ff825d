"""What is kept of a row of logits, and one token drawn from it.

Both look at groups of the vocabulary first. Group j of G holds the tokens j, j + G, j + 2 G, ...,
so that a maximum or a sum over all groups runs along memory. The k largest of a row are in the k
groups with the largest maxima: instead of all of a row, 16 k candidates are sorted.

Letters: N rows, V vocabulary, G groups.
"""

from collections.abc import Sequence

import torch

_GROUP_LEN = 16


def top_entries(logits: torch.Tensor, num_top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest tokens of each row, in falling order, and their log-probabilities.

    Args:
        logits: [N, V] float32.
        num_top: k, at most V.

    Returns:
        Ids [N, k] int32 and natural logarithms [N, k] float32.
    """
    groups = _grouped(logits)  # [N, 16, G]
    num_groups = groups.shape[-1]
    best = groups.amax(dim=1).topk(min(num_top, num_groups), sorted=False).indices  # [N, k]
    places = (
        torch.arange(_GROUP_LEN, device=logits.device)[:, None] * num_groups + best[:, None]
    )  # [N, 16, k]
    candidates = groups.flatten(1).gather(1, places.flatten(1))  # [N, 16 k]
    values, chosen = candidates.topk(num_top)
    ids = places.flatten(1).gather(1, chosen)
    return ids.int(), values - logits.logsumexp(dim=-1, keepdim=True)


def draw_tokens(
    logits: torch.Tensor, temperatures: Sequence[float], uniforms: Sequence[float]
) -> torch.Tensor:
    """One token of each row, by inversion of its distribution.

    Args:
        logits: [N, V] float32.
        temperatures: N; 0 takes the likeliest.
        uniforms: N draws from [0, 1).

    Returns:
        [N] int64.
    """
    tokens = logits.argmax(dim=-1)
    sampled = [row for row, temperature in enumerate(temperatures) if temperature > 0]
    if not sampled:
        return tokens
    divisors = logits.new_tensor([temperatures[row] for row in sampled])
    draws = divisors.new_tensor([uniforms[row] for row in sampled], dtype=torch.float64)
    logits = logits[sampled]
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / divisors[:, None]
    weights = _grouped(scaled).exp()  # [n, 16, G]
    sums = weights.sum(dim=1).double().cumsum(dim=-1)  # [n, G]
    points = draws[:, None] * sums[:, -1:]
    group = torch.searchsorted(sums, points, right=True).clamp_(max=sums.shape[-1] - 1)  # [n, 1]
    own = weights.gather(2, group[:, None].expand(-1, _GROUP_LEN, -1))[..., 0].double()  # [n, 16]
    rest = points - (sums.gather(1, group) - own.sum(dim=-1, keepdim=True))
    place = torch.searchsorted(own.cumsum(dim=-1), rest, right=True)
    # Rounding may lead beyond the last token that has any weight.
    last = (
        (own > 0).long().mul(torch.arange(_GROUP_LEN, device=own.device)).amax(dim=-1, keepdim=True)
    )
    tokens[sampled] = (torch.minimum(place, last) * sums.shape[-1] + group)[:, 0]
    return tokens


def _grouped(rows: torch.Tensor) -> torch.Tensor:
    """[N, V] -> [N, 16, G], filled up with what has no probability."""
    missing = -rows.shape[-1] % _GROUP_LEN
    if missing:
        rows = torch.nn.functional.pad(rows, (0, missing), value=-torch.inf)
    return rows.view(len(rows), _GROUP_LEN, -1)
