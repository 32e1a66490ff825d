from forethought.v1 import common_pb2 as _common_pb2
from forethought.v1 import draft_pb2 as _draft_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TokenOrigin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_ORIGIN_UNSPECIFIED: _ClassVar[TokenOrigin]
    TOKEN_ORIGIN_ACCEPTED: _ClassVar[TokenOrigin]
    TOKEN_ORIGIN_RECOVERED: _ClassVar[TokenOrigin]
    TOKEN_ORIGIN_BONUS: _ClassVar[TokenOrigin]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_ACCEPTED: _ClassVar[Verdict]
    VERDICT_REJECTED: _ClassVar[Verdict]
    VERDICT_DROPPED: _ClassVar[Verdict]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]

class NoDraftReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NO_DRAFT_REASON_UNSPECIFIED: _ClassVar[NoDraftReason]
    NO_DRAFT_REASON_NOT_ASKED: _ClassVar[NoDraftReason]
    NO_DRAFT_REASON_NOT_CONFIGURED: _ClassVar[NoDraftReason]
    NO_DRAFT_REASON_DID_NOT_PAY: _ClassVar[NoDraftReason]
    NO_DRAFT_REASON_REFUSED: _ClassVar[NoDraftReason]
    NO_DRAFT_REASON_DOWN: _ClassVar[NoDraftReason]
    NO_DRAFT_REASON_LATE: _ClassVar[NoDraftReason]
    NO_DRAFT_REASON_NOTHING_FOUND: _ClassVar[NoDraftReason]
    NO_DRAFT_REASON_TOO_SHORT: _ClassVar[NoDraftReason]

class SessionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_STATUS_UNSPECIFIED: _ClassVar[SessionStatus]
    SESSION_STATUS_ACTIVE: _ClassVar[SessionStatus]
    SESSION_STATUS_FINISHED: _ClassVar[SessionStatus]
    SESSION_STATUS_CANCELLED: _ClassVar[SessionStatus]
TOKEN_ORIGIN_UNSPECIFIED: TokenOrigin
TOKEN_ORIGIN_ACCEPTED: TokenOrigin
TOKEN_ORIGIN_RECOVERED: TokenOrigin
TOKEN_ORIGIN_BONUS: TokenOrigin
VERDICT_UNSPECIFIED: Verdict
VERDICT_ACCEPTED: Verdict
VERDICT_REJECTED: Verdict
VERDICT_DROPPED: Verdict
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_LENGTH: FinishReason
NO_DRAFT_REASON_UNSPECIFIED: NoDraftReason
NO_DRAFT_REASON_NOT_ASKED: NoDraftReason
NO_DRAFT_REASON_NOT_CONFIGURED: NoDraftReason
NO_DRAFT_REASON_DID_NOT_PAY: NoDraftReason
NO_DRAFT_REASON_REFUSED: NoDraftReason
NO_DRAFT_REASON_DOWN: NoDraftReason
NO_DRAFT_REASON_LATE: NoDraftReason
NO_DRAFT_REASON_NOTHING_FOUND: NoDraftReason
NO_DRAFT_REASON_TOO_SHORT: NoDraftReason
SESSION_STATUS_UNSPECIFIED: SessionStatus
SESSION_STATUS_ACTIVE: SessionStatus
SESSION_STATUS_FINISHED: SessionStatus
SESSION_STATUS_CANCELLED: SessionStatus

class TokenIds(_message.Message):
    __slots__ = ("token_ids",)
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class Conversation(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ...) -> None: ...

