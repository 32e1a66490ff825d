"""What a tier relies on in what it is asked, by the limits of its model."""

from collections.abc import Sequence

from forethought.errors import InvalidArgumentError
from forethought.tier import ModelInfo

GIVES_NO_HIDDEN_STATES = "must not be set: this tier gives no hidden states"


def check_position(position: int, committed_token_ids: Sequence[int], model: ModelInfo) -> None:
    if not max(1, len(committed_token_ids)) <= position <= model.max_model_len:
        raise InvalidArgumentError(
            {
                "round.position": (
                    "must cover the committed tokens and lie within the model's "
                    f"{model.max_model_len} tokens"
                )
            }
        )
    check_token_ids("round.committed_token_ids", committed_token_ids, model)


def check_token_ids(field: str, token_ids: Sequence[int], model: ModelInfo) -> None:
    if token_ids and max(token_ids) >= model.vocab_size:
        raise InvalidArgumentError(
            {field: f"must be below the vocabulary's size of {model.vocab_size}"}
        )
