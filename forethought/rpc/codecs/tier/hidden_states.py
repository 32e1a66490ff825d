"""Hidden states as messages and back."""

import numpy as np

from forethought.errors import InvalidArgumentError, TierProtocolError
from forethought.sampling.hidden_states import HiddenStates
from forethought.tier import HiddenStatesNeed
from forethought.v1 import common_pb2

_FLOAT16 = np.dtype("<f2")


def hidden_states_to_proto(states: HiddenStates | None) -> common_pb2.HiddenStates | None:
    if states is None:
        return None
    num_positions, hidden_size = states.rows.shape
    return common_pb2.HiddenStates(
        first_position=states.first_position,
        num_positions=num_positions,
        hidden_size=hidden_size,
        element_type=common_pb2.ELEMENT_TYPE_FLOAT16,
        data=states.rows.astype(_FLOAT16, copy=False).tobytes(),
    )


def hidden_states_from_proto(message: common_pb2.HiddenStates) -> HiddenStates:
    """The rows are views of the message's bytes, not to be changed.

    Raises:
        ValueError: the bytes are not what the other fields say.
    """
    shape = (message.num_positions, message.hidden_size)
    if message.element_type != common_pb2.ELEMENT_TYPE_FLOAT16:
        raise ValueError("must be of an element type that is known here")
    if not shape[0] or not shape[1] or len(message.data) != shape[0] * shape[1] * 2:
        raise ValueError("must hold all elements of at least one position")
    rows = np.frombuffer(message.data, dtype=_FLOAT16).reshape(shape)
    return HiddenStates(message.first_position, rows)


def hidden_states_of_round(
    message: common_pb2.HiddenStates, position: int, need: HiddenStatesNeed | None
) -> HiddenStates:
    """What a round brings for a draft with this need.

    Raises:
        InvalidArgumentError: the draft can do nothing with it.
    """
    field = "round.hidden_states"
    if need is None:
        raise InvalidArgumentError({field: "must not be set: this draft needs none"})
    try:
        states = hidden_states_from_proto(message)
    except ValueError as error:
        raise InvalidArgumentError({field: str(error)}) from error
    if states.size != need.hidden_size:
        raise InvalidArgumentError({field: f"must have {need.hidden_size} elements a position"})
    if states.end >= position:
        raise InvalidArgumentError({field: "must end before the last committed token"})
    if not np.isfinite(states.rows).all():
        raise InvalidArgumentError({field: "must be numbers"})
    return states


def hidden_states_of_evidence(
    message: common_pb2.HiddenStates, position: int, num_guesses: int
) -> HiddenStates:
    """What the evidence on so many guesses after `position` brings.

    Raises:
        TierProtocolError: it is not of the positions that it should be of.
    """
    try:
        states = hidden_states_from_proto(message)
    except ValueError as error:
        raise TierProtocolError(f"hidden states: {error}") from error
    if not (states.first_position < position and states.end == position + num_guesses):
        raise TierProtocolError("hidden states of other positions than the round's")
    return states
