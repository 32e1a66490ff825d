"""The parameters of a request, to messages and back."""

from forethought.errors import InvalidArgumentError
from forethought.generation import GenerationParams
from forethought.prompts import MUST_BE_A_LIST
from forethought.rpc.codecs.enums import MODE_FROM_PROTO, MODE_TO_PROTO
from forethought.rpc.codecs.generation.misfits import refusing_misfits
from forethought.sampling.types import VerificationMode
from forethought.v1 import generation_pb2 as pb

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
    "prompt_logprobs",
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


def params_from_proto(message: pb.GenerationParams) -> GenerationParams:
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
