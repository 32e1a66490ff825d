from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetLoadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLoadResponse(_message.Message):
    __slots__ = ("uptime_ns", "num_requests", "max_requests", "num_rounds", "num_draft_tokens", "draft_demand")
    UPTIME_NS_FIELD_NUMBER: _ClassVar[int]
    NUM_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_DEMAND_FIELD_NUMBER: _ClassVar[int]
    uptime_ns: int
    num_requests: int
    max_requests: int
    num_rounds: int
    num_draft_tokens: int
    draft_demand: DraftDemand
    def __init__(self, uptime_ns: _Optional[int] = ..., num_requests: _Optional[int] = ..., max_requests: _Optional[int] = ..., num_rounds: _Optional[int] = ..., num_draft_tokens: _Optional[int] = ..., draft_demand: _Optional[_Union[DraftDemand, _Mapping]] = ...) -> None: ...

class DraftDemand(_message.Message):
    __slots__ = ("wanted_ns", "unserved_ns")
    WANTED_NS_FIELD_NUMBER: _ClassVar[int]
    UNSERVED_NS_FIELD_NUMBER: _ClassVar[int]
    wanted_ns: int
    unserved_ns: int
    def __init__(self, wanted_ns: _Optional[int] = ..., unserved_ns: _Optional[int] = ...) -> None: ...
