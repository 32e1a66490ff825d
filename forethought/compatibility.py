"""Whether a draft fits a target, by what both say of themselves."""

from forethought.tier import ModelInfo


def unusable_draft(draft: ModelInfo, target: ModelInfo) -> str:
    """Why a draft cannot serve a target; empty where it can. Which model drafts does not matter
    otherwise."""
    return another_vocabulary(draft, target) or foreign_hidden_states(draft, target)


def another_vocabulary(model: ModelInfo, target: ModelInfo) -> str:
    """Why the tokens of a model mean something else to a target; empty where they do not."""
    if model.vocabulary_fingerprint in {"", target.vocabulary_fingerprint}:
        return ""
    return (
        f"{model.name} has another vocabulary ({model.vocabulary_fingerprint}) than the target "
        f"{target.name} ({target.vocabulary_fingerprint})"
    )


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
