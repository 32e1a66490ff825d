"""GenerationService messages to values and back."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from forethought.errors import InvalidArgumentError, TierProtocolError
from forethought.generation import (
    ChatMessage,
    DeploymentInfo,
    Finished,
    FinishReason,
    FollowUp,
    GenerationEvent,
    GenerationParams,
    GenerationRequest,
    JudgedToken,
    NoDraftReason,
    ProposerStatistics,
    Resume,
    SpeculationStatistics,
    Started,
    Step,
    Token,
    TopLogprob,
    Verdict,
    Waiting,
)
from forethought.prompts import MUST_BE_A_LIST, messages_of, token_ids_of
from forethought.rpc.codecs.enums import (
    LOOKAHEAD_FROM_PROTO,
    LOOKAHEAD_TO_PROTO,
    MODE_FROM_PROTO,
    MODE_TO_PROTO,
)
from forethought.rpc.codecs.tier_codec import (
    lookahead_from_proto,
    lookahead_to_proto,
    model_from_proto,
    sampling_from_proto,
    sampling_to_proto,
    timings_from_proto,
    timings_to_proto,
)
from forethought.sampling.types import OutputToken, TokenOrigin, VerificationMode
from forethought.v1 import generation_pb2 as pb

Name = TypeVar("Name")
Number = TypeVar("Number", bound=int)

_ORIGIN_TO_PROTO = {
    TokenOrigin.ACCEPTED: pb.TOKEN_ORIGIN_ACCEPTED,
    TokenOrigin.RECOVERED: pb.TOKEN_ORIGIN_RECOVERED,
    TokenOrigin.BONUS: pb.TOKEN_ORIGIN_BONUS,
}
_VERDICT_TO_PROTO = {
    Verdict.ACCEPTED: pb.VERDICT_ACCEPTED,
    Verdict.REJECTED: pb.VERDICT_REJECTED,
    Verdict.DROPPED: pb.VERDICT_DROPPED,
}
_REASON_TO_PROTO = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}
_NO_DRAFT_TO_PROTO = {
    None: pb.NO_DRAFT_REASON_UNSPECIFIED,
    NoDraftReason.NOT_ASKED: pb.NO_DRAFT_REASON_NOT_ASKED,
    NoDraftReason.NOT_CONFIGURED: pb.NO_DRAFT_REASON_NOT_CONFIGURED,
    NoDraftReason.DID_NOT_PAY: pb.NO_DRAFT_REASON_DID_NOT_PAY,
    NoDraftReason.REFUSED: pb.NO_DRAFT_REASON_REFUSED,
    NoDraftReason.DOWN: pb.NO_DRAFT_REASON_DOWN,
    NoDraftReason.LATE: pb.NO_DRAFT_REASON_LATE,
    NoDraftReason.NOTHING_FOUND: pb.NO_DRAFT_REASON_NOTHING_FOUND,
    NoDraftReason.TOO_SHORT: pb.NO_DRAFT_REASON_TOO_SHORT,
}
_ORIGIN_FROM_PROTO = {number: value for value, number in _ORIGIN_TO_PROTO.items()}
_VERDICT_FROM_PROTO = {number: value for value, number in _VERDICT_TO_PROTO.items()}
_REASON_FROM_PROTO = {number: value for value, number in _REASON_TO_PROTO.items()}
_NO_DRAFT_FROM_PROTO = {number: value for value, number in _NO_DRAFT_TO_PROTO.items()}
"""A reason that is not known here says nothing."""


@contextmanager
def refusing_misfits(field: str) -> Iterator[None]:
    """For making a message of what a caller gave.

    Raises:
        InvalidArgumentError: a value does not fit its field, such as a text that is no Unicode.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError({field: str(error)}) from error


def conversation_to_proto(messages: Sequence[ChatMessage]) -> pb.Conversation:
    return pb.Conversation(
        messages=[pb.ChatMessage(role=turn.role, content=turn.content) for turn in messages]
    )


