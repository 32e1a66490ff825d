"""Are the models of a deployment on this machine? Asked before a process starts."""

from forethought.errors import ModelReferenceError
from forethought.local.plan.plan_error import PlanError
from forethought.models.files.reference import is_on_hub, resolve


def check_models(model: str, draft_model: str | None) -> None:
    """Refuses models that are not there; those on the hub are found, and downloaded, by the tiers.

    Raises:
        PlanError: it says by which option the model was named.
    """
    for flag, reference in (("--model", model), ("--draft-model", draft_model)):
        if reference is None or is_on_hub(reference):
            continue
        try:
            resolve(reference)
        except ModelReferenceError as error:
            raise PlanError(f"{flag} {reference}: {error.message}") from error
