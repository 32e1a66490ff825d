"""How a session on a tier opens, to messages and back. A tier checks what it is sent."""

from forethought.errors import InvalidArgumentError
from forethought.rpc.codecs.enums import MODE_FROM_PROTO, MODE_TO_PROTO
from forethought.rpc.codecs.model_info import model_from_proto, model_to_proto
from forethought.rpc.codecs.sampling import sampling_from_proto, sampling_to_proto
from forethought.rpc.codecs.tier.round_limits import GIVES_NO_HIDDEN_STATES, check_token_ids
from forethought.tier import ModelInfo, SessionOpen, SessionOpened
from forethought.v1 import common_pb2

MAX_SESSION_ID_CHARS = 128
MAX_TENANT_CHARS = 128


def open_to_proto(opening: SessionOpen) -> common_pb2.SessionOpen:
    return common_pb2.SessionOpen(
        session_id=opening.session_id,
        token_ids=opening.token_ids,
        sampling=sampling_to_proto(opening.sampling),
        vocabulary_fingerprint=opening.vocabulary_fingerprint,
        model_fingerprint=opening.model_fingerprint,
        verification_mode=MODE_TO_PROTO[opening.mode],
        tenant=opening.tenant,
        num_prompt_hidden_states=opening.num_prompt_hidden_states,
        wants_progress=opening.wants_progress,
    )


def open_from_proto(message: common_pb2.SessionOpen, model: ModelInfo) -> SessionOpen:
    """Checks the opening against the limits of `model`.

    Raises:
        InvalidArgumentError: a field is out of range.
    """
    if not 1 <= len(message.session_id) <= MAX_SESSION_ID_CHARS:
        raise InvalidArgumentError(
            {"open.session_id": f"must have 1 to {MAX_SESSION_ID_CHARS} characters"}
        )
    if not 1 <= len(message.token_ids) <= model.max_model_len:
        raise InvalidArgumentError(
            {"open.token_ids": f"must hold 1 to {model.max_model_len} tokens"}
        )
    check_token_ids("open.token_ids", message.token_ids, model)
    if message.verification_mode not in MODE_FROM_PROTO:
        raise InvalidArgumentError({"open.verification_mode": "must be a mode that is known here"})
    if len(message.tenant) > MAX_TENANT_CHARS:
        raise InvalidArgumentError(
            {"open.tenant": f"must have at most {MAX_TENANT_CHARS} characters"}
        )
    if message.num_prompt_hidden_states and not model.hidden_size:
        raise InvalidArgumentError({"open.num_prompt_hidden_states": GIVES_NO_HIDDEN_STATES})
    try:
        sampling = sampling_from_proto(message.sampling)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            {f"open.sampling.{field}": text for field, text in error.violations.items()}
        ) from error
    return SessionOpen(
        session_id=message.session_id,
        token_ids=list(message.token_ids),
        sampling=sampling,
        vocabulary_fingerprint=message.vocabulary_fingerprint,
        model_fingerprint=message.model_fingerprint,
        mode=MODE_FROM_PROTO[message.verification_mode],
        tenant=message.tenant,
        num_prompt_hidden_states=message.num_prompt_hidden_states,
        wants_progress=message.wants_progress,
    )


def opened_to_proto(opened: SessionOpened) -> common_pb2.SessionOpened:
    return common_pb2.SessionOpened(
        model=model_to_proto(opened.model), num_cached_tokens=opened.num_cached_tokens
    )


def opened_from_proto(message: common_pb2.SessionOpened) -> SessionOpened:
    return SessionOpened(model_from_proto(message.model), message.num_cached_tokens)
