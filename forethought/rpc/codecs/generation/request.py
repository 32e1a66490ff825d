"""What a client asks for, to messages and back."""

from collections.abc import Sequence

from forethought.errors import InvalidArgumentError
from forethought.generation import (
    ChatMessage,
    FollowUp,
    GenerationParams,
    GenerationRequest,
    Resume,
)
from forethought.prompts import messages_of, token_ids_of
from forethought.rpc.codecs.generation.misfits import refusing_misfits
from forethought.rpc.codecs.generation.params import params_from_proto, params_to_proto
from forethought.v1 import generation_pb2 as pb


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
        params_from_proto(message.params),
        message.request_id,
        message.include_steps,
        message.tenant,
        message.include_progress,
        message.note,
    )
