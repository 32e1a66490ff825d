"""From requests to answers: chat, completions and models."""

import time
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from forethought.errors import ForethoughtError
from forethought.generation import GenerationRequest
from gateway.callers import caller_of
from gateway.openai import chat, completions
from gateway.openai.choices import Choice, ChoiceEvent, collect, generate
from gateway.openai.models import model_list
from gateway.openai.sampling import SamplingFields
from gateway.openai.stream import Head
from gateway.upstream import Upstream
from gateway.web.body import OtherFields, parse, read_json
from gateway.web.errors import FieldName, from_forethought
from gateway.web.request_id import request_id_of
from gateway.web.streaming import Writer, begin_stream, until_gone

FieldsT = TypeVar("FieldsT", bound=SamplingFields)


class OpenAIRoutes:
    """The endpoints.

    Args:
        upstream: who generates.
        max_body_bytes: of a request.
    """

    def __init__(self, upstream: Upstream, max_body_bytes: int) -> None:
        self._upstream = upstream
        self._max_body_bytes = max_body_bytes

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        body = await self._body(request, chat.ChatRequest, chat.OTHERS)
        head = await self._head(request, body, "chatcmpl", chat.OBJECT)
        requests = body.requests(request_id_of(request), caller_of(request).tenant)
        if body.stream:
            chunks = msgspec.structs.replace(head, object=f"{chat.OBJECT}.chunk")
            return await self._stream(
                request, requests, chat.ChatWriter(chunks, body), body.name_of
            )
        choices = await self._collect(request, requests, body.name_of)
        return as_json(chat.completion(head, body, choices))

    async def complete(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        body = await self._body(request, completions.CompletionRequest, completions.OTHERS)
        head = await self._head(request, body, "cmpl", completions.OBJECT)
        requests = body.requests(request_id_of(request), caller_of(request).tenant)
        echo = completions.Echo()
        if body.stream:
            writer = completions.CompletionWriter(head, body, echo)
            return await self._stream(request, requests, writer, body.name_of)
        choices = await self._collect(request, requests, body.name_of)
        return as_json(completions.completion(head, body, choices, echo))

    async def models(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /v1/models`."""
        return as_json(await model_list(self._upstream))

    async def _body(self, request: Request, kind: type[FieldsT], others: OtherFields) -> FieldsT:
        body = parse(await read_json(request, self._max_body_bytes), kind, others)
        body.check()
        return body

    async def _head(self, request: Request, body: SamplingFields, prefix: str, kind: str) -> Head:
        model = await self._upstream.name_of(body.model)
        info = await self._upstream.described()
        return Head(
            id=f"{prefix}-{request_id_of(request)}",
            object=kind,
            created=int(time.time()),
            model=model,
            system_fingerprint=f"fp_{info.target.model_fingerprint}",
        )

    async def _collect(
        self, request: Request, requests: Sequence[GenerationRequest], name_of: FieldName
    ) -> list[Choice]:
        work = collect(self._upstream.client, requests)
        try:
            return await until_gone(request.receive, work)
        except ForethoughtError as error:
            raise from_forethought(error, name_of) from error

    async def _stream(
        self,
        request: Request,
        requests: Sequence[GenerationRequest],
        writer: Writer[ChoiceEvent],
        name_of: FieldName,
    ) -> Response:
        events = generate(self._upstream.client, requests)
        try:
            return await begin_stream(request.receive, events, writer)
        except ForethoughtError as error:
            raise from_forethought(error, name_of) from error


def as_json(content: msgspec.Struct) -> Response:
    """An answer."""
    return Response(msgspec.json.encode(content), media_type="application/json")
