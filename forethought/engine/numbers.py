"""Whether a model says numbers at all."""

import torch


def refuse_what_is_no_number(logits: torch.Tensor, dtype_name: str) -> None:
    """Raises ValueError, with the likely reasons, if some logit is not finite."""
    if not logits.isfinite().all():
        raise ValueError(
            "its own logits are not numbers: its weights are damaged, or too large for "
            f"{dtype_name}"
        )