def conversation_from_proto(message: pb.Conversation) -> tuple[ChatMessage, ...]:
    """Raises InvalidArgumentError where nobody says anything."""
    if not message.messages:
        raise InvalidArgumentError({"prompt.conversation": "must hold at least one message"})
    return tuple(ChatMessage(turn.role, turn.content) for turn in message.messages)


def request_to_proto(request: GenerationRequest) -> pb.GenerateRequest:
    """Raises InvalidArgumentError where a value does not fit its field, such as a negative count.

    All other limits are the server's to check.
    """
    with refusing_misfits("request"):
        message = pb.GenerateRequest(
            request_id=request.request_id,
            include_steps=request.include_steps,
            tenant=request.tenant,
            include_progress=request.include_progress,
            note=request.note,
        )
    prompt = request.prompt
    if not isinstance(prompt, Resume) or request.params != GenerationParams():
        message.params.CopyFrom(params_to_proto(request.params))
    with refusing_misfits("prompt"):
        if isinstance(prompt, Resume):
            message.resume.CopyFrom(
                pb.Resume(session_id=prompt.session_id, next_index=prompt.next_index)
            )
        elif isinstance(prompt, FollowUp):
            said = conversation_to_proto(prompt.messages)
            message.follow_up.CopyFrom(
                pb.FollowUp(
                    session_id=prompt.session_id, conversation=said, branches=prompt.branches
                )
            )
        elif isinstance(prompt, str):
            message.text = prompt
        elif messages := messages_of(prompt):
            message.conversation.CopyFrom(conversation_to_proto(messages))
        else:
            message.token_ids.CopyFrom(pb.TokenIds(token_ids=token_ids_of(prompt)))
    return message


def request_from_proto(message: pb.GenerateRequest) -> GenerationRequest:
    """The request as it stands; ranges are the orchestrator's to check.

    Raises:
        InvalidArgumentError: there is no prompt, or a resumed session with new parameters.
    """
    prompt: str | Sequence[int] | Sequence[ChatMessage] | FollowUp | Resume
    match message.WhichOneof("prompt"):
        case "text":
            prompt = message.text
        case "token_ids":
            prompt = list(message.token_ids.token_ids)
        case "conversation":
            prompt = conversation_from_proto(message.conversation)
        case "follow_up":
            said = conversation_from_proto(message.follow_up.conversation)
            prompt = FollowUp(message.follow_up.session_id, said, message.follow_up.branches)
        case "resume":
            if message.HasField("params") or message.include_steps:
                field = "params" if message.HasField("params") else "include_steps"
                raise InvalidArgumentError({field: "a resumed session keeps what it began with"})
            prompt = Resume(message.resume.session_id, message.resume.next_index)
        case _:
            raise InvalidArgumentError(
                {"prompt": "must be text, token ids, a conversation or a session to go on with"}
            )
    return GenerationRequest(
        prompt,
        _params_from_proto(message.params),
        message.request_id,
        message.include_steps,
        message.tenant,
        message.include_progress,
        message.note,
    )


_OPTIONAL_PARAMS = (
    "max_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "seed",
    "logprobs",
    "num_speculative_tokens",
)
_LIST_PARAMS = ("stop", "stop_token_ids")


def params_to_proto(params: GenerationParams) -> pb.GenerationParams:
    """Raises InvalidArgumentError where a value does not fit its field."""
    with refusing_misfits("params.prediction"):
        message = pb.GenerationParams(ignore_eos=params.ignore_eos, prediction=params.prediction)
    if params.verification_mode is not None:
        message.verification_mode = MODE_TO_PROTO[params.verification_mode]
    violations = {}
    for name in (*_OPTIONAL_PARAMS, *_LIST_PARAMS):
        value = getattr(params, name)
        try:
            if name in _LIST_PARAMS and isinstance(value, str):
                # To Python it is a list of its characters.
                violations[f"params.{name}"] = MUST_BE_A_LIST
            elif name in _LIST_PARAMS:
                getattr(message, name).extend(value)
            elif value is not None:
                setattr(message, name, value)
        except (TypeError, ValueError) as error:
            violations[f"params.{name}"] = str(error)
    if violations:
        raise InvalidArgumentError(violations)
    return message


