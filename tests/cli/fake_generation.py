"""A GenerationService that replays a recorded generation, or does what the prompt says."""

import math
import time
from dataclasses import replace
from enum import StrEnum

import grpc

from forethought.errors import (
    ForethoughtError,
    InvalidArgumentError,
    LoadingError,
    OverloadedError,
)
from forethought.generation import Step
from forethought.rpc.codecs.generation.events import response_to_proto
from forethought.rpc.codecs.generation.request import request_from_proto
from forethought.rpc.status import code_of, status_from_error
from forethought.v1 import generation_pb2, generation_pb2_grpc
from tests.cli import recorded


class Prompt(StrEnum):
    """Prompts that make it do something else."""

    ENDLESS = "send tokens until I hang up"
    LATE = "do not answer in time"
    REFUSED = "refuse this"
    FULL = "have no room"
    BROKEN_OFF = "fail in the middle"
    STORED = "fail in the middle of what is stored"
    UNTEMPLATED = "have no chat template"
    LOADING = "be ready at the second time only"
    ODD_NUMBERS = "answer with numbers that JSON does not have"


_REFUSALS = {
    Prompt.REFUSED: InvalidArgumentError({"params.top_p": "must be at most 1"}),
    Prompt.FULL: OverloadedError("no room for a session", retry_after_s=1.5),
    Prompt.UNTEMPLATED: InvalidArgumentError({"prompt.conversation": "no chat template"}),
}


class FakeGeneration(generation_pb2_grpc.GenerationServiceServicer):
    """Remembers the requests it got."""

    def __init__(self):
        self.requests = []

    def GetModelInfo(self, message, context):  # noqa: N802
        asked = self.requests[-1].prompt if self.requests else ""
        return generation_pb2.GenerationServiceGetModelInfoResponse(
            has_chat_template=isinstance(asked, str) or asked[-1].content != Prompt.UNTEMPLATED,
            default_params=generation_pb2.GenerationParams(
                temperature=0.2, top_k=0, top_p=0.9, min_p=0, repetition_penalty=1
            ),
            lookups=["suffix"],
        )

    def Generate(self, message, context):  # noqa: N802 - the method's name in the proto
        request = request_from_proto(message)
        self.requests.append(request)
        text = request.prompt if isinstance(request.prompt, str) else request.prompt[-1].content
        if text in _REFUSALS and not (text == Prompt.UNTEMPLATED and text is request.prompt):
            _abort(context, _REFUSALS[text])
        match text:
            case Prompt.ENDLESS:
                yield response_to_proto([recorded.STARTED])
                index = 0
                while context.is_active():
                    yield response_to_proto([replace(recorded.TOKENS[0], index=index)])
                    index += 1
                    time.sleep(0.02)
            case Prompt.LATE:
                while context.is_active():
                    time.sleep(0.02)
            case Prompt.BROKEN_OFF | Prompt.STORED:
                is_stored = text == Prompt.STORED
                started = replace(recorded.STARTED, is_stored=is_stored)
                yield response_to_proto([started, *recorded.TOKENS[:3]])
                # What is stored would be resumed after the other one.
                code = grpc.StatusCode.INTERNAL if is_stored else grpc.StatusCode.UNAVAILABLE
                context.abort(code, "Socket closed")
            case Prompt.LOADING if self.requests.count(request) == 1:
                _abort(context, LoadingError("the model is loading"))
            case Prompt.ODD_NUMBERS:
                odd = replace(recorded.WITH_LOGPROBS, logprob=-math.inf, target_prob=math.nan)
                yield response_to_proto([recorded.STARTED])
                yield response_to_proto([odd])
                yield response_to_proto([recorded.FINISHED])
            case _:
                for events in recorded.ROUNDS:
                    yield response_to_proto(
                        [e for e in events if request.include_steps or not isinstance(e, Step)]
                    )


def add_fake_generation(server):
    """Adds one to a server and returns it."""
    servicer = FakeGeneration()
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(servicer, server)
    return servicer


def _abort(context, error: ForethoughtError):
    details = status_from_error(error).SerializeToString()
    context.set_trailing_metadata((("grpc-status-details-bin", details),))
    context.abort(code_of(error), error.message)
