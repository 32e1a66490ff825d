"""Names that clients are told, by their numbers."""

from collections.abc import Mapping
from typing import TypeVar

from forethought.errors import TierProtocolError
from forethought.sampling.types import TokenOrigin
from forethought.v1 import generation_pb2 as pb

Name = TypeVar("Name")
Number = TypeVar("Number", bound=int)
ORIGIN_TO_PROTO = {
    TokenOrigin.ACCEPTED: pb.TOKEN_ORIGIN_ACCEPTED,
    TokenOrigin.RECOVERED: pb.TOKEN_ORIGIN_RECOVERED,
    TokenOrigin.BONUS: pb.TOKEN_ORIGIN_BONUS,
}
ORIGIN_FROM_PROTO = {number: value for value, number in ORIGIN_TO_PROTO.items()}


def named(names: Mapping[Number, Name], number: Number) -> Name:
    """The value that a number of an enum stands for."""
    try:
        return names[number]
    except KeyError:
        kind = type(next(iter(names.values()))).__name__
        raise TierProtocolError(
            f"the server answered with {kind} {number}, which this client does not know; "
            "it may be older than the server"
        ) from None
