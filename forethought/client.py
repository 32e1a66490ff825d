"""The Python client: a dataclass in, an async iterator of events out.

    async with GenerationClient("127.0.0.1:50050") as client:
        request = GenerationRequest("Once upon a time", GenerationParams(max_tokens=64))
        async for event in client.generate(request):
            if isinstance(event, Token):
                print(event.text, end="")

Leaving the iterator early cancels the call, which frees what every tier holds for it.
"""

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Self

import grpc

from forethought.generation import (
    ChatMessage,
    GenerationEvent,
    GenerationRequest,
)
from forethought.rpc.channels import open_channel
from forethought.rpc.generation_codec import (
    conversation_to_proto,
    events_from_proto,
    request_to_proto,
)
from forethought.rpc.status import error_from_rpc
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import GenerationServiceStub


class GenerationClient:
    """A connection to a GenerationService. Safe for any number of concurrent calls.

    Args:
        address: `host:port`, or any other gRPC target.
    """

    def __init__(self, address: str) -> None:
        self._channel = open_channel(address)
        self._stub = GenerationServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        await self._channel.close()

    async def generate(
        self, request: GenerationRequest, *, timeout_s: float | None = None
    ) -> AsyncGenerator[GenerationEvent]:
        """Streams the continuation of a prompt.

        Args:
            request: prompt and parameters.
            timeout_s: deadline of the whole call, seconds; None waits as long as it takes.

        Yields:
            One Started, then Tokens (and Steps, if asked for), then one Finished.

        Raises:
            ForethoughtError: the leaf that matches the server's reason; `RemoteError` otherwise.
            TierProtocolError: the server says what this client does not understand.
        """
        call = self._stub.Generate(request_to_proto(request), timeout=timeout_s)
        try:
            async for response in call:
                for event in events_from_proto(response):
                    yield event
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        finally:
            call.cancel()

    async def tokenize(
        self, text: str | Sequence[ChatMessage], *, timeout_s: float | None = 10
    ) -> list[int]:
        """Token ids of a text, or of a conversation through the model's chat template."""
        request = (
            pb.TokenizeRequest(text=text)
            if isinstance(text, str)
            else pb.TokenizeRequest(conversation=conversation_to_proto(text))
        )
        try:
            response = await self._stub.Tokenize(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        return list(response.token_ids)

    async def detokenize(self, token_ids: Sequence[int], *, timeout_s: float | None = 10) -> str:
        """The text of token ids, without special tokens."""
        request = pb.DetokenizeRequest(token_ids=token_ids)
        try:
            response = await self._stub.Detokenize(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        return str(response.text)
