from forethought.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LookaheadOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOOKAHEAD_OUTCOME_UNSPECIFIED: _ClassVar[LookaheadOutcome]
    LOOKAHEAD_OUTCOME_HIT: _ClassVar[LookaheadOutcome]
    LOOKAHEAD_OUTCOME_MISS: _ClassVar[LookaheadOutcome]
LOOKAHEAD_OUTCOME_UNSPECIFIED: LookaheadOutcome
LOOKAHEAD_OUTCOME_HIT: LookaheadOutcome
LOOKAHEAD_OUTCOME_MISS: LookaheadOutcome

class SpeculateRequest(_message.Message):
    __slots__ = ("open", "round")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    open: _common_pb2.SessionOpen
    round: SpeculateRound
    def __init__(self, open: _Optional[_Union[_common_pb2.SessionOpen, _Mapping]] = ..., round: _Optional[_Union[SpeculateRound, _Mapping]] = ...) -> None: ...

class SpeculateRound(_message.Message):
    __slots__ = ("round", "position", "committed_token_ids", "num_speculative_tokens", "hidden_states")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    NUM_SPECULATIVE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_STATES_FIELD_NUMBER: _ClassVar[int]
    round: int
    position: int
    committed_token_ids: _containers.RepeatedScalarFieldContainer[int]
    num_speculative_tokens: int
    hidden_states: _common_pb2.HiddenStates
    def __init__(self, round: _Optional[int] = ..., position: _Optional[int] = ..., committed_token_ids: _Optional[_Iterable[int]] = ..., num_speculative_tokens: _Optional[int] = ..., hidden_states: _Optional[_Union[_common_pb2.HiddenStates, _Mapping]] = ...) -> None: ...

class SpeculateResponse(_message.Message):
    __slots__ = ("opened", "draft")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    opened: _common_pb2.SessionOpened
    draft: DraftRound
    def __init__(self, opened: _Optional[_Union[_common_pb2.SessionOpened, _Mapping]] = ..., draft: _Optional[_Union[DraftRound, _Mapping]] = ...) -> None: ...

class DraftRound(_message.Message):
    __slots__ = ("round", "position", "tokens", "timings", "proposer", "lookahead", "num_wasted_tokens")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    PROPOSER_FIELD_NUMBER: _ClassVar[int]
    LOOKAHEAD_FIELD_NUMBER: _ClassVar[int]
    NUM_WASTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    round: int
    position: int
    tokens: _containers.RepeatedCompositeFieldContainer[DraftedToken]
    timings: _common_pb2.RoundTimings
    proposer: str
    lookahead: LookaheadOutcome
    num_wasted_tokens: int
    def __init__(self, round: _Optional[int] = ..., position: _Optional[int] = ..., tokens: _Optional[_Iterable[_Union[DraftedToken, _Mapping]]] = ..., timings: _Optional[_Union[_common_pb2.RoundTimings, _Mapping]] = ..., proposer: _Optional[str] = ..., lookahead: _Optional[_Union[LookaheadOutcome, str]] = ..., num_wasted_tokens: _Optional[int] = ...) -> None: ...

class DraftedToken(_message.Message):
    __slots__ = ("token_id", "support_token_ids", "draft_probs")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SUPPORT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_PROBS_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    support_token_ids: _containers.RepeatedScalarFieldContainer[int]
    draft_probs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, token_id: _Optional[int] = ..., support_token_ids: _Optional[_Iterable[int]] = ..., draft_probs: _Optional[_Iterable[float]] = ...) -> None: ...

class DraftServiceGetModelInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DraftServiceGetModelInfoResponse(_message.Message):
    __slots__ = ("model", "proposer", "load", "lookahead", "work")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROPOSER_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    LOOKAHEAD_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    model: _common_pb2.ModelInfo
    proposer: str
    load: _common_pb2.TierLoad
    lookahead: LookaheadCounts
    work: _common_pb2.EngineWork
    def __init__(self, model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., proposer: _Optional[str] = ..., load: _Optional[_Union[_common_pb2.TierLoad, _Mapping]] = ..., lookahead: _Optional[_Union[LookaheadCounts, _Mapping]] = ..., work: _Optional[_Union[_common_pb2.EngineWork, _Mapping]] = ...) -> None: ...

class LookaheadCounts(_message.Message):
    __slots__ = ("num_hits", "num_misses", "num_wasted_tokens")
    NUM_HITS_FIELD_NUMBER: _ClassVar[int]
    NUM_MISSES_FIELD_NUMBER: _ClassVar[int]
    NUM_WASTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    num_hits: int
    num_misses: int
    num_wasted_tokens: int
    def __init__(self, num_hits: _Optional[int] = ..., num_misses: _Optional[int] = ..., num_wasted_tokens: _Optional[int] = ...) -> None: ...
