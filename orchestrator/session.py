"""The state of a generation: what is committed, and nothing that cannot be said in a few words."""

from dataclasses import dataclass, replace

from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness
from forethought.sampling.types import Outcome, VerificationMode


@dataclass(frozen=True, slots=True)
class Session:
    """A prompt and its output so far."""

    session_id: str
    token_ids: tuple[int, ...]  # committed: prompt, then output
    max_len: int  # length at which generation ends, tokens
    sampling: SamplingParams
    round: int = 0
    mode: VerificationMode = VerificationMode.REJECTION
    tenant: str = ""

    @property
    def position(self) -> int:
        """Committed length: where the next token goes."""
        return len(self.token_ids)

    @property
    def room(self) -> int:
        """Tokens that may still be committed."""
        return self.max_len - self.position

    @property
    def randomness(self) -> KeyedRandomness:
        """The draws of the coming round."""
        return KeyedRandomness(self.sampling.seed, self.round)

    def commit(self, outcome: Outcome) -> "Session":
        """The session after a round."""
        token_ids = (*self.token_ids, *(token.token_id for token in outcome.tokens))
        return replace(self, token_ids=token_ids, round=self.round + 1)
