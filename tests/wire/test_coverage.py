"""No field of any message, and no value of any enum, is forgotten by the codecs.

The examples fill every field of every message; that is checked against the descriptors of the
protos. Examples that survive the wire unchanged then prove that each field is written and read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from forethought.rpc.codecs import scaling as scaling_codec
from forethought.rpc.codecs.generation import sessions as session_codec
from forethought.rpc.codecs.generation.events import events_from_proto, response_to_proto
from forethought.rpc.codecs.generation.request import request_from_proto, request_to_proto
from forethought.rpc.codecs.generation.statistics import lookahead_from_proto, lookahead_to_proto
from forethought.rpc.codecs.load import (
    load_from_proto,
    load_to_proto,
    work_from_proto,
    work_to_proto,
)
from forethought.rpc.codecs.model_info import model_from_proto, model_to_proto
from forethought.rpc.codecs.sampling import sampling_from_proto, sampling_to_proto
from forethought.rpc.codecs.tier.draft import (
    draft_from_proto,
    draft_to_proto,
    speculate_from_proto,
    speculate_to_proto,
)
from forethought.rpc.codecs.tier.evidence import (
    evidence_from_proto,
    evidence_to_proto,
    progress_from_proto,
    progress_to_proto,
    verify_from_proto,
    verify_to_proto,
)
from forethought.rpc.codecs.tier.opening import (
    open_from_proto,
    open_to_proto,
    opened_from_proto,
    opened_to_proto,
)
from forethought.v1 import common_pb2, draft_pb2, generation_pb2, scaling_pb2, target_pb2
from tests.wire import examples
from tests.wire.plain import as_plain


@dataclass(frozen=True)
class Case:
    """A value, and its way over the wire and back."""

    value: Any
    to_proto: Callable[[Any], Message]
    from_proto: Callable[[Any], Any]


def event(value: Any) -> Case:
    return Case(
        value,
        lambda event: response_to_proto([event]),
        lambda message: next(events_from_proto(message)),
    )


def request(value: Any) -> Case:
    return Case(value, request_to_proto, request_from_proto)


MODEL = examples.MODEL
CASES = [
    Case(examples.SAMPLING, sampling_to_proto, sampling_from_proto),
    Case(MODEL, model_to_proto, model_from_proto),
    Case(examples.LOOKAHEAD, lookahead_to_proto, lookahead_from_proto),
    Case(examples.LOAD, load_to_proto, load_from_proto),
    Case(examples.WORK, work_to_proto, work_from_proto),
    Case(
        examples.ORCHESTRATOR_LOAD,
        scaling_codec.orchestrator_load_to_proto,
        scaling_codec.orchestrator_load_from_proto,
    ),
    Case(examples.OPEN, open_to_proto, lambda m: open_from_proto(m, MODEL)),
    Case(examples.PREFILL, progress_to_proto, progress_from_proto),
    Case(examples.OPENED, opened_to_proto, opened_from_proto),
    Case(
        examples.SPECULATE,
        speculate_to_proto,
        lambda m: speculate_from_proto(m, MODEL),
    ),
    Case(examples.DRAFT, draft_to_proto, draft_from_proto),
    Case(
        examples.VERIFY,
        verify_to_proto,
        lambda m: verify_from_proto(m, MODEL),
    ),
    Case(examples.EVIDENCE, evidence_to_proto, evidence_from_proto),
    *(
        Case(content, session_codec.content_to_proto, session_codec.content_from_proto)
        for content in examples.SESSIONS
    ),
    *map(request, examples.REQUESTS),
    *map(
        event,
        [
            *examples.STARTED,
            examples.PROMPT_TOKEN,
            *examples.TOKENS,
            examples.STEP,
            examples.WAITING,
            *examples.FINISHED,
        ],
    ),
]
names = pytest.mark.parametrize("case", CASES, ids=lambda case: type(case.value).__name__)

NOT_IN_CODECS = {
    # One field each, which says what the message inside is: made and taken apart by the services.
    "SpeculateRequest",
    "SpeculateResponse",
    "VerifyRequest",
    "VerifyResponse",
    # Answered straight from what the services hold; see `test_small_calls.py`.
    "DraftServiceGetModelInfoRequest",
    "DraftServiceGetModelInfoResponse",
    "TargetServiceGetModelInfoRequest",
    "TargetServiceGetModelInfoResponse",
    "GenerationServiceGetModelInfoRequest",
    "GenerationServiceGetModelInfoResponse",
    "TokenizeRequest",
    "TokenizeResponse",
    "DetokenizeRequest",
    "DetokenizeResponse",
    "GetLoadRequest",
    # Made where they are asked and answered; see `tests/sessions`.
    "GetSessionRequest",
    "ListSessionsRequest",
    "ListSessionsResponse",
    "CancelSessionRequest",
    "CancelSessionResponse",
    "DeleteSessionRequest",
    "DeleteSessionResponse",
}


def over_the_wire(message: Message) -> Message:
    return type(message).FromString(message.SerializeToString())


def said(message: Message) -> Iterator[tuple[str, Any]]:
    """Every field that is set, as "Message.field" with its value, in the messages inside too."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        for item in values:
            yield f"{field.containing_type.name}.{field.name}", (field, item)
            if field.message_type:
                yield from said(item)


def every_message() -> Iterator[Descriptor]:
    for module in (common_pb2, draft_pb2, target_pb2, generation_pb2, scaling_pb2):
        yield from module.DESCRIPTOR.message_types_by_name.values()


@names
def test_a_value_is_the_same_after_the_wire(case: Case):
    message = over_the_wire(case.to_proto(case.value))
    assert as_plain(case.from_proto(message)) == as_plain(case.value)


@names
def test_a_message_is_the_same_when_it_is_passed_on(case: Case):
    message = over_the_wire(case.to_proto(case.value))
    assert case.to_proto(case.from_proto(message)) == message


def test_the_examples_set_every_field_of_every_message():
    seen = {name for case in CASES for name, _ in said(case.to_proto(case.value))}
    fields = {
        f"{message.name}.{field.name}"
        for message in every_message()
        if message.name not in NOT_IN_CODECS
        for field in message.fields
    }
    assert fields - seen == set()


def test_the_examples_use_every_value_of_every_enum_but_unspecified():
    seen: set[str] = set()
    for case in CASES:
        for _, (field, value) in said(case.to_proto(case.value)):
            if field.type == FieldDescriptor.TYPE_ENUM:
                seen.add(field.enum_type.values_by_number[value].name)
    values = {
        value.name
        for module in (common_pb2, draft_pb2, generation_pb2)
        for enum in module.DESCRIPTOR.enum_types_by_name.values()
        for value in enum.values
        if value.number
    }
    assert seen == values


def test_every_exception_is_a_message_that_exists():
    assert {message.name for message in every_message()} >= NOT_IN_CODECS


def test_the_twin_that_forgets_a_field_is_caught():
    def forgetful(message: Any) -> Any:
        return replace(model_from_proto(message), dtype="")

    message = model_to_proto(MODEL)
    assert as_plain(forgetful(message)) != as_plain(MODEL)
    del_one = replace(MODEL, device="")
    assert "ModelInfo.device" not in dict(said(model_to_proto(del_one)))
