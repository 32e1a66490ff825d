"""`python -m target_service`: runs the target tier until SIGTERM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forethought.rpc.server import ServerOptions, run_process, serve_loaded
from forethought.v1.target_pb2 import DESCRIPTOR
from forethought.v1.target_pb2_grpc import add_TargetServiceServicer_to_server
from target_service.settings import TargetSettings

if TYPE_CHECKING:
    from target_service.servicer import TargetServicer

SERVICE_NAME = DESCRIPTOR.services_by_name["TargetService"].full_name


async def serve(settings: TargetSettings) -> None:
    """Loads the model and serves it."""
    options = ServerOptions(settings.listen, (SERVICE_NAME,), settings.drain_grace_s)
    await serve_loaded(options, lambda: load(settings), add_TargetServiceServicer_to_server)


def load(settings: TargetSettings) -> TargetServicer:
    """The servicer of a model that is loaded and warm."""
    # torch takes seconds to import; the server listens meanwhile.
    from forethought.engine.warm_up import load_for_tier  # noqa: PLC0415
    from target_service.servicer import TargetServicer  # noqa: PLC0415

    loaded = load_for_tier(settings)
    return TargetServicer(loaded.model, loaded.info, loaded.limits)


if __name__ == "__main__":
    run_process(serve(TargetSettings.from_command_line()))
