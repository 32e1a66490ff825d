from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VerificationMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERIFICATION_MODE_UNSPECIFIED: _ClassVar[VerificationMode]
    VERIFICATION_MODE_REJECTION: _ClassVar[VerificationMode]
    VERIFICATION_MODE_BLOCK: _ClassVar[VerificationMode]
    VERIFICATION_MODE_COUPLED: _ClassVar[VerificationMode]

class ElementType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ELEMENT_TYPE_UNSPECIFIED: _ClassVar[ElementType]
    ELEMENT_TYPE_FLOAT16: _ClassVar[ElementType]
VERIFICATION_MODE_UNSPECIFIED: VerificationMode
VERIFICATION_MODE_REJECTION: VerificationMode
VERIFICATION_MODE_BLOCK: VerificationMode
VERIFICATION_MODE_COUPLED: VerificationMode
ELEMENT_TYPE_UNSPECIFIED: ElementType
ELEMENT_TYPE_FLOAT16: ElementType

class SamplingParams(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class PassCost(_message.Message):
    __slots__ = ("num_tokens", "forward_ns")
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    FORWARD_NS_FIELD_NUMBER: _ClassVar[int]
    num_tokens: int
    forward_ns: int
    def __init__(self, num_tokens: _Optional[int] = ..., forward_ns: _Optional[int] = ...) -> None: ...

class HiddenStates(_message.Message):
    __slots__ = ("first_position", "num_positions", "hidden_size", "element_type", "data")
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    NUM_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    ELEMENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    first_position: int
    num_positions: int
    hidden_size: int
    element_type: ElementType
    data: bytes
    def __init__(self, first_position: _Optional[int] = ..., num_positions: _Optional[int] = ..., hidden_size: _Optional[int] = ..., element_type: _Optional[_Union[ElementType, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class HiddenStatesNeed(_message.Message):
    __slots__ = ("target_fingerprint", "hidden_size")
    TARGET_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    target_fingerprint: str
    hidden_size: int
    def __init__(self, target_fingerprint: _Optional[str] = ..., hidden_size: _Optional[int] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "model_fingerprint", "vocabulary_fingerprint", "vocab_size", "max_model_len", "dtype", "device", "max_num_speculative_tokens", "pass_costs", "weights_fingerprint", "hidden_size", "hidden_states_need", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_MODEL_LEN_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MAX_NUM_SPECULATIVE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PASS_COSTS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_STATES_NEED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    model_fingerprint: str
    vocabulary_fingerprint: str
    vocab_size: int
    max_model_len: int
    dtype: str
    device: str
    max_num_speculative_tokens: int
    pass_costs: _containers.RepeatedCompositeFieldContainer[PassCost]
    weights_fingerprint: str
    hidden_size: int
    hidden_states_need: HiddenStatesNeed
    version: str
    def __init__(self, name: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., vocabulary_fingerprint: _Optional[str] = ..., vocab_size: _Optional[int] = ..., max_model_len: _Optional[int] = ..., dtype: _Optional[str] = ..., device: _Optional[str] = ..., max_num_speculative_tokens: _Optional[int] = ..., pass_costs: _Optional[_Iterable[_Union[PassCost, _Mapping]]] = ..., weights_fingerprint: _Optional[str] = ..., hidden_size: _Optional[int] = ..., hidden_states_need: _Optional[_Union[HiddenStatesNeed, _Mapping]] = ..., version: _Optional[str] = ...) -> None: ...

class TierLoad(_message.Message):
    __slots__ = ("num_sessions", "num_cached_tokens", "num_queued_jobs")
    NUM_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NUM_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_QUEUED_JOBS_FIELD_NUMBER: _ClassVar[int]
    num_sessions: int
    num_cached_tokens: int
    num_queued_jobs: int
    def __init__(self, num_sessions: _Optional[int] = ..., num_cached_tokens: _Optional[int] = ..., num_queued_jobs: _Optional[int] = ...) -> None: ...

class EngineWork(_message.Message):
    __slots__ = ("uptime_ns", "busy_ns", "num_computed_tokens", "num_refused_sessions", "num_waiting_tokens", "num_waiting_sessions", "num_held_blocks", "num_blocks", "block_len")
    UPTIME_NS_FIELD_NUMBER: _ClassVar[int]
    BUSY_NS_FIELD_NUMBER: _ClassVar[int]
    NUM_COMPUTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_REFUSED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NUM_WAITING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_WAITING_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NUM_HELD_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    NUM_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_LEN_FIELD_NUMBER: _ClassVar[int]
    uptime_ns: int
    busy_ns: int
    num_computed_tokens: int
    num_refused_sessions: int
    num_waiting_tokens: int
    num_waiting_sessions: int
    num_held_blocks: int
    num_blocks: int
    block_len: int
    def __init__(self, uptime_ns: _Optional[int] = ..., busy_ns: _Optional[int] = ..., num_computed_tokens: _Optional[int] = ..., num_refused_sessions: _Optional[int] = ..., num_waiting_tokens: _Optional[int] = ..., num_waiting_sessions: _Optional[int] = ..., num_held_blocks: _Optional[int] = ..., num_blocks: _Optional[int] = ..., block_len: _Optional[int] = ...) -> None: ...

class SessionOpen(_message.Message):
    __slots__ = ("session_id", "token_ids", "sampling", "vocabulary_fingerprint", "model_fingerprint", "verification_mode", "tenant", "num_prompt_hidden_states", "wants_progress")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_MODE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_HIDDEN_STATES_FIELD_NUMBER: _ClassVar[int]
    WANTS_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    sampling: SamplingParams
    vocabulary_fingerprint: str
    model_fingerprint: str
    verification_mode: VerificationMode
    tenant: str
    num_prompt_hidden_states: int
    wants_progress: bool
    def __init__(self, session_id: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., sampling: _Optional[_Union[SamplingParams, _Mapping]] = ..., vocabulary_fingerprint: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., verification_mode: _Optional[_Union[VerificationMode, str]] = ..., tenant: _Optional[str] = ..., num_prompt_hidden_states: _Optional[int] = ..., wants_progress: _Optional[bool] = ...) -> None: ...

class SessionOpened(_message.Message):
    __slots__ = ("model", "num_cached_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NUM_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: ModelInfo
    num_cached_tokens: int
    def __init__(self, model: _Optional[_Union[ModelInfo, _Mapping]] = ..., num_cached_tokens: _Optional[int] = ...) -> None: ...

class RoundTimings(_message.Message):
    __slots__ = ("queue_ns", "forward_ns", "total_ns", "batch_size", "num_batch_tokens", "finish_ns")
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    FORWARD_NS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    NUM_BATCH_TOKENS_FIELD_NUMBER: _ClassVar[int]
    FINISH_NS_FIELD_NUMBER: _ClassVar[int]
    queue_ns: int
    forward_ns: int
    total_ns: int
    batch_size: int
    num_batch_tokens: int
    finish_ns: int
    def __init__(self, queue_ns: _Optional[int] = ..., forward_ns: _Optional[int] = ..., total_ns: _Optional[int] = ..., batch_size: _Optional[int] = ..., num_batch_tokens: _Optional[int] = ..., finish_ns: _Optional[int] = ...) -> None: ...
