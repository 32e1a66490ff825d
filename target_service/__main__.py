"""`python -m target_service`: runs the target tier until SIGTERM."""

from __future__ import annotations

import signal

from forethought.extras import require

if __name__ == "__main__":  # an interrupt amid the imports ends the process without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    require("engine")

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from forethought.observability.series import Source
from forethought.rpc.serving.server import LateServices, run_process, serve_loaded
from forethought.rpc.serving.server_options import server_options
from forethought.runtime.openmp import spin_briefly
from forethought.v1.target_pb2 import DESCRIPTOR
from forethought.v1.target_pb2_grpc import add_TargetServiceServicer_to_server
from target_service.settings import TargetSettings

if TYPE_CHECKING:
    from target_service.servicer import TargetServicer

SERVICE_NAME = DESCRIPTOR.services_by_name["TargetService"].full_name


async def serve(settings: TargetSettings) -> None:
    """Loads the model and serves it."""
    if settings.store_url is not None:
        from forethought.store.start_check import require_block_store  # noqa: PLC0415 - needs redis

        await require_block_store(settings.store_url, settings.kv_store)
    options = server_options(
        settings, (SERVICE_NAME,), unread_timeout_s=settings.session_idle_timeout_s
    )
    async with AsyncExitStack() as cleanup:

        def add(servicer: TargetServicer, services: LateServices) -> None:
            # Not in the thread that loads: the archive belongs to the event loop.
            from forethought.kv_archive import attach_archive  # noqa: PLC0415

            archive = attach_archive(servicer.engine, servicer.info, settings)
            if archive is not None:
                cleanup.push_async_callback(archive.close)
            add_TargetServiceServicer_to_server(servicer, services)
            services.sources.append(Source(servicer.info.name, servicer.readings))

        await serve_loaded(options, lambda: load(settings), add)


def load(settings: TargetSettings) -> TargetServicer:
    """The servicer of a model that is loaded and warm."""
    # torch takes seconds to import; the server listens meanwhile.
    spin_briefly()
    from forethought.engine.loading.warm_up import load_for_tier  # noqa: PLC0415
    from target_service.servicer import TargetServicer  # noqa: PLC0415

    loaded = load_for_tier(settings)
    return TargetServicer(
        loaded.model,
        loaded.info,
        loaded.limits,
        idle_timeout_s=settings.session_idle_timeout_s,
    )


if __name__ == "__main__":
    run_process(serve(TargetSettings.from_command_line()))
