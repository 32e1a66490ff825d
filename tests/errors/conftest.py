"""A running deployment, and its generated stubs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forethought.rpc.connections.channels import open_channel
from forethought.v1.generation_pb2_grpc import GenerationServiceStub
from tests.stack import LoadedModel, Stack, loaded, running_stack
from tests.tiny import write_tiny_model

VOCAB_SIZE = 12
MAX_LEN = 256
MAX_K = 8


@pytest.fixture
async def stack(tiny_target: LoadedModel) -> AsyncIterator[Stack]:
    async with running_stack(tiny_target, tiny_target.proposer()) as running:
        yield running


@pytest.fixture
async def generation(stack: Stack) -> AsyncIterator[GenerationServiceStub]:
    """The stub that protoc makes, and nothing of ours around it."""
    async with open_channel(stack.address) as channel:
        yield GenerationServiceStub(channel)


@pytest.fixture(scope="session")
def foreign_draft(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A draft with another vocabulary than the target's."""
    folder: Path = tmp_path_factory.mktemp("tiny") / "foreign"
    return loaded(write_tiny_model(folder, vocab_size=VOCAB_SIZE + 1, seed=3))
