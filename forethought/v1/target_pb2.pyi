from forethought.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VerifyRequest(_message.Message):
    __slots__ = ("open", "round")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    open: _common_pb2.SessionOpen
    round: VerifyRound
    def __init__(self, open: _Optional[_Union[_common_pb2.SessionOpen, _Mapping]] = ..., round: _Optional[_Union[VerifyRound, _Mapping]] = ...) -> None: ...

class VerifyRound(_message.Message):
    __slots__ = ("round", "position", "committed_token_ids", "drafts", "num_logprobs", "wants_hidden_states", "next_is_plain")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    DRAFTS_FIELD_NUMBER: _ClassVar[int]
    NUM_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    WANTS_HIDDEN_STATES_FIELD_NUMBER: _ClassVar[int]
    NEXT_IS_PLAIN_FIELD_NUMBER: _ClassVar[int]
    round: int
    position: int
    committed_token_ids: _containers.RepeatedScalarFieldContainer[int]
    drafts: _containers.RepeatedCompositeFieldContainer[DraftToVerify]
    num_logprobs: int
    wants_hidden_states: bool
    next_is_plain: bool
    def __init__(self, round: _Optional[int] = ..., position: _Optional[int] = ..., committed_token_ids: _Optional[_Iterable[int]] = ..., drafts: _Optional[_Iterable[_Union[DraftToVerify, _Mapping]]] = ..., num_logprobs: _Optional[int] = ..., wants_hidden_states: _Optional[bool] = ..., next_is_plain: _Optional[bool] = ...) -> None: ...

class DraftToVerify(_message.Message):
    __slots__ = ("token_id", "support_token_ids")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SUPPORT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    support_token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, token_id: _Optional[int] = ..., support_token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("opened", "evidence", "progress")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    opened: _common_pb2.SessionOpened
    evidence: EvidenceRound
    progress: PrefillProgress
    def __init__(self, opened: _Optional[_Union[_common_pb2.SessionOpened, _Mapping]] = ..., evidence: _Optional[_Union[EvidenceRound, _Mapping]] = ..., progress: _Optional[_Union[PrefillProgress, _Mapping]] = ...) -> None: ...

class PrefillProgress(_message.Message):
    __slots__ = ("num_computed_tokens", "num_tokens")
    NUM_COMPUTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    num_computed_tokens: int
    num_tokens: int
    def __init__(self, num_computed_tokens: _Optional[int] = ..., num_tokens: _Optional[int] = ...) -> None: ...

class EvidenceRound(_message.Message):
    __slots__ = ("round", "position", "positions", "timings", "hidden_states")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_STATES_FIELD_NUMBER: _ClassVar[int]
    round: int
    position: int
    positions: _containers.RepeatedCompositeFieldContainer[PositionEvidence]
    timings: _common_pb2.RoundTimings
    hidden_states: _common_pb2.HiddenStates
    def __init__(self, round: _Optional[int] = ..., position: _Optional[int] = ..., positions: _Optional[_Iterable[_Union[PositionEvidence, _Mapping]]] = ..., timings: _Optional[_Union[_common_pb2.RoundTimings, _Mapping]] = ..., hidden_states: _Optional[_Union[_common_pb2.HiddenStates, _Mapping]] = ...) -> None: ...

class PositionEvidence(_message.Message):
    __slots__ = ("target_probs", "tail_mass", "tail_token_id", "tail_token_prob", "greedy_token_id", "logprobs")
    TARGET_PROBS_FIELD_NUMBER: _ClassVar[int]
    TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    TAIL_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TAIL_TOKEN_PROB_FIELD_NUMBER: _ClassVar[int]
    GREEDY_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    target_probs: _containers.RepeatedScalarFieldContainer[float]
    tail_mass: float
    tail_token_id: int
    tail_token_prob: float
    greedy_token_id: int
    logprobs: PositionLogprobs
    def __init__(self, target_probs: _Optional[_Iterable[float]] = ..., tail_mass: _Optional[float] = ..., tail_token_id: _Optional[int] = ..., tail_token_prob: _Optional[float] = ..., greedy_token_id: _Optional[int] = ..., logprobs: _Optional[_Union[PositionLogprobs, _Mapping]] = ...) -> None: ...

class PositionLogprobs(_message.Message):
    __slots__ = ("support_logprobs", "tail_token_logprob", "top_token_ids", "top_logprobs")
    SUPPORT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TAIL_TOKEN_LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    support_logprobs: _containers.RepeatedScalarFieldContainer[float]
    tail_token_logprob: float
    top_token_ids: _containers.RepeatedScalarFieldContainer[int]
    top_logprobs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, support_logprobs: _Optional[_Iterable[float]] = ..., tail_token_logprob: _Optional[float] = ..., top_token_ids: _Optional[_Iterable[int]] = ..., top_logprobs: _Optional[_Iterable[float]] = ...) -> None: ...

class TargetServiceGetModelInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TargetServiceGetModelInfoResponse(_message.Message):
    __slots__ = ("model", "load", "work")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    model: _common_pb2.ModelInfo
    load: _common_pb2.TierLoad
    work: _common_pb2.EngineWork
    def __init__(self, model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., load: _Optional[_Union[_common_pb2.TierLoad, _Mapping]] = ..., work: _Optional[_Union[_common_pb2.EngineWork, _Mapping]] = ...) -> None: ...
