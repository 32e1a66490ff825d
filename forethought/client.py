"""The Python client: a dataclass in, an async iterator of events out.

    async with GenerationClient("127.0.0.1:50050") as client:
        request = GenerationRequest("Once upon a time", GenerationParams(max_tokens=64))
        async for event in client.generate(request):
            if isinstance(event, Token):
                print(event.text, end="")

With several addresses it needs none of them in particular: an answer whose orchestrator is lost
goes on at another one (`forethought/resuming.py`).

Leaving the iterator early cancels the call, which frees what every tier holds for it. Whatever goes
wrong is a leaf of `ForethoughtError`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

import grpc

from forethought.addresses import split_addresses
from forethought.errors import ClientClosedError, ForethoughtError
from forethought.generation import (
    ChatMessage,
    DeploymentInfo,
    GenerationEvent,
    GenerationRequest,
    SessionContent,
    SessionInfo,
    TokenizedText,
)
from forethought.resuming import (
    OnRetry,
    Progress,
    RetryOptions,
    ignore_retry,
    is_lost,
    resuming,
)
from forethought.rpc.calls.authorized import authorized, calling_with_key, check_api_key
from forethought.rpc.codecs.generation.deployment_info import deployment_from_proto
from forethought.rpc.codecs.generation.events import events_from_proto
from forethought.rpc.codecs.generation.misfits import refusing_misfits
from forethought.rpc.codecs.generation.request import (
    conversation_to_proto,
    request_to_proto,
)
from forethought.rpc.codecs.generation.sessions import content_from_proto, session_from_proto
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.security.tls import ClientTls, Identity, channel_credentials
from forethought.rpc.status import error_from_rpc
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import GenerationServiceStub

__all__ = [
    "ClientTls",
    "ForethoughtError",
    "GenerationClient",
    "Identity",
    "RetryOptions",
    "calling_with_key",
]

Response = TypeVar("Response")


class GenerationClient:
    """Connections to a GenerationService. Safe for any number of concurrent calls.

    They are opened with the first call, and belong to the event loop of that call; a call from
    another loop, such as that of a second `asyncio.run`, opens new ones.

    Args:
        addresses: `host:port`, or any other gRPC target; or several, in a list or separated by
            commas, of orchestrators that share a store and a model. The first is used for as long
            as it answers.
        retry: how to go on without an orchestrator that was lost.
        tls: whom to believe, and what to show; None speaks plain text. Files that change are read
            again for later calls.
        api_key: of a deployment that wants one; its calls are of the key's tenant.

    Raises:
        InvalidArgumentError: an address is none, or the key.
        CertificateError: the files for TLS cannot be used.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        retry: RetryOptions | None = None,
        *,
        tls: ClientTls | None = None,
        api_key: str = "",
    ) -> None:
        self.addresses = split_addresses(addresses)
        self._retry = retry or RetryOptions()
        self._api_key = check_api_key(api_key)
        self._credentials = None if tls is None else channel_credentials(tls)
        self._loop: asyncio.AbstractEventLoop | None = None  # that the channels belong to
        self._channels: list[grpc.aio.Channel] = []
        self._opened: list[GenerationServiceStub] = []
        self._current = 0  # the one that answered last
        self._is_closed = False

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
        """Closes the connections; calls under way are cancelled, and later ones refused."""
        self._is_closed = True
        channels, self._channels, self._opened = self._channels, [], []
        if self._loop is asyncio.get_running_loop():
            for channel in channels:
                await channel.close()

    @property
    def address(self) -> str:
        """Of the orchestrator that is used now."""
        return self.addresses[self._current]

    @property
    def _stubs(self) -> list[GenerationServiceStub]:
        """One for each address, on channels of the running event loop."""
        if self._is_closed:
            raise ClientClosedError("the client is closed")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._channels = [
                open_channel(address, credentials=self._credentials) for address in self.addresses
            ]
            self._opened = [
                GenerationServiceStub(authorized(channel, self._api_key))
                for channel in self._channels
            ]
        return self._opened

    async def generate(
        self,
        request: GenerationRequest,
        *,
        timeout_s: float | None = None,
        on_retry: OnRetry = ignore_retry,
    ) -> AsyncGenerator[GenerationEvent]:
        """Streams the continuation of a prompt, each token once, from whichever orchestrator.

        Args:
            request: prompt and parameters.
            timeout_s: deadline of the whole call, seconds; None waits as long as it takes.
            on_retry: told of each loss after which the call is made again.

        Yields:
            One Started, then Tokens (and each PromptToken before them and Steps among them, if
            asked for), then one Finished.

        Raises:
            ForethoughtError: the leaf that matches the server's reason; `RemoteError` otherwise.
            TierProtocolError: the server says what this client does not understand.
        """
        batches = self.generate_batches(request, timeout_s=timeout_s, on_retry=on_retry)
        async with aclosing(batches):
            async for events in batches:
                for event in events:
                    yield event

    def generate_batches(
        self,
        request: GenerationRequest,
        *,
        timeout_s: float | None = None,
        on_retry: OnRetry = ignore_retry,
    ) -> AsyncGenerator[list[GenerationEvent]]:
        """The events of `generate`, those in one list that came together: of a round, say."""
        progress = Progress(
            request,
            is_replicated=len(self.addresses) > 1,
            waits_until_loaded=self._retry.waits_until_loaded,
        )
        return resuming(self._attempt, progress, self._retry, timeout_s, on_retry)

    async def _attempt(
        self, request: GenerationRequest, timeout_s: float | None
    ) -> AsyncGenerator[list[GenerationEvent]]:
        """One call, to the orchestrator that is believed to be there."""
        chosen = self._current
        call = self._stubs[chosen].Generate(request_to_proto(request), timeout=timeout_s)
        try:
            async for response in call:
                yield list(events_from_proto(response))
        except grpc.aio.AioRpcError as rpc_error:
            error = error_from_rpc(rpc_error)
            self._leave(chosen, error)
            raise error from rpc_error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._is_closed or (task is not None and task.cancelling()):
                raise
            raise ClientClosedError("the client was closed during the call") from None
        finally:
            call.cancel()

    async def sessions(
        self, tenant: str = "", *, page_size: int = 100, timeout_s: float | None = 10
    ) -> AsyncGenerator[SessionInfo]:
        """The stored sessions of a tenant, newest first; `timeout_s` is for each page."""
        page_token = ""
        while True:
            with refusing_misfits("request"):
                request = pb.ListSessionsRequest(
                    tenant=tenant, page_size=page_size, page_token=page_token
                )
            page = await self._page(request, timeout_s)
            for session in page.sessions:
                yield session_from_proto(session)
            page_token = page.next_page_token
            if not page_token:
                return

    async def _page(
        self, request: pb.ListSessionsRequest, timeout_s: float | None
    ) -> pb.ListSessionsResponse:
        return await self._call(lambda stub: stub.ListSessions(request, timeout=timeout_s))

    async def get_session(
        self, session_id: str, tenant: str = "", *, timeout_s: float | None = 10
    ) -> SessionContent:
        """A stored session with its tokens."""
        with refusing_misfits("request"):
            request = pb.GetSessionRequest(session_id=session_id, tenant=tenant)
        return content_from_proto(
            await self._call(lambda stub: stub.GetSession(request, timeout=timeout_s))
        )

    async def cancel_session(
        self, session_id: str, tenant: str = "", *, timeout_s: float | None = 10
    ) -> SessionInfo:
        """Ends a session's turn where it is; whoever generates it gets LeaseLostError."""
        with refusing_misfits("request"):
            request = pb.CancelSessionRequest(session_id=session_id, tenant=tenant)
        response = await self._call(lambda stub: stub.CancelSession(request, timeout=timeout_s))
        return session_from_proto(response.session)

    async def delete_session(
        self, session_id: str, tenant: str = "", *, timeout_s: float | None = 10
    ) -> None:
        """Forgets a session; if it is being generated, that ends with LeaseLostError."""
        with refusing_misfits("request"):
            request = pb.DeleteSessionRequest(session_id=session_id, tenant=tenant)
        await self._call(lambda stub: stub.DeleteSession(request, timeout=timeout_s))

    async def describe(self, *, timeout_s: float | None = 10) -> DeploymentInfo:
        """What the deployment serves, and what it chooses where a request is silent."""
        request = pb.GenerationServiceGetModelInfoRequest()
        return deployment_from_proto(
            await self._call(lambda stub: stub.GetModelInfo(request, timeout=timeout_s))
        )

    async def tokenize(
        self, text: str | Sequence[ChatMessage], *, timeout_s: float | None = 10
    ) -> list[int]:
        """Token ids of a text, or of a conversation through the model's chat template."""
        return list((await self.tokenize_with_texts(text, timeout_s=timeout_s)).token_ids)

    async def tokenize_with_texts(
        self,
        text: str | Sequence[ChatMessage],
        *,
        omits_special_tokens: bool = False,
        timeout_s: float | None = 10,
    ) -> TokenizedText:
        """The same with the text of each token.

        Args:
            text: or a conversation.
            omits_special_tokens: of a text, those that the model expects around it.
            timeout_s: for the answer.
        """
        with refusing_misfits("request"):
            request = pb.TokenizeRequest(omits_special_tokens=omits_special_tokens)
            if isinstance(text, str):
                request.text = text
            else:
                request.conversation.CopyFrom(conversation_to_proto(text))
        response = await self._call(lambda stub: stub.Tokenize(request, timeout=timeout_s))
        return TokenizedText(tuple(response.token_ids), tuple(response.texts))

    async def detokenize(self, token_ids: Sequence[int], *, timeout_s: float | None = 10) -> str:
        """The text of token ids, without special tokens."""
        with refusing_misfits("request"):
            request = pb.DetokenizeRequest(token_ids=token_ids)
        response = await self._call(lambda stub: stub.Detokenize(request, timeout=timeout_s))
        return str(response.text)

    async def _call(self, send: Callable[[GenerationServiceStub], Awaitable[Response]]) -> Response:
        """Asks each orchestrator at most once, until one answers."""
        for num_left in reversed(range(len(self.addresses))):
            chosen = self._current
            try:
                return await send(self._stubs[chosen])
            except grpc.aio.AioRpcError as rpc_error:
                error = error_from_rpc(rpc_error)
                self._leave(chosen, error)
                if not (num_left and is_lost(error)):
                    raise error from rpc_error
        raise AssertionError("the last one answers or raises")

    def _leave(self, chosen: int, error: ForethoughtError) -> None:
        """Turns to the next orchestrator, unless another call has done so already."""
        if is_lost(error) and chosen == self._current:
            self._current = (chosen + 1) % len(self.addresses)
