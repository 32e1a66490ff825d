"""`/v1/responses`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from forethought.errors import ForethoughtError
from forethought.generation import (
    ChatMessage,
    FollowUp,
    GenerationEvent,
    GenerationRequest,
    Resume,
    SessionContent,
    SessionStatus,
)
from gateway.reading import Endpoints
from gateway.responses.events import ResponseWriter, TextDelta
from gateway.responses.kept import (
    Kept,
    check_instructions,
    find,
    kept_of,
    note_of,
    session_id,
)
from gateway.responses.objects import Deleted, ResponseObject, Status, blank, told
from gateway.responses.request import OTHERS, ResponseRequest
from gateway.web.errors import invalid, naming
from gateway.web.operations import Body, Operation, Parameter
from gateway.web.request_id import request_id_of
from gateway.web.responses import as_json
from gateway.web.streaming import EventStream, until_gone

_BOOLEANS = {"true": True, "false": False}


class ResponsesRoutes(Endpoints):
    """Responses on stored sessions."""

    def operations(self) -> list[Operation]:
        """All of them, as they are routed and described."""
        one = "/v1/responses/{response_id}"
        return [
            Operation(
                "POST",
                "/v1/responses",
                self.create,
                "Answer, and keep the answer",
                Body(ResponseRequest, OTHERS),
                ResponseObject,
                TextDelta,
            ),
            Operation(
                "GET",
                one,
                self.retrieve,
                "A response; as a stream it is continued where it broke off",
                answer=ResponseObject,
                event=TextDelta,
                query=(
                    Parameter("stream", {"type": "boolean"}, "its events, those to come too"),
                    Parameter(
                        "starting_after",
                        {"type": "integer", "minimum": -1},
                        "number of the last event that the client has",
                    ),
                ),
            ),
            Operation("DELETE", one, self.delete, "Forget a response", answer=Deleted),
            Operation(
                "POST", f"{one}/cancel", self.cancel, "End a response", answer=ResponseObject
            ),
        ]

    async def create(self, request: Request) -> Response:
        """`POST /v1/responses`."""
        body = await self._reader.read(request, ResponseRequest, OTHERS)
        kept = kept_of(body, await self._upstream.name_of(body.model))
        asked = GenerationRequest(
            await self._prompt(body),
            body.generation_params(),
            request_id_of(request),
            note=note_of(kept),
        )
        batches = self._client.generate_batches(asked)
        if not body.store:
            batches = self._forgotten(batches)
        writer = ResponseWriter(kept)
        if body.stream:
            return EventStream(batches, writer, body.name_of)
        with naming(body.name_of):
            return as_json(await until_gone(request.receive, _whole(batches, writer)))

    async def retrieve(self, request: Request) -> Response:
        """`GET /v1/responses/{response_id}`."""
        name = request.path_params["response_id"]
        streams, after = _wanted(request)
        content, kept = await find(self._client, name)
        status = content.session.status
        if not streams and status is not SessionStatus.FINISHED:
            return as_json(await self._unfinished(content, kept))
        asked = GenerationRequest(Resume(session_id(name)), request_id=request_id_of(request))
        batches = self._client.generate_batches(asked)
        writer = ResponseWriter(kept, after=after, tells_metrics=False)
        if streams:
            return EventStream(batches, writer)
        return as_json(await until_gone(request.receive, _whole(batches, writer)))

    async def delete(self, request: Request) -> Response:
        """`DELETE /v1/responses/{response_id}`."""
        name = request.path_params["response_id"]
        await find(self._client, name)
        await self._client.delete_session(session_id(name))
        return as_json(Deleted(name))

    async def cancel(self, request: Request) -> Response:
        """`POST /v1/responses/{response_id}/cancel`."""
        name = request.path_params["response_id"]
        await find(self._client, name)
        await self._client.cancel_session(session_id(name))
        return await self.retrieve(request)

    async def _prompt(self, body: ResponseRequest) -> FollowUp | tuple[ChatMessage, ...]:
        if body.previous_response_id is None:
            said = body.instructions
            return (*(() if said is None else (ChatMessage("system", said),)), *body.messages)
        field = "previous_response_id"
        content, before = await find(self._client, body.previous_response_id, field)
        if content.session.status is not SessionStatus.FINISHED:
            raise invalid(field, f"that response is {_status(content.session.status)}")
        check_instructions(body, before)
        return FollowUp(content.session.session_id, body.messages, branches=True)

    async def _unfinished(self, content: SessionContent, kept: Kept) -> ResponseObject:
        """What there is of a response that is under way, was broken off or cancelled."""
        status = _status(content.session.status)
        response = blank(content.session.session_id, kept, is_stored=True)
        text = await self._client.detokenize(content.output_token_ids)
        output = [told(response, text, status)] if text else []
        return msgspec.structs.replace(response, status=status, output=output)

    async def _forgotten(
        self, batches: AsyncGenerator[list[GenerationEvent]]
    ) -> AsyncGenerator[list[GenerationEvent]]:
        """The same events, of a session that is gone with the last one."""
        session = ""
        try:
            async with aclosing(batches):
                async for events in batches:
                    for event in events:
                        session = session or getattr(event, "session_id", "")
                    yield events
        finally:
            if session:
                with suppress(ForethoughtError):
                    await self._client.delete_session(session)


async def _whole(
    batches: AsyncGenerator[list[GenerationEvent]], writer: ResponseWriter
) -> ResponseObject | None:
    async with aclosing(batches):
        async for events in batches:
            for event in events:
                writer.on(event)
    return writer.response


def _status(status: SessionStatus) -> Status:
    return "cancelled" if status is SessionStatus.CANCELLED else "in_progress"


def _wanted(request: Request) -> tuple[bool, int]:
    """Whether a stream is wanted, and behind which event it begins. Raises HttpError."""
    for name in request.query_params:
        if name not in {"stream", "starting_after", "include_obfuscation", "include"}:
            raise invalid(name, "there is no such parameter", code="unknown_parameter")
    streams = _BOOLEANS.get(request.query_params.get("stream", "false").lower())
    if streams is None:
        raise invalid("stream", "must be true or false")
    given = request.query_params.get("starting_after", "-1")
    if not given.removeprefix("-").isdecimal() or int(given) < -1:
        raise invalid("starting_after", "must be the number of an event")
    if "starting_after" in request.query_params and not streams:
        raise invalid("starting_after", "is for streams: set stream to true")
    return streams, int(given)
