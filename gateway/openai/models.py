"""`/v1/models`."""

import time

import msgspec

from gateway.upstream import Upstream


class ModelCard(msgspec.Struct, frozen=True):
    """A model that can be asked for."""

    id: str
    object: str
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int


class ModelList(msgspec.Struct, frozen=True):
    """All of them."""

    object: str
    data: list[ModelCard]


async def model_list(upstream: Upstream) -> ModelList:
    """One model, under each of its names. Raises ForethoughtError."""
    target = (await upstream.described_to_caller()).target
    cards = [
        ModelCard(name, "model", STARTED_S, "forethought", target.name, None, target.max_model_len)
        for name in upstream.names or (target.name,)
    ]
    return ModelList("list", cards)


STARTED_S = int(time.time())
"""The gateway does not know when the model was made."""
