"""A wire within the process: a tier's own servicer behind what looks like the tier's stub.

Every message is serialised and parsed again, as over gRPC; what gRPC itself takes, most of a round
of a tiny model, is left out. What a round draws depends on its seed and number alone, so that both
wires give the same samples: `test_wires.py` compares them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from draft_service.proposer import Proposer
from draft_service.servicer import DraftServicer
from forethought.v1 import draft_pb2, target_pb2
from target_service.servicer import TargetServicer

Serve = Callable[[AsyncIterator[Any], Any], AsyncIterator[Any]]
Parse = Callable[[bytes], Any]


class DraftWire:
    """Stands in for a `DraftServiceStub`; its streams have no deadline."""

    def __init__(self, proposer: Proposer) -> None:
        self._servicer = DraftServicer(proposer)

    def Speculate(self, timeout: float | None = None, metadata: Any = ()) -> "WireCall":  # noqa: N802 - a method of gRPC
        return WireCall(
            self._servicer.Speculate,
            draft_pb2.SpeculateRequest.FromString,
            draft_pb2.SpeculateResponse.FromString,
        )


class TargetWire:
    """Stands in for a `TargetServiceStub`; its streams have no deadline."""

    def __init__(self, servicer: TargetServicer) -> None:
        self._servicer = servicer

    def Verify(self, timeout: float | None = None, metadata: Any = ()) -> "WireCall":  # noqa: N802 - a method of gRPC
        return WireCall(
            self._servicer.Verify,
            target_pb2.VerifyRequest.FromString,
            target_pb2.VerifyResponse.FromString,
        )


class WireCall:
    """What a `TierStream` needs of a `grpc.aio.StreamStreamCall`.

    Args:
        serve: a servicer's method.
        parse_request: makes a message of what it is sent.
        parse_response: makes a message of what it answers.
    """

    def __init__(self, serve: Serve, parse_request: Parse, parse_response: Parse) -> None:
        self._parse_request = parse_request
        self._parse_response = parse_response
        self._requests: asyncio.Queue[bytes] = asyncio.Queue()
        self._responses: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self._serving = asyncio.ensure_future(self._serve(serve))

    async def write(self, message: Any) -> None:
        """Sends a request."""
        self._requests.put_nowait(message.SerializeToString())

    async def read(self) -> Any:
        """The next answer; raises what the servicer raised."""
        response = await self._responses.get()
        if isinstance(response, Exception):
            raise response
        return self._parse_response(response)

    def cancel(self) -> None:
        """Ends the stream, so that the servicer frees what it holds for it."""
        self._serving.cancel()

    async def _serve(self, serve: Serve) -> None:
        try:
            async for response in serve(self._received(), None):
                self._responses.put_nowait(response.SerializeToString())
        except Exception as error:  # noqa: BLE001 - of whatever kind: who reads is told
            self._responses.put_nowait(error)

    async def _received(self) -> AsyncIterator[Any]:
        while True:
            yield self._parse_request(await self._requests.get())
