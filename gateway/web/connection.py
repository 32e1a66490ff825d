"""What a connection may cost before it has asked for anything.

The parser keeps the head of a request until it is whole, and copies what it has for each piece that
arrives; uvicorn waits for the rest for ever. So a head has a largest size, and a head and a body
have a time in which they must have come.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from gateway.web.errors import HttpError

MAX_HEAD_BYTES = 2**16
HEAD_S = 20.0
"""For a head, and for the first byte of a connection."""
BODY_S = 120.0


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's, with bounds. A request that passes one is refused, and its connection closed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._num_head_bytes = 0
        self._is_in_head = True
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_within(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_within(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._is_in_head  # else a body ends here, before the next head begins
        super().data_received(data)
        if self._is_in_head and was_in_head:
            self._num_head_bytes += len(data)
            if self._num_head_bytes > MAX_HEAD_BYTES:
                text = f"the head of a request has at most {MAX_HEAD_BYTES} bytes"
                self._refuse(HttpError(431, text, code="head_too_large"))
        elif not self._is_in_head and self._deadline is None and not self._is_answering:
            self._expect_within(HEAD_S)  # line ends alone begin no head, but end uvicorn's own wait

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._num_head_bytes = True, 0
        self._expect_within(HEAD_S)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._expect_within(BODY_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._expect_within(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._deadline is not None:  # what has begun to come was not read while this was written
            self._expect_within(HEAD_S if self._is_in_head else BODY_S)

    def _expect_within(self, seconds: float | None) -> None:
        """Has what is being received end within this time; None for what has ended."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        # Of requests in a row the next one is read, if at all, when the one before is answered:
        # its time begins then.
        if self.pipeline or (self._is_in_head and self._is_answering):
            return
        text = "the request did not come in time"
        self._refuse(HttpError(408, text, code="request_timeout"))

    def _refuse(self, error: HttpError) -> None:
        if self.transport.is_closing():
            return
        began_to_answer = self._is_answering if self._is_in_head else self.cycle.response_started
        if not began_to_answer:
            body = error.body()
            lines = (
                b"content-type: application/json\r\n",
                b"content-length: %d\r\n" % len(body),
                b"connection: close\r\n\r\n",
            )
            self.transport.write(b"".join((STATUS_LINE[error.status], *lines, body)))
        self.transport.close()

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete
