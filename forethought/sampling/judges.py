"""Step 3: one judge for each verification mode."""

from collections.abc import Callable, Mapping

from forethought.sampling.block import judge_block
from forethought.sampling.coupled import judge_coupled
from forethought.sampling.randomness import Randomness
from forethought.sampling.rejection import judge
from forethought.sampling.types import Draft, Evidence, Outcome, VerificationMode

Judge = Callable[[Draft, Evidence, Randomness, int], Outcome]
"""Decides a round from draft, evidence, randomness and the committed length."""

JUDGES: Mapping[VerificationMode, Judge] = {
    VerificationMode.REJECTION: judge,
    VerificationMode.BLOCK: judge_block,
    VerificationMode.COUPLED: judge_coupled,
}
