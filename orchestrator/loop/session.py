"""The state of a generation: what is committed, and nothing that cannot be said in a few words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from forethought.sampling.hidden_states import HiddenStates, joined
from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness
from forethought.sampling.types import Outcome, VerificationMode
from orchestrator.loop.committed_tokens import CommittedTokens


@dataclass(frozen=True, slots=True)
class Session:
    """A prompt and its output so far."""

    session_id: str
    token_ids: Sequence[int]  # committed: prompt, then output
    max_len: int  # length at which generation ends, tokens
    sampling: SamplingParams
    round: int = 0
    mode: VerificationMode = VerificationMode.REJECTION
    tenant: str = ""
    hidden_states: HiddenStates | None = None  # the target's, of the latest committed tokens
    max_hidden_states: int = 128  # positions

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

    def commit(self, outcome: Outcome, hidden_states: HiddenStates | None = None) -> "Session":
        """The session after a round.

        Args:
            outcome: of the round.
            hidden_states: of the committed tokens and the guesses, as evidence brings them. Those
                of rejected guesses are dropped. The last token of the outcome has none yet.
        """
        new = [token.token_id for token in outcome.tokens]
        token_ids = CommittedTokens.of(self.token_ids).followed_by(new)
        states = joined(self.hidden_states, hidden_states)
        if states is not None:
            last = len(token_ids) - 1
            states = states.within(last - self.max_hidden_states, last)
        return replace(self, token_ids=token_ids, round=self.round + 1, hidden_states=states)
