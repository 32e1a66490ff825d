"""`python -m target_service`: runs the target tier until SIGTERM."""

from forethought.engine.session_table import SessionTable
from forethought.engine.worker import EngineWorker
from forethought.models.reference import resolve
from forethought.models.tokenizer import load_tokenizer
from forethought.rpc.server import LateServices, ServerOptions, run_process, run_server
from forethought.v1.target_pb2 import DESCRIPTOR
from forethought.v1.target_pb2_grpc import (
    TargetServiceServicer,
    add_TargetServiceServicer_to_server,
)
from target_service.settings import TargetSettings

SERVICE_NAME = DESCRIPTOR.services_by_name["TargetService"].full_name


async def serve(settings: TargetSettings) -> None:
    """Loads the model and serves it."""
    worker = EngineWorker()

    def load() -> TargetServiceServicer:
        files = resolve(settings.model)
        # torch takes seconds to import; the server listens meanwhile.
        from forethought.engine.warm_up import describe, load_warm  # noqa: PLC0415
        from target_service.servicer import TargetServicer  # noqa: PLC0415

        model = load_warm(files, settings)
        tokenizer = load_tokenizer(files)
        info = describe(model, files, tokenizer, settings.max_num_speculative_tokens)
        return TargetServicer(model, info, SessionTable(worker, settings.max_sessions))

    async def add_services(services: LateServices) -> None:
        servicer, _ = await worker.run(load)
        add_TargetServiceServicer_to_server(servicer, services)

    options = ServerOptions(settings.listen, (SERVICE_NAME,), settings.drain_grace_s)
    try:
        await run_server(options, add_services)
    finally:
        await worker.close()


if __name__ == "__main__":
    run_process(serve(TargetSettings.from_command_line()))
