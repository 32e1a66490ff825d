"""GenerationService over gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import structlog

from forethought.errors import InvalidArgumentError, OverloadedError
from forethought.generation import ChatMessage
from forethought.rpc.enums import MODE_TO_PROTO
from forethought.rpc.generation_codec import (
    conversation_from_proto,
    request_from_proto,
    response_to_proto,
)
from forethought.rpc.tier_codec import model_to_proto
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import GenerationServiceServicer
from orchestrator.economy import Economy
from orchestrator.generator import Generation, Tiers
from orchestrator.plan import (
    MAX_REQUEST_ID_CHARS,
    Deployment,
    GenerationPlan,
    encode_prompt,
    plan_generation,
)
from orchestrator.policy import Experience
from orchestrator.run_ahead import run_ahead

MAX_ROUNDS_AHEAD = 16
"""Rounds that may wait for a client that reads slowly."""

MAX_INLINE_BYTES = 1000
"""Requests up to this size are tokenized in the event loop: it takes 0.2 ms at most, and a thread
would delay the first token by 0.1 ms. Longer ones would hold up everybody else's tokens."""


class GenerationServicer(GenerationServiceServicer):
    """Serves one deployment."""

    def __init__(self, deployment: Deployment, tiers: Tiers, max_requests: int) -> None:
        self._deployment = deployment
        self._tiers = tiers
        self._max_requests = max_requests
        self._experience = Experience(
            Economy(deployment.default_num_speculative_tokens, deployment.target.pass_costs)
        )
        self._num_requests = 0

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Streams the continuation of a prompt."""
        if self._num_requests >= self._max_requests:
            raise OverloadedError(
                f"{self._max_requests} requests are under way, the most this orchestrator takes"
            )
        # Each call runs in a task of its own, and so do the logs of its tiers' streams.
        if request.request_id:
            name = request.request_id[:MAX_REQUEST_ID_CHARS]
            structlog.contextvars.bind_contextvars(request_id=name)
        self._num_requests += 1
        try:
            plan = await self._plan(request)
            generation = Generation(
                plan, self._deployment, self._tiers, self._experience, context.time_remaining()
            )
            structlog.contextvars.bind_contextvars(session_id=generation.session_id)
            async with aclosing(run_ahead(generation.events(), MAX_ROUNDS_AHEAD)) as groups:
                async for events in groups:
                    yield response_to_proto(events)
        finally:
            self._num_requests -= 1

    async def Tokenize(
        self, request: pb.TokenizeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.TokenizeResponse:
        """Text or a conversation to token ids."""
        return await asyncio.to_thread(self._tokenized, request)

    async def Detokenize(
        self, request: pb.DetokenizeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DetokenizeResponse:
        """Token ids to text."""
        return await asyncio.to_thread(self._detokenized, request)

    async def GetModelInfo(
        self,
        request: pb.GenerationServiceGetModelInfoRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.GenerationServiceGetModelInfoResponse:
        """The deployment as clients see it."""
        return pb.GenerationServiceGetModelInfoResponse(
            target=model_to_proto(self._deployment.target),
            default_num_speculative_tokens=self._deployment.default_num_speculative_tokens,
            max_num_speculative_tokens=self._deployment.max_num_speculative_tokens,
            policy=self._deployment.policy.value,
            default_verification_mode=MODE_TO_PROTO[self._deployment.default_mode],
        )

    async def _plan(self, request: pb.GenerateRequest) -> GenerationPlan:
        """The plan for a request, made in a thread unless it is small."""

        def plan() -> GenerationPlan:
            return plan_generation(request_from_proto(request), self._deployment)

        if request.ByteSize() <= MAX_INLINE_BYTES:
            return plan()
        return await asyncio.to_thread(plan)

    def _tokenized(self, request: pb.TokenizeRequest) -> pb.TokenizeResponse:
        prompt: str | tuple[ChatMessage, ...]
        match request.WhichOneof("input"):
            case "text":
                prompt = request.text
            case "conversation":
                prompt = conversation_from_proto(request.conversation)
            case _:
                raise InvalidArgumentError({"input": "must be text or a conversation"})
        token_ids = encode_prompt(prompt, self._deployment)
        token_text = self._deployment.tokenizer.token_text
        return pb.TokenizeResponse(
            token_ids=token_ids, texts=[token_text(token_id) for token_id in token_ids]
        )

    def _detokenized(self, request: pb.DetokenizeRequest) -> pb.DetokenizeResponse:
        token_ids = request.token_ids
        vocab_size = self._deployment.target.vocab_size
        if token_ids and max(token_ids) >= vocab_size:
            raise InvalidArgumentError(
                {"token_ids": f"must be below the vocabulary's size of {vocab_size}"}
            )
        return pb.DetokenizeResponse(text=self._deployment.tokenizer.decode(token_ids))
