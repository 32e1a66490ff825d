"""Sampling parameters and their limits, the same on every tier."""

from dataclasses import dataclass

from forethought.errors import InvalidArgumentError

MAX_TEMPERATURE = 100.0
MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY = 0.01, 100.0
MAX_SUPPORT = 256
"""Most tokens in the support of a draft distribution."""
MAX_TOP_LOGPROBS = 20
MAX_SEED = 2**64 - 1


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How scores become a distribution: repetition penalty, temperature, top-k, top-p, min-p,
    in this order, as in transformers.

    Raises:
        InvalidArgumentError: a value is out of range or not a number.
    """

    temperature: float = 1.0  # 0 selects the most likely token
    top_k: int = 0  # 0 keeps all
    top_p: float = 1.0  # 1 keeps all
    min_p: float = 0.0  # 0 keeps all
    repetition_penalty: float = 1.0  # 1 changes nothing
    seed: int = 0

    def __post_init__(self) -> None:
        violations = {
            name: text
            for name, valid, text in (
                (
                    "temperature",
                    0 <= self.temperature <= MAX_TEMPERATURE,
                    f"must be from 0 to {MAX_TEMPERATURE:g}",
                ),
                ("top_k", self.top_k >= 0, "must not be negative"),
                ("top_p", 0 < self.top_p <= 1, "must be above 0 and at most 1"),
                ("min_p", 0 <= self.min_p <= 1, "must be from 0 to 1"),
                (
                    "repetition_penalty",
                    MIN_REPETITION_PENALTY <= self.repetition_penalty <= MAX_REPETITION_PENALTY,
                    f"must be from {MIN_REPETITION_PENALTY:g} to {MAX_REPETITION_PENALTY:g}",
                ),
                ("seed", 0 <= self.seed <= MAX_SEED, "must be a 64-bit unsigned number"),
            )
            if not valid
        }
        if violations:
            raise InvalidArgumentError(violations)

    @property
    def shape(self) -> tuple[float, ...]:
        """All that makes a distribution of scores: equal for equal distributions, whatever seed."""
        return self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty

    @property
    def is_greedy(self) -> bool:
        """Whether the distribution is one-hot on the most likely token."""
        return self.temperature == 0
