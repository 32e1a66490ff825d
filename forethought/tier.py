"""What travels between the orchestrator and a tier, as values.

A session on a tier is one stream: a SessionOpen, then rounds. `position` is the committed length;
it implies the rollback, since a tier drops whatever lies beyond it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from forethought import __version__
from forethought.sampling.hidden_states import HiddenStates
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Draft, Evidence, VerificationMode

DEFAULT_MAX_SPECULATIVE_TOKENS = 16
"""Most tokens that a tier drafts or verifies in one round, unless it is told otherwise."""

LARGEST_MAX_SPECULATIVE_TOKENS = 128
"""Most that it can be told."""

MAX_NUM_THREADS = 1024
"""Of one operation on a CPU; with far more the process dies where it asks the system for them."""

SESSION_IDLE_TIMEOUT_S = 60.0
"""Time after which a tier ends a session that asks for nothing, or whose answers nobody reads."""


@dataclass(frozen=True, slots=True)
class PassCost:
    """How long a forward pass takes, by its size."""

    num_tokens: int  # over all its sessions
    forward_ns: int


@dataclass(frozen=True, slots=True)
class HiddenStatesNeed:
    """What a draft needs of the target besides tokens."""

    target_fingerprint: str  # of the model it was trained on, or of that model's weights
    hidden_size: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a tier serves."""

    name: str  # the reference it was loaded from
    model_fingerprint: str  # over configuration and weights; empty without a model
    vocabulary_fingerprint: str  # over the ordered token strings
    vocab_size: int  # token ids the model scores
    max_model_len: int  # longest sequence, tokens
    dtype: str  # "" without a model
    device: str  # "" without a model
    max_num_speculative_tokens: int  # most tokens drafted or verified in one round
    pass_costs: tuple[PassCost, ...] = ()  # smallest first, measured at start; () without a model
    weights_fingerprint: str = ""  # the same in every number format
    hidden_size: int = 0  # of its final hidden states; 0 if it gives none
    hidden_states_need: HiddenStatesNeed | None = None  # of a draft that guesses from them
    version: str = __version__  # of the software that serves it


@dataclass(frozen=True, slots=True)
class TierLoad:
    """What a tier holds at this moment."""

    num_sessions: int  # open streams
    num_cached_tokens: int  # tokens with keys and values in memory
    num_queued_jobs: int  # jobs that wait for the engine


@dataclass(frozen=True, slots=True)
class EngineWork:
    """What a tier's engine has done since its process started, and what waits for it."""

    uptime_ns: int = 0
    busy_ns: int = 0  # of that in passes
    num_computed_tokens: int = 0
    num_refused_sessions: int = 0  # for want of room
    num_waiting_tokens: int = 0  # of open sessions, not computed yet
    num_waiting_sessions: int = 0  # for memory
    num_held_blocks: int = 0  # of keys and values, that sessions own
    num_blocks: int = 0
    block_len: int = 0  # tokens


@dataclass(frozen=True, slots=True)
class DraftDemand:
    """Engine time of the draft tier that an orchestrator's sessions have a use for."""

    wanted_ns: int = 0
    unserved_ns: int = 0  # of that what they did not get


@dataclass(frozen=True, slots=True)
class OrchestratorLoad:
    """What an orchestrator has under way, and what it asks of the draft tier."""

    uptime_ns: int
    num_requests: int  # under way
    max_requests: int
    num_rounds: int  # since it started, prompts left out
    num_draft_tokens: int  # in these
    draft_demand: DraftDemand


@dataclass(frozen=True, slots=True)
class SessionOpen:
    """First message of a stream: all committed tokens, and how to sample."""

    session_id: str
    token_ids: Sequence[int]
    sampling: SamplingParams
    vocabulary_fingerprint: str = ""  # expected; empty is not checked
    model_fingerprint: str = ""  # expected; empty is not checked
    mode: VerificationMode = VerificationMode.REJECTION
    tenant: str = ""  # sessions of different tenants share nothing
    num_prompt_hidden_states: int = 0  # wanted of the last tokens, with the first evidence
    wants_progress: bool = False  # while the tokens are computed


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """Answer to SessionOpen, sent before the prompt is computed."""

    model: ModelInfo
    num_cached_tokens: int


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """How far the tokens of a session are computed."""

    num_computed_tokens: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class SpeculateRound:
    """Asks for a draft of up to `num_speculative_tokens` after `position`."""

    round: int
    position: int  # committed length, the tokens below included
    committed_token_ids: Sequence[int]  # tokens at [position - n, position)
    num_speculative_tokens: int
    hidden_states: HiddenStates | None = None  # of the target, before position - 1


@dataclass(frozen=True, slots=True)
class DraftToVerify:
    """A guess and the support of its distribution; the draft probabilities stay behind."""

    token_id: int
    support_token_ids: Sequence[int]  # [M], distinct, holds token_id


@dataclass(frozen=True, slots=True)
class VerifyRound:
    """Asks for the evidence on K drafts after `position`."""

    round: int
    position: int  # committed length, the tokens below included
    committed_token_ids: Sequence[int]  # tokens at [position - n, position)
    drafts: Sequence[DraftToVerify]
    num_logprobs: int | None = None
    wants_hidden_states: bool = False
    next_is_plain: bool = field(default=False, compare=False)
    """Whether the next round is expected to have K = 0, which makes no difference to this one."""


@dataclass(frozen=True, slots=True)
class RoundTimings:
    """Where a tier's time went in one round, nanoseconds on its own monotonic clock."""

    queue_ns: int = 0  # arrival until the engine started on it
    forward_ns: int = 0  # in the engine
    total_ns: int = 0  # arrival until the answer was handed to gRPC, the two above included
    batch_size: int = 1  # sessions in the largest of its passes
    num_batch_tokens: int = 0  # tokens in that pass, over all its sessions
    finish_ns: int = 0  # of `forward_ns` what followed the model's passes


@dataclass(frozen=True, slots=True)
class LookaheadCounts:
    """How often drafting ahead paid."""

    num_hits: int = 0  # rounds whose draft had been made ahead
    num_misses: int = 0  # rounds that ended otherwise than expected
    num_wasted_tokens: int = 0  # drafted ahead for nothing


@dataclass(frozen=True, slots=True)
class DraftRound:
    """Answer to SpeculateRound."""

    round: int
    position: int
    draft: Draft
    timings: RoundTimings


@dataclass(frozen=True, slots=True)
class EvidenceRound:
    """Answer to VerifyRound."""

    round: int
    position: int
    evidence: Evidence
    timings: RoundTimings
