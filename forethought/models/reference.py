"""What scripts outside this repository import to find a model's files; the home is in `files`."""

from forethought.models.files.reference import ModelFiles, resolve

__all__ = ["ModelFiles", "resolve"]