def _params_from_proto(message: pb.GenerationParams) -> GenerationParams:
    given = {name: getattr(message, name) for name in _OPTIONAL_PARAMS if message.HasField(name)}
    return GenerationParams(
        stop=tuple(message.stop),
        stop_token_ids=tuple(message.stop_token_ids),
        ignore_eos=message.ignore_eos,
        verification_mode=_mode_from_proto(message.verification_mode),
        prediction=message.prediction,
        **given,
    )


def _mode_from_proto(number: int) -> VerificationMode | None:
    """None where nothing is asked for.

    Raises:
        InvalidArgumentError: a mode that is not known here.
    """
    if not number:
        return None
    if number not in MODE_FROM_PROTO:
        raise InvalidArgumentError(
            {"params.verification_mode": "must be a mode that is known here"}
        )
    return MODE_FROM_PROTO[number]


def response_to_proto(events: Sequence[GenerationEvent]) -> pb.GenerateResponse:
    """One message for events that become known together: at most one of each kind but Token."""
    response = pb.GenerateResponse()
    for event in events:
        match event:
            case Token():
                response.tokens.append(_token_to_proto(event))
            case Step():
                response.step.CopyFrom(_step_to_proto(event))
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
            _named(MODE_FROM_PROTO, started.verification_mode),
            started.is_stored,
            started.num_cached_tokens,
            sampling_from_proto(started.sampling) if started.HasField("sampling") else None,
        )
    if response.HasField("progress"):
        progress = response.progress
        yield Waiting(progress.num_computed_tokens, progress.num_tokens, progress.is_target_lost)
    if response.HasField("step"):
        yield _step_from_proto(response.step)
    for token in response.tokens:
        yield _token_from_proto(token)
    if response.HasField("finished"):
        yield _finished_from_proto(response.finished)


def _named(names: Mapping[Number, Name], number: Number) -> Name:
    """The value that a number of an enum stands for."""
    try:
        return names[number]
    except KeyError:
        kind = type(next(iter(names.values()))).__name__
        raise TierProtocolError(
            f"the server answered with {kind} {number}, which this client does not know; "
            "it may be older than the server"
        ) from None


def _token_to_proto(token: Token) -> pb.GeneratedToken:
    return pb.GeneratedToken(
        index=token.index,
        token_id=token.token_id,
        text=token.text,
        origin=_ORIGIN_TO_PROTO[token.origin],
        draft_prob=token.draft_prob,
        target_prob=token.target_prob,
        logprob=token.logprob,
        top_logprobs=[
            pb.TopLogprob(token_id=top.token_id, text=top.text, logprob=top.logprob)
            for top in token.top_logprobs
        ],
    )


def _token_from_proto(message: pb.GeneratedToken) -> Token:
    return Token(
        index=message.index,
        token_id=message.token_id,
        text=message.text,
        origin=_named(_ORIGIN_FROM_PROTO, message.origin),
        draft_prob=message.draft_prob if message.HasField("draft_prob") else None,
        target_prob=message.target_prob,
        logprob=message.logprob if message.HasField("logprob") else None,
        top_logprobs=tuple(
            TopLogprob(top.token_id, top.text, top.logprob) for top in message.top_logprobs
        ),
    )


def _step_to_proto(step: Step) -> pb.SpeculationStep:
    return pb.SpeculationStep(
        round=step.round,
        position=step.position,
        drafted=[
            pb.JudgedToken(
                token_id=token.token_id,
                text=token.text,
                draft_prob=token.draft_prob,
                target_prob=token.target_prob,
                verdict=_VERDICT_TO_PROTO[token.verdict],
            )
            for token in step.drafted
        ],
        final_token_id=step.final.token_id,
        final_text=step.final_text,
        final_origin=_ORIGIN_TO_PROTO[step.final.origin],
        final_target_prob=step.final.target_prob,
        speculation_ns=step.speculation_ns,
        verification_ns=step.verification_ns,
        rejection_ns=step.rejection_ns,
        proposer=step.proposer,
        lookahead=LOOKAHEAD_TO_PROTO[step.lookahead],
        draft_timings=timings_to_proto(step.draft_timings),
        target_timings=timings_to_proto(step.target_timings),
    )


