"""The same models as where tiers come and go on one address."""

from tests.lifecycle.conftest import long_draft, long_target, long_target_folder

__all__ = ["long_draft", "long_target", "long_target_folder"]
