"""Whether the target can give what a draft guesses from."""

from forethought.tier import ModelInfo


def foreign_hidden_states(draft: ModelInfo, target: ModelInfo) -> str:
    """Why a draft would have nothing to guess from; empty where it has, or needs nothing.

    Number formats are no matter: they change hidden states by less than a draft notices.
    """
    need = draft.hidden_states_need
    if need is None:
        return ""
    if not target.hidden_size:
        return f"{draft.name} guesses from hidden states, which {target.name} does not give"
    trained_on = (need.target_fingerprint, need.hidden_size)
    if trained_on in {
        (target.weights_fingerprint, target.hidden_size),
        (target.model_fingerprint, target.hidden_size),
    }:
        return ""
    return (
        f"{draft.name} guesses from the hidden states of another model "
        f"({need.target_fingerprint}, {need.hidden_size} elements) than {target.name} "
        f"({target.weights_fingerprint}, {target.hidden_size} elements)"
    )
