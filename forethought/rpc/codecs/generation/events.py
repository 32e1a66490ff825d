"""What a client is told, to messages and back."""

from collections.abc import Iterator, Sequence

from forethought.generation import (
    Finished,
    FinishReason,
    GenerationEvent,
    PromptToken,
    Started,
    Step,
    Token,
    Waiting,
)
from forethought.rpc.codecs.enums import MODE_FROM_PROTO, MODE_TO_PROTO
from forethought.rpc.codecs.generation.names import named
from forethought.rpc.codecs.generation.statistics import statistics_from_proto, statistics_to_proto
from forethought.rpc.codecs.generation.step import step_from_proto, step_to_proto
from forethought.rpc.codecs.generation.tokens import (
    prompt_token_from_proto,
    prompt_token_to_proto,
    token_from_proto,
    token_to_proto,
)
from forethought.rpc.codecs.sampling import sampling_from_proto, sampling_to_proto
from forethought.v1 import generation_pb2 as pb

_REASON_TO_PROTO = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}
_REASON_FROM_PROTO = {number: value for value, number in _REASON_TO_PROTO.items()}


def response_to_proto(events: Sequence[GenerationEvent]) -> pb.GenerateResponse:
    """One message for events that become known together: at most one of each kind but tokens."""
    response = pb.GenerateResponse()
    for event in events:
        match event:
            case Token():
                response.tokens.append(token_to_proto(event))
            case Step():
                response.step.CopyFrom(step_to_proto(event))
            case PromptToken():
                response.prompt_tokens.append(prompt_token_to_proto(event))
            case Started():
                response.started.CopyFrom(
                    pb.GenerationStarted(
                        session_id=event.session_id,
                        seed=event.seed,
                        num_prompt_tokens=event.num_prompt_tokens,
                        model=event.model,
                        verification_mode=MODE_TO_PROTO[event.verification_mode],
                        is_stored=event.is_stored,
                        num_cached_tokens=event.num_cached_tokens,
                        sampling=None
                        if event.sampling is None
                        else sampling_to_proto(event.sampling),
                    )
                )
            case Waiting():
                response.progress.CopyFrom(
                    pb.GenerationProgress(
                        num_computed_tokens=event.num_computed_tokens,
                        num_tokens=event.num_tokens,
                        is_target_lost=event.is_target_lost,
                    )
                )
            case Finished():
                response.finished.CopyFrom(_finished_to_proto(event))
    return response


def events_from_proto(response: pb.GenerateResponse) -> Iterator[GenerationEvent]:
    """The events of one message, in the order in which they happened.

    Raises:
        TierProtocolError: the server uses a name that is not in this client's protos.
    """
    if response.HasField("started"):
        started = response.started
        yield Started(
            started.session_id,
            started.seed,
            started.num_prompt_tokens,
            started.model,
            named(MODE_FROM_PROTO, started.verification_mode),
            started.is_stored,
            started.num_cached_tokens,
            sampling_from_proto(started.sampling) if started.HasField("sampling") else None,
        )
    if response.HasField("progress"):
        progress = response.progress
        yield Waiting(progress.num_computed_tokens, progress.num_tokens, progress.is_target_lost)
    for each in response.prompt_tokens:
        yield prompt_token_from_proto(each)
    if response.HasField("step"):
        yield step_from_proto(response.step)
    for token in response.tokens:
        yield token_from_proto(token)
    if response.HasField("finished"):
        yield _finished_from_proto(response.finished)


def _finished_to_proto(finished: Finished) -> pb.GenerationFinished:
    return pb.GenerationFinished(
        finish_reason=_REASON_TO_PROTO[finished.reason],
        matched_stop=finished.matched_stop,
        matched_stop_token_id=finished.matched_stop_token_id,
        num_prompt_tokens=finished.num_prompt_tokens,
        num_output_tokens=finished.num_output_tokens,
        speculation=statistics_to_proto(finished.speculation),
        time_to_first_token_ns=finished.time_to_first_token_ns,
        total_ns=finished.total_ns,
        is_durable=finished.is_durable,
    )


def _finished_from_proto(message: pb.GenerationFinished) -> Finished:
    return Finished(
        reason=named(_REASON_FROM_PROTO, message.finish_reason),
        num_prompt_tokens=message.num_prompt_tokens,
        num_output_tokens=message.num_output_tokens,
        speculation=statistics_from_proto(message.speculation),
        time_to_first_token_ns=message.time_to_first_token_ns,
        total_ns=message.total_ns,
        matched_stop=message.matched_stop,
        matched_stop_token_id=message.matched_stop_token_id
        if message.HasField("matched_stop_token_id")
        else None,
        is_durable=message.is_durable,
    )
