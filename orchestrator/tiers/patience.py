"""How long a session waits for its tiers."""

from dataclasses import dataclass, field

from orchestrator.tiers.round_limit import RoundLimit

MIN_OPENING_S = 1.0
"""Time that the answer to an opening gets in any case: it has to cross the network."""


@dataclass(frozen=True, slots=True)
class DraftPatience:
    """How long a session waits for its draft."""

    open_s: float = 0.25
    """For the tier to take a request off our hands: the opening of a stream, with the time that a
    connection takes, or a round."""
    round_s: float = 2.0
    """A round waits so long for its draft, and the first one for the opening too. A late draft is
    dropped when it comes, and none is asked for until then."""
    first_backoff_s: float = 0.25
    """Until a lost stream is opened again; doubles with each failure."""
    max_backoff_s: float = 10.0
    """Longest time between two attempts."""


@dataclass(frozen=True, slots=True)
class ReopenOptions:
    """What happens when the target's stream is lost."""

    patience_s: float = 10.0
    """How long the target may stay lost, from the first failure on; also how long it may leave an
    opening unanswered, though that is never less than `MIN_OPENING_S`. A round that is under way is
    not bounded by it: that a target fell silent is found out by `KeepAlive`, and patience begins
    then."""
    interval_s: float = 0.2
    """Time between two attempts where there is no other replica to go to. A target that is full
    says itself when to ask again."""
    opening_s: float = 2.0
    """How long an opening may go unanswered where there is another replica to go to."""
    round_limit: RoundLimit = field(default_factory=RoundLimit)
    """How long a round may take there."""