def _step_from_proto(message: pb.SpeculationStep) -> Step:
    return Step(
        round=message.round,
        position=message.position,
        drafted=tuple(
            JudgedToken(
                token.token_id,
                token.text,
                token.draft_prob if token.HasField("draft_prob") else None,
                token.target_prob,
                _named(_VERDICT_FROM_PROTO, token.verdict),
            )
            for token in message.drafted
        ),
        final=OutputToken(
            message.final_token_id,
            _named(_ORIGIN_FROM_PROTO, message.final_origin),
            None,
            message.final_target_prob,
        ),
        final_text=message.final_text,
        speculation_ns=message.speculation_ns,
        verification_ns=message.verification_ns,
        rejection_ns=message.rejection_ns,
        proposer=message.proposer,
        lookahead=LOOKAHEAD_FROM_PROTO.get(message.lookahead),
        draft_timings=timings_from_proto(message.draft_timings),
        target_timings=timings_from_proto(message.target_timings),
    )


def statistics_to_proto(speculation: SpeculationStatistics) -> pb.SpeculationStatistics:
    return pb.SpeculationStatistics(
        num_rounds=speculation.num_rounds,
        num_draft_tokens=speculation.num_draft_tokens,
        num_accepted_tokens=speculation.num_accepted_tokens,
        num_accepted_tokens_per_position=speculation.num_accepted_tokens_per_position,
        num_draft_failures=speculation.num_draft_failures,
        speculation_ns=speculation.speculation_ns,
        verification_ns=speculation.verification_ns,
        rejection_ns=speculation.rejection_ns,
        proposers=[
            pb.ProposerStatistics(
                proposer=each.proposer,
                num_rounds=each.num_rounds,
                num_draft_tokens=each.num_draft_tokens,
                num_accepted_tokens=each.num_accepted_tokens,
            )
            for each in speculation.proposers
        ],
        lookahead=lookahead_to_proto(speculation.lookahead),
        no_draft_reason=_NO_DRAFT_TO_PROTO[speculation.no_draft_reason],
        no_draft_detail=speculation.no_draft_detail,
    )


def statistics_from_proto(speculation: pb.SpeculationStatistics) -> SpeculationStatistics:
    return SpeculationStatistics(
        num_rounds=speculation.num_rounds,
        num_draft_tokens=speculation.num_draft_tokens,
        num_accepted_tokens=speculation.num_accepted_tokens,
        num_accepted_tokens_per_position=tuple(speculation.num_accepted_tokens_per_position),
        num_draft_failures=speculation.num_draft_failures,
        speculation_ns=speculation.speculation_ns,
        verification_ns=speculation.verification_ns,
        rejection_ns=speculation.rejection_ns,
        proposers=tuple(
            ProposerStatistics(
                each.proposer, each.num_rounds, each.num_draft_tokens, each.num_accepted_tokens
            )
            for each in speculation.proposers
        ),
        lookahead=lookahead_from_proto(speculation.lookahead),
        no_draft_reason=_NO_DRAFT_FROM_PROTO.get(speculation.no_draft_reason),
        no_draft_detail=speculation.no_draft_detail,
    )


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
        reason=_named(_REASON_FROM_PROTO, message.finish_reason),
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


def deployment_from_proto(message: pb.GenerationServiceGetModelInfoResponse) -> DeploymentInfo:
    return DeploymentInfo(
        target=model_from_proto(message.target),
        num_speculative_tokens=message.default_num_speculative_tokens,
        max_num_speculative_tokens=message.max_num_speculative_tokens,
        verification_mode=MODE_FROM_PROTO.get(
            message.default_verification_mode, VerificationMode.REJECTION
        ),
        policy=message.policy,
        has_chat_template=message.has_chat_template,
        params=_params_from_proto(message.default_params),
        special_tokens=dict(message.special_tokens),
        chat_template=message.chat_template,
        lookups=tuple(message.lookups),
    )
