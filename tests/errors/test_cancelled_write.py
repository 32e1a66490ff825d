"""A call whose first write is cut off still ends with its status."""

import asyncio
import gc

import grpc

from forethought.errors import SessionIdleError
from forethought.rpc.connections.channels import open_channel
from tests.errors.refusals import Refusal, read_refusal, read_to_end
from tests.stack import running_server
from tests.waiting import until


async def test_a_stream_whose_first_response_is_not_taken_in_time_ends_with_that_reason():
    async def answer(raw, context):
        yield raw

    def add(services):
        handlers = {"Answer": grpc.unary_stream_rpc_method_handler(answer, bytes, bytes)}
        services.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("a.Service", handlers),)
        )

    gc.disable()  # collecting a call that was left ends it, too
    try:
        async with (
            running_server(add, unread_timeout_s=0) as server,
            open_channel(f"127.0.0.1:{server.port}") as channel,
        ):

            async def refused() -> Refusal | None:
                call = channel.unary_stream("/a.Service/Answer")(b"")
                try:
                    await asyncio.wait_for(read_to_end(call), 60)
                except grpc.aio.AioRpcError as error:
                    return read_refusal(error)
                return None  # it was taken before its time was up, which is none

            refusal = await until(refused)
        assert refusal.reason == SessionIdleError.reason
    finally:
        gc.enable()
