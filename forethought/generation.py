"""What clients ask for and what they get: the values of GenerationService.

The orchestrator produces these events, `forethought.client` hands them to Python callers, and the
codecs in `forethought.rpc` turn both sides into the same messages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from forethought.sampling.params import SamplingParams
from forethought.sampling.types import (
    LookaheadOutcome,
    OutputToken,
    TokenOrigin,
    VerificationMode,
)
from forethought.tier import LookaheadCounts, ModelInfo, RoundTimings


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation."""

    role: str  # "system", "user", "assistant", or what else the chat template knows
    content: str


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A prompt: the next turn of a session whose last turn is finished."""

    session_id: str
    messages: tuple[ChatMessage, ...]  # what is said next
    branches: bool = False  # make a session of its own, and leave the other one as it is


@dataclass(frozen=True, slots=True)
class Resume:
    """A prompt: the rest of a turn whose stream broke off, with the parameters it has."""

    session_id: str
    next_index: int = 0  # of the first token to send


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """What to generate and how. None leaves the choice to the deployment.

    Ranges are checked by the server, which names every field that is wrong.
    """

    max_tokens: int | None = None  # default: the model's, else 256
    temperature: float | None = None  # 0 selects the most likely token; default: the model's
    top_k: int | None = None  # 0 keeps all; default: the model's
    top_p: float | None = None  # 1 keeps all; default: the model's
    min_p: float | None = None  # 0 keeps all; default: the model's
    repetition_penalty: float | None = None  # 1 changes nothing; default: the model's
    seed: int | None = None  # default: drawn at random, reported in `Started`
    stop: Sequence[str] = ()  # generation ends before any of these texts
    stop_token_ids: Sequence[int] = ()  # generation ends after any of these tokens
    ignore_eos: bool = False  # go on after the model's own end tokens
    logprobs: int | None = None  # top log-probabilities to return with each token
    num_speculative_tokens: int | None = None  # K of every round; 0 turns speculation off
    verification_mode: VerificationMode | None = None  # how drafts are judged
    prediction: str = ""  # what the output is expected to repeat; drafts are looked up in it
    prompt_logprobs: int | None = None  # also send each `PromptToken`, with so many at its place


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt (text, token ids, a conversation, or a session to go on with) and parameters."""

    prompt: str | Sequence[int] | Sequence[ChatMessage] | FollowUp | Resume
    params: GenerationParams = field(default_factory=GenerationParams)
    request_id: str = ""  # the client's own name for it, for logs and traces
    include_steps: bool = False  # also send a `Step` for each round
    tenant: str = ""  # requests of different tenants share nothing
    include_progress: bool = False  # also send a `Waiting` while no tokens come
    note: str = ""  # what the client wants to find again with the session


class FinishReason(Enum):
    """Why the output ended."""

    STOP = "stop"  # an end token, a stop token or a stop text
    LENGTH = "length"  # max_tokens, or the model's length


class Verdict(Enum):
    """What rejection sampling said of a drafted token."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"  # replaced by the recovered token
    DROPPED = "dropped"  # behind a rejected token


@dataclass(frozen=True, slots=True)
class Started:
    """First event: how the request was understood."""

    session_id: str
    seed: int
    num_prompt_tokens: int
    model: str
    verification_mode: VerificationMode = VerificationMode.REJECTION
    is_stored: bool = False  # in a store, so that it can be resumed and continued
    num_cached_tokens: int = 0  # of the prompt, which the target need not compute again
    sampling: SamplingParams | None = None  # with all that was left open; None of older servers


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """One of the most likely tokens at a place."""

    token_id: int
    text: str
    logprob: float


MAX_PROMPT_LOGPROBS = 2**17
"""Log-probabilities of prompts that one request may ask for: tokens, times one more than there are
most likely ones at each place."""


def most_scored_tokens(num_top_logprobs: int) -> int:
    """Tokens of prompts that one request may have told, with so many likely ones at each place."""
    return MAX_PROMPT_LOGPROBS // (num_top_logprobs + 1)


@dataclass(frozen=True, slots=True)
class PromptToken:
    """One token of the prompt. The first one has no log-probabilities."""

    index: int
    token_id: int
    text: str  # what it adds to the text
    logprob: float | None = None
    top_logprobs: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the output. The `text` pieces, joined, are the output text."""

    index: int
    token_id: int
    text: str
    origin: TokenOrigin
    draft_prob: float | None  # q (DP); only for accepted tokens
    target_prob: float  # p (TP)
    logprob: float | None = None
    top_logprobs: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class JudgedToken:
    """One drafted token on its way through the three steps."""

    token_id: int
    text: str
    draft_prob: float | None  # step 1; None in a coupled draft
    target_prob: float  # step 2
    verdict: Verdict  # step 3


