"""Requests for a model that is served."""

from dataclasses import dataclass

from starlette.requests import Request

from gateway.upstream import Upstream
from gateway.web.body import BodyT, OtherFields, parse, read_json


@dataclass(frozen=True, slots=True)
class BodyReader:
    """Reads them, and refuses what is wrong with them."""

    upstream: Upstream
    max_body_bytes: int

    async def read(self, request: Request, kind: type[BodyT], others: OtherFields) -> BodyT:
        """What is asked for.

        Raises:
            HttpError: a field is wrong, or another model is asked for.
            ForethoughtError: what is served is not known, or not to be told to the caller.
        """
        body = parse(await read_json(request, self.max_body_bytes), kind, others)
        body.check()
        await self.upstream.name_of(body.model)
        return body


class Endpoints:
    """Routes that ask the service behind.

    Args:
        reader: of bodies for its model.
    """

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self._upstream = reader.upstream
        self._client = reader.upstream.client
