"""`python -m target_service`: runs the target tier until SIGTERM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forethought.models.reference import resolve
from forethought.models.tokenizer import load_tokenizer
from forethought.rpc.server import (
    LateServices,
    ServerOptions,
    load_in_thread,
    run_process,
    run_server,
)
from forethought.v1.target_pb2 import DESCRIPTOR
from forethought.v1.target_pb2_grpc import add_TargetServiceServicer_to_server
from target_service.settings import TargetSettings

if TYPE_CHECKING:
    from target_service.servicer import TargetServicer

SERVICE_NAME = DESCRIPTOR.services_by_name["TargetService"].full_name


async def serve(settings: TargetSettings) -> None:
    """Loads the model and serves it."""
    servicers: list[TargetServicer] = []

    async def add_services(services: LateServices) -> None:
        servicer = await load_in_thread(lambda: load(settings))
        servicers.append(servicer)
        add_TargetServiceServicer_to_server(servicer, services)

    options = ServerOptions(settings.listen, (SERVICE_NAME,), settings.drain_grace_s)
    try:
        await run_server(options, add_services)
    finally:
        for servicer in servicers:
            await servicer.close()


def load(settings: TargetSettings) -> TargetServicer:
    """The servicer of a model that is loaded and warm."""
    files = resolve(settings.model)
    # torch takes seconds to import; the server listens meanwhile.
    from forethought.engine.warm_up import (  # noqa: PLC0415
        describe,
        engine_limits,
        load_warm,
    )
    from target_service.servicer import TargetServicer  # noqa: PLC0415

    model = load_warm(files, settings)
    tokenizer = load_tokenizer(files)
    info = describe(model, files, tokenizer, settings.max_num_speculative_tokens)
    return TargetServicer(model, info, engine_limits(model, settings))


if __name__ == "__main__":
    run_process(serve(TargetSettings.from_command_line()))