class FollowUp(_message.Message):
    __slots__ = ("session_id", "conversation", "branches")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    conversation: Conversation
    branches: bool
    def __init__(self, session_id: _Optional[str] = ..., conversation: _Optional[_Union[Conversation, _Mapping]] = ..., branches: _Optional[bool] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("session_id", "next_index")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    NEXT_INDEX_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    next_index: int
    def __init__(self, session_id: _Optional[str] = ..., next_index: _Optional[int] = ...) -> None: ...

class GenerationParams(_message.Message):
    __slots__ = ("max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop", "stop_token_ids", "ignore_eos", "logprobs", "num_speculative_tokens", "verification_mode", "prediction", "prompt_logprobs")
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    NUM_SPECULATIVE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_MODE_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    ignore_eos: bool
    logprobs: int
    num_speculative_tokens: int
    verification_mode: _common_pb2.VerificationMode
    prediction: str
    prompt_logprobs: int
    def __init__(self, max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., ignore_eos: _Optional[bool] = ..., logprobs: _Optional[int] = ..., num_speculative_tokens: _Optional[int] = ..., verification_mode: _Optional[_Union[_common_pb2.VerificationMode, str]] = ..., prediction: _Optional[str] = ..., prompt_logprobs: _Optional[int] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("request_id", "text", "token_ids", "conversation", "follow_up", "resume", "params", "include_steps", "tenant", "include_progress", "note")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_UP_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_STEPS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    text: str
    token_ids: TokenIds
    conversation: Conversation
    follow_up: FollowUp
    resume: Resume
    params: GenerationParams
    include_steps: bool
    tenant: str
    include_progress: bool
    note: str
    def __init__(self, request_id: _Optional[str] = ..., text: _Optional[str] = ..., token_ids: _Optional[_Union[TokenIds, _Mapping]] = ..., conversation: _Optional[_Union[Conversation, _Mapping]] = ..., follow_up: _Optional[_Union[FollowUp, _Mapping]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., params: _Optional[_Union[GenerationParams, _Mapping]] = ..., include_steps: _Optional[bool] = ..., tenant: _Optional[str] = ..., include_progress: _Optional[bool] = ..., note: _Optional[str] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("started", "tokens", "step", "finished", "progress", "prompt_tokens")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    started: GenerationStarted
    tokens: _containers.RepeatedCompositeFieldContainer[GeneratedToken]
    step: SpeculationStep
    finished: GenerationFinished
    progress: GenerationProgress
    prompt_tokens: _containers.RepeatedCompositeFieldContainer[PromptToken]
    def __init__(self, started: _Optional[_Union[GenerationStarted, _Mapping]] = ..., tokens: _Optional[_Iterable[_Union[GeneratedToken, _Mapping]]] = ..., step: _Optional[_Union[SpeculationStep, _Mapping]] = ..., finished: _Optional[_Union[GenerationFinished, _Mapping]] = ..., progress: _Optional[_Union[GenerationProgress, _Mapping]] = ..., prompt_tokens: _Optional[_Iterable[_Union[PromptToken, _Mapping]]] = ...) -> None: ...

class GenerationProgress(_message.Message):
    __slots__ = ("num_computed_tokens", "num_tokens", "is_target_lost")
    NUM_COMPUTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    IS_TARGET_LOST_FIELD_NUMBER: _ClassVar[int]
    num_computed_tokens: int
    num_tokens: int
    is_target_lost: bool
    def __init__(self, num_computed_tokens: _Optional[int] = ..., num_tokens: _Optional[int] = ..., is_target_lost: _Optional[bool] = ...) -> None: ...

class GenerationStarted(_message.Message):
    __slots__ = ("session_id", "seed", "num_prompt_tokens", "model", "verification_mode", "is_stored", "num_cached_tokens", "sampling")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_MODE_FIELD_NUMBER: _ClassVar[int]
    IS_STORED_FIELD_NUMBER: _ClassVar[int]
    NUM_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    seed: int
    num_prompt_tokens: int
    model: str
    verification_mode: _common_pb2.VerificationMode
    is_stored: bool
    num_cached_tokens: int
    sampling: _common_pb2.SamplingParams
    def __init__(self, session_id: _Optional[str] = ..., seed: _Optional[int] = ..., num_prompt_tokens: _Optional[int] = ..., model: _Optional[str] = ..., verification_mode: _Optional[_Union[_common_pb2.VerificationMode, str]] = ..., is_stored: _Optional[bool] = ..., num_cached_tokens: _Optional[int] = ..., sampling: _Optional[_Union[_common_pb2.SamplingParams, _Mapping]] = ...) -> None: ...

class PromptToken(_message.Message):
    __slots__ = ("index", "token_id", "text", "logprob", "top_logprobs")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    index: int
    token_id: int
    text: str
    logprob: float
    top_logprobs: _containers.RepeatedCompositeFieldContainer[TopLogprob]
    def __init__(self, index: _Optional[int] = ..., token_id: _Optional[int] = ..., text: _Optional[str] = ..., logprob: _Optional[float] = ..., top_logprobs: _Optional[_Iterable[_Union[TopLogprob, _Mapping]]] = ...) -> None: ...

class GeneratedToken(_message.Message):
    __slots__ = ("index", "token_id", "text", "origin", "draft_prob", "target_prob", "logprob", "top_logprobs")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    DRAFT_PROB_FIELD_NUMBER: _ClassVar[int]
    TARGET_PROB_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    index: int
    token_id: int
    text: str
    origin: TokenOrigin
    draft_prob: float
    target_prob: float
    logprob: float
    top_logprobs: _containers.RepeatedCompositeFieldContainer[TopLogprob]
    def __init__(self, index: _Optional[int] = ..., token_id: _Optional[int] = ..., text: _Optional[str] = ..., origin: _Optional[_Union[TokenOrigin, str]] = ..., draft_prob: _Optional[float] = ..., target_prob: _Optional[float] = ..., logprob: _Optional[float] = ..., top_logprobs: _Optional[_Iterable[_Union[TopLogprob, _Mapping]]] = ...) -> None: ...

class TopLogprob(_message.Message):
    __slots__ = ("token_id", "text", "logprob")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    text: str
    logprob: float
    def __init__(self, token_id: _Optional[int] = ..., text: _Optional[str] = ..., logprob: _Optional[float] = ...) -> None: ...

class JudgedToken(_message.Message):
    __slots__ = ("token_id", "text", "draft_prob", "target_prob", "verdict")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DRAFT_PROB_FIELD_NUMBER: _ClassVar[int]
    TARGET_PROB_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    text: str
    draft_prob: float
    target_prob: float
    verdict: Verdict
    def __init__(self, token_id: _Optional[int] = ..., text: _Optional[str] = ..., draft_prob: _Optional[float] = ..., target_prob: _Optional[float] = ..., verdict: _Optional[_Union[Verdict, str]] = ...) -> None: ...

class SpeculationStep(_message.Message):
    __slots__ = ("round", "position", "drafted", "final_token_id", "final_text", "final_origin", "final_target_prob", "speculation_ns", "verification_ns", "rejection_ns", "proposer", "lookahead", "draft_timings", "target_timings")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_FIELD_NUMBER: _ClassVar[int]
    FINAL_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    FINAL_TEXT_FIELD_NUMBER: _ClassVar[int]
    FINAL_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    FINAL_TARGET_PROB_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_NS_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_NS_FIELD_NUMBER: _ClassVar[int]
    REJECTION_NS_FIELD_NUMBER: _ClassVar[int]
    PROPOSER_FIELD_NUMBER: _ClassVar[int]
    LOOKAHEAD_FIELD_NUMBER: _ClassVar[int]
    DRAFT_TIMINGS_FIELD_NUMBER: _ClassVar[int]
    TARGET_TIMINGS_FIELD_NUMBER: _ClassVar[int]
    round: int
    position: int
    drafted: _containers.RepeatedCompositeFieldContainer[JudgedToken]
    final_token_id: int
    final_text: str
    final_origin: TokenOrigin
    final_target_prob: float
    speculation_ns: int
    verification_ns: int
    rejection_ns: int
    proposer: str
    lookahead: _draft_pb2.LookaheadOutcome
    draft_timings: _common_pb2.RoundTimings
    target_timings: _common_pb2.RoundTimings
    def __init__(self, round: _Optional[int] = ..., position: _Optional[int] = ..., drafted: _Optional[_Iterable[_Union[JudgedToken, _Mapping]]] = ..., final_token_id: _Optional[int] = ..., final_text: _Optional[str] = ..., final_origin: _Optional[_Union[TokenOrigin, str]] = ..., final_target_prob: _Optional[float] = ..., speculation_ns: _Optional[int] = ..., verification_ns: _Optional[int] = ..., rejection_ns: _Optional[int] = ..., proposer: _Optional[str] = ..., lookahead: _Optional[_Union[_draft_pb2.LookaheadOutcome, str]] = ..., draft_timings: _Optional[_Union[_common_pb2.RoundTimings, _Mapping]] = ..., target_timings: _Optional[_Union[_common_pb2.RoundTimings, _Mapping]] = ...) -> None: ...

class GenerationFinished(_message.Message):
    __slots__ = ("finish_reason", "matched_stop", "matched_stop_token_id", "num_prompt_tokens", "num_output_tokens", "speculation", "time_to_first_token_ns", "total_ns", "is_durable")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    MATCHED_STOP_FIELD_NUMBER: _ClassVar[int]
    MATCHED_STOP_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_NS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    IS_DURABLE_FIELD_NUMBER: _ClassVar[int]
    finish_reason: FinishReason
    matched_stop: str
    matched_stop_token_id: int
    num_prompt_tokens: int
    num_output_tokens: int
    speculation: SpeculationStatistics
    time_to_first_token_ns: int
    total_ns: int
    is_durable: bool
    def __init__(self, finish_reason: _Optional[_Union[FinishReason, str]] = ..., matched_stop: _Optional[str] = ..., matched_stop_token_id: _Optional[int] = ..., num_prompt_tokens: _Optional[int] = ..., num_output_tokens: _Optional[int] = ..., speculation: _Optional[_Union[SpeculationStatistics, _Mapping]] = ..., time_to_first_token_ns: _Optional[int] = ..., total_ns: _Optional[int] = ..., is_durable: _Optional[bool] = ...) -> None: ...

class SpeculationStatistics(_message.Message):
    __slots__ = ("num_rounds", "num_draft_tokens", "num_accepted_tokens", "num_accepted_tokens_per_position", "num_draft_failures", "speculation_ns", "verification_ns", "rejection_ns", "proposers", "lookahead", "no_draft_reason", "no_draft_detail")
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_TOKENS_PER_POSITION_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFT_FAILURES_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_NS_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_NS_FIELD_NUMBER: _ClassVar[int]
    REJECTION_NS_FIELD_NUMBER: _ClassVar[int]
    PROPOSERS_FIELD_NUMBER: _ClassVar[int]
    LOOKAHEAD_FIELD_NUMBER: _ClassVar[int]
    NO_DRAFT_REASON_FIELD_NUMBER: _ClassVar[int]
    NO_DRAFT_DETAIL_FIELD_NUMBER: _ClassVar[int]
    num_rounds: int
    num_draft_tokens: int
    num_accepted_tokens: int
    num_accepted_tokens_per_position: _containers.RepeatedScalarFieldContainer[int]
    num_draft_failures: int
    speculation_ns: int
    verification_ns: int
    rejection_ns: int
    proposers: _containers.RepeatedCompositeFieldContainer[ProposerStatistics]
    lookahead: _draft_pb2.LookaheadCounts
    no_draft_reason: NoDraftReason
    no_draft_detail: str
    def __init__(self, num_rounds: _Optional[int] = ..., num_draft_tokens: _Optional[int] = ..., num_accepted_tokens: _Optional[int] = ..., num_accepted_tokens_per_position: _Optional[_Iterable[int]] = ..., num_draft_failures: _Optional[int] = ..., speculation_ns: _Optional[int] = ..., verification_ns: _Optional[int] = ..., rejection_ns: _Optional[int] = ..., proposers: _Optional[_Iterable[_Union[ProposerStatistics, _Mapping]]] = ..., lookahead: _Optional[_Union[_draft_pb2.LookaheadCounts, _Mapping]] = ..., no_draft_reason: _Optional[_Union[NoDraftReason, str]] = ..., no_draft_detail: _Optional[str] = ...) -> None: ...

class ProposerStatistics(_message.Message):
    __slots__ = ("proposer", "num_rounds", "num_draft_tokens", "num_accepted_tokens")
    PROPOSER_FIELD_NUMBER: _ClassVar[int]
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    proposer: str
    num_rounds: int
    num_draft_tokens: int
    num_accepted_tokens: int
    def __init__(self, proposer: _Optional[str] = ..., num_rounds: _Optional[int] = ..., num_draft_tokens: _Optional[int] = ..., num_accepted_tokens: _Optional[int] = ...) -> None: ...

class TokenizeRequest(_message.Message):
    __slots__ = ("text", "conversation", "omits_special_tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    OMITS_SPECIAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    conversation: Conversation
    omits_special_tokens: bool
    def __init__(self, text: _Optional[str] = ..., conversation: _Optional[_Union[Conversation, _Mapping]] = ..., omits_special_tokens: _Optional[bool] = ...) -> None: ...

class TokenizeResponse(_message.Message):
    __slots__ = ("token_ids", "texts")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class DetokenizeRequest(_message.Message):
    __slots__ = ("token_ids",)
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class DetokenizeResponse(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class GenerationServiceGetModelInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GenerationServiceGetModelInfoResponse(_message.Message):
    __slots__ = ("target", "default_num_speculative_tokens", "max_num_speculative_tokens", "default_verification_mode", "policy", "has_chat_template", "default_params", "special_tokens", "chat_template", "lookups")
    class SpecialTokensEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TARGET_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_NUM_SPECULATIVE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_NUM_SPECULATIVE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VERIFICATION_MODE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    HAS_CHAT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_PARAMS_FIELD_NUMBER: _ClassVar[int]
    SPECIAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CHAT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    LOOKUPS_FIELD_NUMBER: _ClassVar[int]
    target: _common_pb2.ModelInfo
    default_num_speculative_tokens: int
    max_num_speculative_tokens: int
    default_verification_mode: _common_pb2.VerificationMode
    policy: str
    has_chat_template: bool
    default_params: GenerationParams
    special_tokens: _containers.ScalarMap[str, str]
    chat_template: str
    lookups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, target: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., default_num_speculative_tokens: _Optional[int] = ..., max_num_speculative_tokens: _Optional[int] = ..., default_verification_mode: _Optional[_Union[_common_pb2.VerificationMode, str]] = ..., policy: _Optional[str] = ..., has_chat_template: _Optional[bool] = ..., default_params: _Optional[_Union[GenerationParams, _Mapping]] = ..., special_tokens: _Optional[_Mapping[str, str]] = ..., chat_template: _Optional[str] = ..., lookups: _Optional[_Iterable[str]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "status", "num_rounds", "num_prompt_tokens", "num_tokens", "created_ms", "updated_ms")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_MS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    status: SessionStatus
    num_rounds: int
    num_prompt_tokens: int
    num_tokens: int
    created_ms: int
    updated_ms: int
    def __init__(self, session_id: _Optional[str] = ..., status: _Optional[_Union[SessionStatus, str]] = ..., num_rounds: _Optional[int] = ..., num_prompt_tokens: _Optional[int] = ..., num_tokens: _Optional[int] = ..., created_ms: _Optional[int] = ..., updated_ms: _Optional[int] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id", "tenant")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    tenant: str
    def __init__(self, session_id: _Optional[str] = ..., tenant: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session", "prompt_token_ids", "output_token_ids", "note")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    session: Session
    prompt_token_ids: _containers.RepeatedScalarFieldContainer[int]
    output_token_ids: _containers.RepeatedScalarFieldContainer[int]
    note: str
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., prompt_token_ids: _Optional[_Iterable[int]] = ..., output_token_ids: _Optional[_Iterable[int]] = ..., note: _Optional[str] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("tenant", "page_size", "page_token")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    page_size: int
    page_token: str
    def __init__(self, tenant: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    next_page_token: str
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelSessionRequest(_message.Message):
    __slots__ = ("session_id", "tenant")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    tenant: str
    def __init__(self, session_id: _Optional[str] = ..., tenant: _Optional[str] = ...) -> None: ...

class CancelSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class DeleteSessionRequest(_message.Message):
    __slots__ = ("session_id", "tenant")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    tenant: str
    def __init__(self, session_id: _Optional[str] = ..., tenant: _Optional[str] = ...) -> None: ...

class DeleteSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
