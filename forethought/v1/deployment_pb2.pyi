from forethought.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReplicaStanding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLICA_STANDING_UNSPECIFIED: _ClassVar[ReplicaStanding]
    REPLICA_STANDING_UNKNOWN: _ClassVar[ReplicaStanding]
    REPLICA_STANDING_SERVING: _ClassVar[ReplicaStanding]
    REPLICA_STANDING_CLOSED: _ClassVar[ReplicaStanding]
    REPLICA_STANDING_LOST: _ClassVar[ReplicaStanding]
    REPLICA_STANDING_REFUSED: _ClassVar[ReplicaStanding]
REPLICA_STANDING_UNSPECIFIED: ReplicaStanding
REPLICA_STANDING_UNKNOWN: ReplicaStanding
REPLICA_STANDING_SERVING: ReplicaStanding
REPLICA_STANDING_CLOSED: ReplicaStanding
REPLICA_STANDING_LOST: ReplicaStanding
REPLICA_STANDING_REFUSED: ReplicaStanding

class GetDeploymentRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetDeploymentResponse(_message.Message):
    __slots__ = ("version", "not_ready", "tiers", "store", "num_requests", "max_requests", "num_rounds", "num_draft_tokens", "num_accepted_tokens")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    NUM_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    version: str
    not_ready: str
    tiers: _containers.RepeatedCompositeFieldContainer[TierState]
    store: StoreState
    num_requests: int
    max_requests: int
    num_rounds: int
    num_draft_tokens: int
    num_accepted_tokens: int
    def __init__(self, version: _Optional[str] = ..., not_ready: _Optional[str] = ..., tiers: _Optional[_Iterable[_Union[TierState, _Mapping]]] = ..., store: _Optional[_Union[StoreState, _Mapping]] = ..., num_requests: _Optional[int] = ..., max_requests: _Optional[int] = ..., num_rounds: _Optional[int] = ..., num_draft_tokens: _Optional[int] = ..., num_accepted_tokens: _Optional[int] = ...) -> None: ...

class TierState(_message.Message):
    __slots__ = ("name", "replicas")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaState]
    def __init__(self, name: _Optional[str] = ..., replicas: _Optional[_Iterable[_Union[ReplicaState, _Mapping]]] = ...) -> None: ...

class ReplicaState(_message.Message):
    __slots__ = ("address", "standing", "why", "is_ejected", "num_sessions", "model", "certificate")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    IS_EJECTED_FIELD_NUMBER: _ClassVar[int]
    NUM_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    address: str
    standing: ReplicaStanding
    why: str
    is_ejected: bool
    num_sessions: int
    model: _common_pb2.ModelInfo
    certificate: Certificate
    def __init__(self, address: _Optional[str] = ..., standing: _Optional[_Union[ReplicaStanding, str]] = ..., why: _Optional[str] = ..., is_ejected: _Optional[bool] = ..., num_sessions: _Optional[int] = ..., model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., certificate: _Optional[_Union[Certificate, _Mapping]] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("not_before_s", "not_after_s")
    NOT_BEFORE_S_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    not_before_s: int
    not_after_s: int
    def __init__(self, not_before_s: _Optional[int] = ..., not_after_s: _Optional[int] = ...) -> None: ...

class StoreState(_message.Message):
    __slots__ = ("why_away", "num_undurable_sessions")
    WHY_AWAY_FIELD_NUMBER: _ClassVar[int]
    NUM_UNDURABLE_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    why_away: str
    num_undurable_sessions: int
    def __init__(self, why_away: _Optional[str] = ..., num_undurable_sessions: _Optional[int] = ...) -> None: ...