@dataclass(frozen=True, slots=True)
class Step:
    """One round of speculation, parallel verification and rejection sampling."""

    round: int
    position: int  # committed length before the round
    drafted: tuple[JudgedToken, ...]
    final: OutputToken  # the recovered or bonus token
    final_text: str
    speculation_ns: int
    verification_ns: int
    rejection_ns: int
    proposer: str = ""  # which one made the draft
    lookahead: LookaheadOutcome | None = None  # whether the draft had been made ahead
    draft_timings: RoundTimings = field(default_factory=RoundTimings)  # by the draft tier's clock
    target_timings: RoundTimings = field(default_factory=RoundTimings)  # by the target tier's clock


PREDICTION = "prediction"
"""The proposer of drafts that are looked up in what a request predicts."""


@dataclass(frozen=True, slots=True)
class ProposerStatistics:
    """What the drafts of one proposer came to."""

    proposer: str
    num_rounds: int = 0  # that it drafted for
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0


class NoDraftReason(Enum):
    """Why nothing was drafted for a request."""

    NOT_ASKED = "not_asked"  # K is 0
    NOT_CONFIGURED = "not_configured"  # no draft tier, and nothing is looked up
    DID_NOT_PAY = "did_not_pay"  # drafts are expected to cost more than they bring
    REFUSED = "refused"  # the draft does not fit the target
    DOWN = "down"  # the draft tier is away or fails
    LATE = "late"  # it did not answer in time
    NOTHING_FOUND = "nothing_found"  # whoever drafts had no guess
    TOO_SHORT = "too_short"  # the output ended before drafts begin


@dataclass(frozen=True, slots=True)
class SpeculationStatistics:
    """Counts and times of speculation over a request."""

    num_rounds: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    num_accepted_tokens_per_position: tuple[int, ...] = ()
    num_draft_failures: int = 0  # rounds that wanted a draft and got none
    speculation_ns: int = 0
    verification_ns: int = 0
    rejection_ns: int = 0
    proposers: tuple[ProposerStatistics, ...] = ()
    lookahead: LookaheadCounts = field(default_factory=LookaheadCounts)
    no_draft_reason: NoDraftReason | None = None  # of a request that has ended
    no_draft_detail: str = ""

    def of(self, proposer: str) -> ProposerStatistics:
        """What the drafts of one proposer came to."""
        none = ProposerStatistics(proposer)
        return next((each for each in self.proposers if each.proposer == proposer), none)

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted over drafted tokens; None when nothing was drafted."""
        if not self.num_draft_tokens:
            return None
        return self.num_accepted_tokens / self.num_draft_tokens

    @property
    def mean_acceptance_length(self) -> float | None:
        """Tokens a round, the recovered or bonus token included; None without a round."""
        if not self.num_rounds:
            return None
        return 1 + self.num_accepted_tokens / self.num_rounds


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event: why it ended, and the sums."""

    reason: FinishReason
    num_prompt_tokens: int
    num_output_tokens: int
    speculation: SpeculationStatistics
    time_to_first_token_ns: int
    total_ns: int
    matched_stop: str = ""
    matched_stop_token_id: int | None = None
    is_durable: bool = False  # whether all of it is stored by now


@dataclass(frozen=True, slots=True)
class Waiting:
    """No tokens come for a while, and this is why."""

    num_computed_tokens: int  # of the prompt, and of the output before a target was lost
    num_tokens: int  # that are to be computed
    is_target_lost: bool = False  # no target takes the session; one is looked for


GenerationEvent = Started | PromptToken | Token | Step | Waiting | Finished
"""What a generation yields: one Started, then each PromptToken, if asked for, then Tokens (and a
Step after each round, if asked), then one Finished. Waiting, if asked for, may come at any time
before that."""


class SessionStatus(Enum):
    """How far a session is."""

    ACTIVE = "active"  # being generated, or broken off
    FINISHED = "finished"  # another turn may follow
    CANCELLED = "cancelled"  # ended where it was; no other turn follows


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A stored session without its content."""

    session_id: str
    status: SessionStatus
    num_rounds: int
    num_prompt_tokens: int  # earlier turns included
    num_tokens: int  # prompt and output
    created_ms: int  # Unix time by the store's clock
    updated_ms: int


@dataclass(frozen=True, slots=True)
class SessionContent:
    """A stored session with its tokens."""

    session: SessionInfo
    prompt_token_ids: tuple[int, ...]
    output_token_ids: tuple[int, ...]
    note: str = ""  # of the request for its turn


@dataclass(frozen=True, slots=True)
class DeploymentInfo:
    """What a deployment serves, and what it chooses where a request is silent."""

    target: ModelInfo
    num_speculative_tokens: int  # K, or with an adaptive policy the most of it
    max_num_speculative_tokens: int  # most that a request may ask for
    verification_mode: VerificationMode
    policy: str  # how K is chosen: "adaptive" or "fixed"
    has_chat_template: bool  # whether it takes conversations, and not only text and token ids
    params: GenerationParams  # as far as the model and the deployment fix them
    special_tokens: Mapping[str, str]  # by the names of chat templates, such as eos_token
    chat_template: str  # empty: there is none
    lookups: Sequence[str] = ()  # who looks guesses up before the draft tier is asked


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Token ids, and the text of each token on its own."""

    token_ids: tuple[int, ...]
    texts: tuple[str, ...]
