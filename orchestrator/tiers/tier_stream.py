"""One session's stream to a tier, seen from the orchestrator."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from forethought.errors import ForethoughtError, TierProtocolError, TierUnavailableError
from forethought.rpc.status import error_from_rpc


class StreamEndedError(TierUnavailableError):
    """A stream had ended before a request was sent; why is not known."""


class TierStream:
    """Sends requests and receives answers in order.

    Giving up waiting does not cancel the stream, as cancelling grpc.aio's own read would: the
    answer stays due, and `receive` takes it up again.
    """

    def __init__(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        self._call = call
        self._reading: asyncio.Task[Any] | None = None

    async def send(self, message: Any, timeout_s: float | None = None) -> None:
        """Sends a request.

        Raises:
            TierUnavailableError: the tier did not take it in time; the stream is over.
            ForethoughtError: the tier ended the stream; what it said.
        """
        try:
            await self._write(message, timeout_s)
        except TimeoutError:
            raise TierUnavailableError("the tier takes no requests") from None
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INTERNAL:
                # What grpc.aio says of a write to a stream whose end it has not noticed yet. The
                # true status is lost with it; opening the stream again brings it out.
                raise StreamEndedError("the stream ended while a request was sent") from error
            raise error_from_rpc(error) from error
        except asyncio.InvalidStateError:
            raise await self._ending() from None

    async def _write(self, message: Any, timeout_s: float | None) -> None:
        if timeout_s is None:
            # A timer costs about as much as writing does.
            await self._call.write(message)
            return
        async with asyncio.timeout(timeout_s):
            await self._call.write(message)

    async def receive(self, timeout_s: float | None = None) -> Any:
        """The next answer.

        Raises:
            TimeoutError: there was none in time; it may still come.
            TierProtocolError: it cannot be read.
            ForethoughtError: the tier ended the stream; what it said.
        """
        try:
            message = await self._read(timeout_s)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # gRPC cancels those who wait for a call that ends with its channel: no wish of ours.
            raise TierUnavailableError("the connection to the tier was closed") from None
        if message is grpc.aio.EOF:
            raise await self._ending()
        if message is None:
            # What gRPC makes of bytes that it cannot deserialise.
            raise TierProtocolError("the tier answered with what is no message")
        return message

    async def _read(self, timeout_s: float | None) -> Any:
        if timeout_s is None and self._reading is None:
            # Who waits as long as it takes needs no task of its own to wait in.
            return await self._call.read()
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._call.read())
        done, _ = await asyncio.wait((self._reading,), timeout=timeout_s)
        if not done:
            raise TimeoutError
        reading, self._reading = self._reading, None
        return reading.result()

    def close(self) -> None:
        """Ends the stream, so that the tier frees what it holds for it."""
        self._call.cancel()
        if self._reading is not None:
            self._reading.cancel()

    async def _ending(self) -> ForethoughtError:
        """Why the stream is over although nothing was wrong with the last operation."""
        code = await self._call.code()
        if code is grpc.StatusCode.OK:
            return TierProtocolError("the tier ended the stream")
        details = await self._call.details()
        metadata = await self._call.trailing_metadata()
        initial = await self._call.initial_metadata()
        return error_from_rpc(grpc.aio.AioRpcError(code, initial, metadata, details))
