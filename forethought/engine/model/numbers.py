"""Whether a model says numbers at all."""

import torch


def refuse_what_is_no_number(logits: torch.Tensor, dtype_name: str) -> None:
    """Raises ValueError, with the likely reasons, if a row has no finite maximum. Tokens that can
    never be said have -inf, as where a draft knows only a part of the vocabulary.

    Args:
        logits: [..., V].
    """
    if not logits.amax(-1).isfinite().all():
        raise ValueError(
            "its own logits are not numbers: its weights are damaged, or too large for "
            f"{dtype_name}"
        )
